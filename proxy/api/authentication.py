"""Who calls, for REST framework. The rules are in `authflows.inbound.api_callers`."""

from __future__ import annotations

from typing import Any, Final

from django.utils import timezone
from rest_framework import authentication
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied
from rest_framework.request import Request

from authflows import throttle
from authflows.inbound.api_callers import ApiCaller, caller_by_header, caller_by_session
from authflows.inbound.bearer import Unauthenticated
from authflows.throttle import Limit, Rate, client_address
from proxy.api.problems import Problem

CHALLENGE: Final = 'Bearer realm="Gatehouse"'
# Credentials that open nothing, of one address: a slip needs a few, a guesser many.
_REFUSED: Final = Rate(60, 300)


class KeyAuthentication(authentication.BaseAuthentication):
    """An API key in the Authorization header. Whoever sends one is judged by it alone, signed in or not."""

    def authenticate(self, request: Request) -> tuple[Any, ApiCaller] | None:
        header = request.META.get("HTTP_AUTHORIZATION")
        if header is None:
            return None
        caller = caller_by_header(str(header).encode("latin-1", "replace"))
        if isinstance(caller, Unauthenticated):
            address = client_address(request._request)
            if wait := throttle.take([Limit("api credential", address, _REFUSED)], now=timezone.now()):
                raise Problem("throttled", retry_after=wait)
            raise AuthenticationFailed
        return caller.user, caller

    def authenticate_header(self, request: Request) -> str:
        return CHALLENGE


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
