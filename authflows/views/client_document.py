"""Our metadata documents as a client, and our public keys: read by providers, from anywhere."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse

from authflows.outbound import client_document, client_keys
from authflows.views.cors import any_origin

# An hour: a provider may ask again at every sign-in, and a rotated ring still publishes its older keys.
_CACHE = "public, max-age=3600"


@any_origin("GET", "HEAD")
def document(request: HttpRequest, name: str) -> JsonResponse:
    """Who we are (client id metadata document)."""
    found = client_document.document(name)
    if found is None:
        return JsonResponse({"error": "not_found", "error_description": "There is no such document here."}, status=404)
    return JsonResponse(found, headers={"Cache-Control": _CACHE})


@any_origin("GET", "HEAD")
def keys(request: HttpRequest) -> JsonResponse:
    """The public keys that our client assertions are signed with (RFC 7517)."""
    return JsonResponse(client_keys.public_keys(), headers={"Cache-Control": _CACHE})
