"""Who calls the Gateway API: the owner of an API key, or somebody signed in to the pages.

What was issued for an MCP URL opens nothing here, and neither do tokens of the organisation's identity provider.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from time import time
from typing import Any, Final

from django.contrib.auth import get_user_model

from authflows.inbound.api_keys import looks_like_key
from authflows.inbound.bearer import Refusal, Unauthenticated, authenticate, principal_inside
from servers.access import Principal

API_PATH: Final = "/api/v1"
"""What a credential has to be good for."""
SESSION: Final = "session"
"""As records name what opened the door."""


@dataclass(frozen=True, slots=True)
class ApiCaller:
    """Somebody whom the API let in, and what the credential is limited to."""

    user: Any
    principal: Principal
    authorization: bytes | None = field(default=None, repr=False)
    """The header that opened the door; None: a session did."""

    def may_reach(self, server_id: object) -> bool:
        """Whether the credential is not limited to other servers."""
        limited_to = self.principal.limited_to
        return limited_to is None or server_id in limited_to


def caller_by_header(header: bytes) -> ApiCaller | Unauthenticated:
    """Who an Authorization header stands for."""
    scheme, _, token = header.partition(b" ")
    if scheme.lower() != b"bearer" or not looks_like_key(token.strip(b" ").decode("latin-1")):
        return Unauthenticated(Refusal.MALFORMED)
    principal = authenticate(header, now=time(), path=API_PATH)
    return _caller(principal, header)


def caller_by_session(user: Any) -> ApiCaller | Unauthenticated:
    """Somebody who is signed in to the pages."""
    return _caller(principal_inside(user.pk, SESSION), None)


def _caller(principal: Principal | Unauthenticated, header: bytes | None) -> ApiCaller | Unauthenticated:
    if isinstance(principal, Unauthenticated):
        return principal
    people = get_user_model()._default_manager.select_related("virtual_account")
    user = people.filter(pk=principal.user_id, is_active=True).first()
    return ApiCaller(user, principal, header) if user is not None else Unauthenticated(Refusal.INACTIVE)
