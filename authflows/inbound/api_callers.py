"""Who calls the Gateway API: the owner of an API key, a program that somebody let in, or somebody on the pages.

What was issued for an MCP URL opens nothing here, and neither do tokens of the organisation's identity provider.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import time
from typing import Any, Final

from django.contrib.auth import get_user_model

from authflows.inbound.api_keys import looks_like_key
from authflows.inbound.bearer import Refusal, Unauthenticated, authenticate, principal_inside
from authflows.inbound.oauth.resources import GATEWAY_API
from authflows.inbound.oauth.tokens import looks_like_access_token
from servers.access import Principal

SESSION: Final = "session"
"""As records name what opened the door."""


@dataclass(frozen=True, slots=True)
class ApiCaller:
    """Somebody whom the API let in, and what the credential is limited to."""

    user: Any
    principal: Principal
    authorization: bytes | None = field(default=None, repr=False)
    """The header of an API key, which opens servers too. None: a session or a token for the API, which do not."""

    def may_reach(self, server_id: object) -> bool:
        """Whether the credential is not limited to other servers."""
        limited_to = self.principal.limited_to
        return limited_to is None or server_id in limited_to


def caller_by_header(header: bytes) -> ApiCaller | Unauthenticated:
    """Who an Authorization header stands for."""
    scheme, _, token = header.partition(b" ")
    text = token.strip(b" ").decode("latin-1")
    is_key = looks_like_key(text)
    if scheme.lower() != b"bearer" or not (is_key or looks_like_access_token(text)):
        return Unauthenticated(Refusal.MALFORMED)
    principal = authenticate(header, now=time(), path=GATEWAY_API.path)
    return _caller(principal, header if is_key else None)


def caller_by_session(user: Any) -> ApiCaller | Unauthenticated:
    """Somebody who is signed in to the pages."""
    return _caller(principal_inside(user.pk, SESSION), None)


def _caller(principal: Principal | Unauthenticated, header: bytes | None) -> ApiCaller | Unauthenticated:
    if isinstance(principal, Unauthenticated):
        return principal
    people = get_user_model()._default_manager.select_related("virtual_account")
    user = people.filter(pk=principal.user_id, is_active=True).first()
    return ApiCaller(user, principal, header) if user is not None else Unauthenticated(Refusal.INACTIVE)
