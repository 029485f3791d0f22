"""Who calls, for REST framework. The rules are in `authflows.inbound.api_callers`."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.utils import timezone
from rest_framework import authentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from authflows import throttle
from authflows.inbound.api_callers import ApiCaller, caller_by_header, caller_by_session
from authflows.inbound.bearer import Refusal, Unauthenticated
from authflows.inbound.oauth.resources import GATEWAY_API
from authflows.throttle import Limit, Rate, client_address
from proxy.api.problems import Problem
from proxy.record import recorder

# Credentials that open nothing, of one address: a slip needs a few, a guesser many.
_REFUSED: Final = Rate(60, 300)


def challenge(error: str = "") -> str:
    """What a client without a good credential is told (RFC 9728, 5.1): where it learns how to sign in for the API."""
    document = f"{settings.PUBLIC_URL}/.well-known/oauth-protected-resource{GATEWAY_API.path}"
    said = f'Bearer resource_metadata="{document}", scope="mcp"'
    return f'{said}, error="{error}"' if error else said


class BearerAuthentication(authentication.BaseAuthentication):
    """An API key or a token for the API, in the Authorization header.

    Whoever sends one is judged by it alone, signed in or not.
    """

    def authenticate(self, request: Request) -> tuple[Any, ApiCaller] | None:
        header = request.META.get("HTTP_AUTHORIZATION")
        if header is None:
            return None
        caller = caller_by_header(str(header).encode("latin-1", "replace"))
        if isinstance(caller, Unauthenticated):
            address = client_address(request._request)
            if wait := throttle.take([Limit("api credential", address, _REFUSED)], now=timezone.now()):
                raise Problem("throttled", retry_after=wait)
            if caller.reason is Refusal.SCOPE:
                raise Problem("scope_insufficient", challenge=challenge("insufficient_scope"))
            raise AuthenticationFailed
        recorder.note_use(caller.principal.credential)
        return caller.user, caller

    def authenticate_header(self, request: Request) -> str:
        return challenge("invalid_token" if "HTTP_AUTHORIZATION" in request.META else "")


class SessionAuthentication(authentication.SessionAuthentication):
    """A page of ours: its session, and for what changes something its CSRF token."""

    def authenticate(self, request: Request) -> tuple[Any, ApiCaller] | None:
        found = super().authenticate(request)
        if found is None:
            return None
        caller = caller_by_session(found[0])
        return (caller.user, caller) if isinstance(caller, ApiCaller) else None

    def enforce_csrf(self, request: Request) -> None:
        try:
            super().enforce_csrf(request)
        except PermissionDenied as error:
            raise Problem("csrf_failed") from error
