"""Who is calling? From the bearer token of a request to a principal.

The kind of token is told by its shape, never by trying one verifier after another (RS-14, T5). Every refusal
looks the same to the caller; the reason is for the call record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from authflows.inbound.api_keys import looks_like_key
from authflows.inbound.identity_tokens import looks_like_jwt, principal_of, provider_of
from authflows.inbound.principals import principal_for
from authflows.inbound.refusals import Refusal as Refusal
from authflows.inbound.refusals import Refused
from authflows.models import ApiKey
from servers import changes
from servers.access import Principal


@dataclass(frozen=True, slots=True)
class Unauthenticated:
    """No principal, and why."""

    reason: Refusal

    def __bool__(self) -> Literal[False]:
        return False


def _tags(principal: Principal) -> tuple[str, ...]:
    provider = provider_of(principal.credential)
    return (str(principal.user_id),) if provider is None else (str(principal.user_id), f"identity_provider:{provider}")


_by_digest: changes.Cache[bytes, Principal] = changes.Cache(tags=_tags)
# JWTs that list many groups are long.
_LONGEST_TOKEN = 16_384


def authenticate(header: bytes | None, *, now: float, may_load: bool = True) -> Principal | Unauthenticated:
    """The principal behind an Authorization header value at `now` (Unix seconds).

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
    return principal


def _load_key(digest: str) -> Principal | None:
    keys = ApiKey.objects.select_related("owner__virtual_account")
    key = keys.filter(digest=digest, revoked_at__isnull=True).first()
    if key is None:
        return None
    limited_to = frozenset(key.servers.values_list("pk", flat=True)) if key.limited else None
    return principal_for(
        key.owner,
        credential=f"api_key:{key.pk}",
        credential_expires_at=key.expires_at.timestamp() if key.expires_at else None,
        limited_to=limited_to,
    )


def _on_change(kind: str, key: str) -> None:
    if kind == "api_key":
        _by_digest.evict(bytes.fromhex(key))
    elif kind == "user":
        _by_digest.evict_tag(key)
    elif kind == "identity_provider":
        _by_digest.evict_tag(f"identity_provider:{key}")
    # Not "tenant" and "server": a deleted one stays in the sets of principals, but its id never comes back.


changes.listen(_on_change)
