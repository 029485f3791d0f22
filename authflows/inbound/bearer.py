"""Who is calling? From the bearer token of a request to a principal.

The kind of token is told by its shape, never by trying one verifier after another (RS-14, T5). Every refusal
looks the same to the caller; the reason is for the call record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal
from uuid import UUID

from django.contrib.auth import get_user_model
from oauth2_provider.models import AccessToken, RefreshToken

from authflows.inbound.api_keys import looks_like_key
from authflows.inbound.identity.identity_tokens import looks_like_jwt, principal_of, provider_of
from authflows.inbound.oauth.resources import parse
from authflows.inbound.oauth.tokens import approval_behind, looks_like_access_token
from authflows.inbound.principals import principal_for
from authflows.inbound.refusals import Refusal as Refusal
from authflows.inbound.refusals import Refused
from authflows.models import ApiKey, OAuthClient
from servers import changes
from servers.access import Principal


@dataclass(frozen=True, slots=True)
class Unauthenticated:
    """No principal, and why."""

    reason: Refusal

    def __bool__(self) -> Literal[False]:
        return False


_OF_CLIENTS = "of OAuth clients"


def _tags(principal: Principal) -> tuple[str, ...]:
    provider = provider_of(principal.credential)
    if provider is not None:
        return str(principal.user_id), f"identity_provider:{provider}"
    if principal.sign_in is not None:
        return str(principal.user_id), principal.credential, f"sign_in:{principal.sign_in}", _OF_CLIENTS
    return (str(principal.user_id),)


_by_digest: changes.Cache[bytes, Principal] = changes.Cache(tags=_tags)
_by_sign_in: changes.Cache[UUID, Principal] = changes.Cache(tags=_tags)
_inside: changes.Cache[tuple[int, str], Principal] = changes.Cache(tags=lambda found: (str(found.user_id),))
# JWTs that list many groups are long.
_LONGEST_TOKEN = 16_384


def authenticate(
    header: bytes | None, *, now: float, path: str | None = None, may_load: bool = True
) -> Principal | Unauthenticated:
    """The principal behind an Authorization header value at `now` (Unix seconds), for a request to `path`.

    What was issued for one MCP URL, or for the Gateway API, opens that path only, byte for byte (RS-11, T1).
    Raises changes.NotCached when the answer is not in memory and `may_load` is False.
    """
    if header is None:
        return Unauthenticated(Refusal.MISSING)
    scheme, _, token = header.partition(b" ")
    token = token.strip(b" ")
    if scheme.lower() != b"bearer" or not token or len(token) > _LONGEST_TOKEN:
        return Unauthenticated(Refusal.MALFORMED)
    digest = hashlib.sha256(token).digest()
    principal = _by_digest.peek(digest)
    if principal is None:
        text = token.decode("latin-1")
        load: Callable[[], Principal | None]
        if looks_like_key(text):
            load = partial(_load_key, digest.hex())
        elif looks_like_access_token(text):
            load = partial(_load_access_token, digest.hex())
        elif looks_like_jwt(text):
            load = partial(principal_of, text, now=now)
        else:
            return Unauthenticated(Refusal.MALFORMED)
        try:
            principal = _by_digest.get(digest, load, may_load=may_load)
        except Refused as refused:
            return Unauthenticated(refused.reason)
        if principal is None:
            return Unauthenticated(Refusal.UNKNOWN)
    if principal.credential_expires_at is not None and principal.credential_expires_at <= now:
        return Unauthenticated(Refusal.EXPIRED)
    if not principal.active:
        return Unauthenticated(Refusal.INACTIVE)
    if principal.audience is not None and principal.audience != path:
        return Unauthenticated(Refusal.ELSEWHERE)
    return principal


def principal_inside(user_id: int, credential: str, *, may_load: bool = True) -> Principal | Unauthenticated:
    """Somebody who came through another door of ours: signed in to the pages, or known to the API.

    Raises changes.NotCached as `authenticate` does.
    """
    principal = _inside.get((user_id, credential), lambda: _load_inside(user_id, credential), may_load=may_load)
    if principal is None:
        return Unauthenticated(Refusal.UNKNOWN)
    return principal if principal.active else Unauthenticated(Refusal.INACTIVE)


def still_signed_in(sign_in: UUID, *, may_load: bool = True) -> Principal | Unauthenticated:
    """Who a sign-in of an OAuth client stands for, whichever of its tokens is the present one.

    For calls under way: the token that began one may be replaced or run out before its answer is there, which
    takes nobody's right away. Raises changes.NotCached as `authenticate` does.
    """
    principal = _by_sign_in.get(sign_in, lambda: _load_sign_in(sign_in), may_load=may_load)
    if principal is None:
        return Unauthenticated(Refusal.UNKNOWN)
    return principal if principal.active else Unauthenticated(Refusal.INACTIVE)


def _load_key(digest: str) -> Principal | None:
    keys = ApiKey.objects.select_related("owner__virtual_account")
    key = keys.filter(digest=digest, revoked_at__isnull=True).first()
    return principal_of_key(key) if key is not None else None


def principal_of_key(key: ApiKey) -> Principal:
    """Who a key (with its owner and their virtual account) stands for. Whether it still holds is not asked here."""
    limited_to = frozenset(key.servers.values_list("pk", flat=True)) if key.limited else None
    return principal_for(
        key.owner,
        credential=f"api_key:{key.pk}",
        credential_expires_at=key.expires_at.timestamp() if key.expires_at else None,
        limited_to=limited_to,
    )


def _load_inside(user_id: int, credential: str) -> Principal | None:
    person = get_user_model()._default_manager.select_related("virtual_account").filter(pk=user_id).first()
    return principal_for(person, credential=credential) if person is not None else None


def _load_access_token(digest: str) -> Principal | None:
    tokens = AccessToken.objects.select_related("user__virtual_account", "application", "refresh_token")
    token = tokens.filter(token_checksum=digest).first()
    refresh_token = getattr(token, "refresh_token", None)
    if token is None or refresh_token is None or refresh_token.token_family is None:
        return None
    if "mcp" not in token.scope.split():
        raise Refused(Refusal.SCOPE)
    return _of_client(token, sign_in=refresh_token.token_family, expires_at=token.expires.timestamp())


def _load_sign_in(sign_in: UUID) -> Principal | None:
    tokens = RefreshToken.objects.select_related("user__virtual_account", "application")
    token = tokens.filter(token_family=sign_in, revoked__isnull=True).first()
    return _of_client(token, sign_in=sign_in, expires_at=None) if token is not None else None


def _of_client(token: Any, *, sign_in: UUID, expires_at: float | None) -> Principal | None:
    """The principal of a token's row, if all that the token hangs on still stands."""
    client: OAuthClient | None = token.application
    if client is None or not client.enabled or token.user is None or len(token.resource) != 1:
        return None
    named = parse(token.resource[0])
    approval = approval_behind(user_id=token.user_id, client_id=client.pk, resource=token.resource[0])
    if named is None or approval is None:
        return None
    # Of the API it reaches what the person reaches; its audience keeps it away from every MCP URL.
    limited_to = frozenset({approval.server_id}) if approval.server_id is not None else None
    return principal_for(
        token.user,
        # Not the token: what hangs on the credential (sessions, counts, records) outlives a refresh.
        credential=f"approval:{approval.pk}",
        credential_expires_at=expires_at,
        limited_to=limited_to,
        audience=named.path,
        sign_in=sign_in,
    )


def _on_change(kind: str, key: str) -> None:
    if kind in ("api_key", "access_token"):
        _by_digest.evict(bytes.fromhex(key))
    elif kind == "user":
        _by_digest.evict_tag(key)
        _by_sign_in.evict_tag(key)
        _inside.evict_tag(key)
    elif kind == "sign_in":
        _by_digest.evict_tag(f"sign_in:{key}")
        _by_sign_in.evict(UUID(key))
    elif kind == "approval":
        _by_digest.evict_tag(f"approval:{key}")
        _by_sign_in.evict_tag(f"approval:{key}")
    elif kind == "oauth_client":
        _by_digest.evict_tag(_OF_CLIENTS)
        _by_sign_in.clear()
    elif kind == "identity_provider":
        _by_digest.evict_tag(f"identity_provider:{key}")
    # Not "tenant" and "server": a deleted one stays in the sets of principals, but its id never comes back.


changes.listen(_on_change)
