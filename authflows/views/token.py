"""`/token` and `/revoke`: OAuth clients exchange codes and refresh tokens, and give tokens back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from urllib.parse import parse_qsl

from django.http import HttpRequest, HttpResponse, JsonResponse

from authflows import throttle
from authflows.inbound.oauth import token_endpoint
from authflows.inbound.oauth.token_endpoint import Answer, Parameters, failure
from authflows.views.cors import any_origin

_LARGEST_FORM: Final = 64 * 1024
_MOST_PARAMETERS: Final = 50


@any_origin("POST")
def token(request: HttpRequest) -> HttpResponse:
    """Tokens for a code or a refresh token (RFC 6749, 5)."""
    return _respond(request, token_endpoint.issue)


@any_origin("POST")
def revoke(request: HttpRequest) -> HttpResponse:
    """The end of a sign-in, by one of its tokens (RFC 7009)."""
    return _respond(request, token_endpoint.revoke)


def _respond(request: HttpRequest, answer: Callable[..., Answer]) -> HttpResponse:
    parameters = _form(request)
    if parameters is None:
        found = failure("invalid_request", "Send the parameters form-encoded in the body, not in the URL.")
    else:
        found = answer(
            parameters,
            authorization=request.headers.get("Authorization"),
            address=throttle.client_address(request),
        )
    response = HttpResponse() if found.content is None else JsonResponse(found.content)
    response.status_code = found.status
    for name, value in {**found.headers, "Cache-Control": "no-store", "Pragma": "no-cache"}.items():
        response[name] = value
    return response


def _form(request: HttpRequest) -> Parameters | None:
    """The parameters of the body; those without a value count as left out (RFC 6749, 3.2). None: not a form."""
    if request.content_type != "application/x-www-form-urlencoded" or request.GET:
        return None
    try:
        if int(request.headers.get("Content-Length") or 0) > _LARGEST_FORM or len(request.body) > _LARGEST_FORM:
            return None
        return parse_qsl(request.body.decode(), errors="strict", max_num_fields=_MOST_PARAMETERS)
    except ValueError:
        return None
