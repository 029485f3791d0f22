"""`/register` (RFC 7591). Thin; the rules are in `authflows.inbound.oauth.registration`."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse

from authflows.inbound.oauth import registration
from authflows.inbound.oauth.registration import Refused
from authflows.throttle import client_address
from authflows.views.cors import any_origin


@any_origin("POST")
def register(request: HttpRequest) -> JsonResponse:
    """Register a client, from anywhere and without signing in."""
    body = request.read(registration.MOST_BYTES + 1)
    if len(body) > registration.MOST_BYTES:
        found: registration.Registered | Refused = Refused(
            "invalid_client_metadata", f"The body is larger than {registration.MOST_BYTES} bytes.", 413
        )
    else:
        found = registration.register(body, address=client_address(request))
    if isinstance(found, Refused):
        response = JsonResponse({"error": found.error, "error_description": found.description}, status=found.status)
        if found.retry_after:
            response.headers["Retry-After"] = str(found.retry_after)
    else:
        response = JsonResponse(found.answer, status=201)
    response.headers["Cache-Control"] = "no-store"
    return response
