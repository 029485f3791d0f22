"""The documents below `/.well-known/`: readable from any web page, and by HEAD as well."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse

from authflows.inbound.oauth import metadata, server_metadata
from authflows.views.cors import any_origin

# Short: an admin's switches show in them.
_CACHE = "public, max-age=60"


@any_origin("GET", "HEAD")
def protected_resource(request: HttpRequest, path: str) -> JsonResponse:
    """RFC 9728: the document of the MCP URL, or of the API, at `path`."""
    document = metadata.protected_resource(path)
    if document is None:
        return _nothing()
    return JsonResponse(document, headers={"Cache-Control": _CACHE})


@any_origin("GET", "HEAD")
def authorization_server(request: HttpRequest) -> JsonResponse:
    """RFC 8414, and the same under the name that OpenID Connect gives it."""
    return JsonResponse(server_metadata.authorization_server(), headers={"Cache-Control": _CACHE})


@any_origin("GET", "HEAD")
def unknown(request: HttpRequest, path: str) -> JsonResponse:
    """Every other well-known path: clients that guess must learn that there is nothing, from any origin."""
    return _nothing()


def _nothing() -> JsonResponse:
    return JsonResponse({"error": "not_found", "error_description": "There is no such document here."}, status=404)
