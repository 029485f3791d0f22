"""JWTs of the organisation's own identity providers, in the Authorization header (F-208, RS-14, T5).

The order is fixed. Shape and header are looked at without asking anybody; the issuer that the token claims to be
from chooses one provider or none; that provider's own keys and algorithms decide about the signature; only then
do the claims mean anything. What comes out is kept by `bearer.py` until the token ends or the change feed says
that the person, the provider or its mappings changed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import jwt
from django.contrib.auth import get_user_model
from jiter import from_json

from authflows.inbound.identity import signing_keys
from authflows.inbound.identity.people_from_claims import Denied, claim_at, person_for, subject_of, sync_teams
from authflows.inbound.oauth import resources
from authflows.inbound.principals import principal_for
from authflows.inbound.refusals import Refusal, Refused
from authflows.models import AccountMapping, IdentityProvider
from servers import changes
from servers.access import Principal

log = logging.getLogger(__name__)

LEEWAY_SECONDS: Final = 60.0
"""By how much the provider's clock may differ from ours."""
LONGEST_LIFE_SECONDS: Final = 24 * 3600.0
"""How far ahead a JWT's end may be."""
# Seconds since 1970 in a few thousand years, so that nobody's milliseconds are taken for seconds.
_FAR: Final = 1e11
_SHAPE: Final = re.compile(r"eyJ[A-Za-z0-9_-]+\.eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_KIND: Final = "identity_provider"


@dataclass(frozen=True, slots=True)
class _Token:
    """A JWT taken apart. Nothing in it is believed yet."""

    text: str
    algorithm: str
    kid: str | None
    issuer: str
    claims: Mapping[str, Any]


def looks_like_jwt(text: str) -> bool:
    """Whether a bearer token is a signed JWT that names an issuer, by its shape and header; asks nothing."""
    return _taken_apart(text) is not None


def principal_of(text: str, *, now: float) -> Principal:
    """The person or virtual account that a JWT stands for at `now` (Unix seconds).

    Its `credential` is the same for every token of the same subject. A few queries, and a fetch when the
    provider's keys are not in memory; writes when the person is new or their teams changed. Raises Refused.
    """
    token = _taken_apart(text)
    if token is None:
        raise Refused(Refusal.MALFORMED)
    provider = _trusted().get(token.issuer)
    if provider is None:
        raise Refused(Refusal.ISSUER)
    _check_signature(token, provider, now)
    end = _check_claims(token.claims, now)
    audience = _audience(token.claims, provider)
    subject = subject_of(provider, token.claims)
    if subject is None:
        raise Refused(Refusal.CLAIMS)
    user = _user(provider, token.claims)
    return principal_for(user, credential=_credential(provider, subject), credential_expires_at=end, audience=audience)


def provider_of(credential: str) -> str | None:
    """The id of the identity provider behind a principal's `credential`, or None for credentials of other kinds."""
    kind, _, rest = credential.partition(":")
    return rest.partition(":")[0] if kind == _KIND else None


def _credential(provider: IdentityProvider, subject: str) -> str:
    # Not the token's own id: sealed sessions outlive its renewal (SE-3). As long as a call record has room for.
    return f"{_KIND}:{provider.pk}:{hashlib.sha256(subject.encode()).hexdigest()[:24]}"


def _taken_apart(text: str) -> _Token | None:
    if _SHAPE.fullmatch(text) is None:
        return None
    first, second, _ = text.split(".")
    header, claims = _object(first), _object(second)
    if header is None or claims is None:
        return None
    algorithm, kid, kind, issuer = header.get("alg"), header.get("kid"), header.get("typ"), claims.get("iss")
    if (
        not isinstance(algorithm, str)
        or algorithm not in signing_keys.KINDS
        or not isinstance(kid, str | None)
        # Other kinds of JWT (of a logout, of a grant) are made by the same issuer with the same keys.
        or not (kind is None or (isinstance(kind, str) and kind.lower() in _TYPES))
        or not header.keys().isdisjoint(("crit", "b64", "zip", "cty"))
        or not isinstance(issuer, str)
        or not issuer
    ):
        return None
    return _Token(text=text, algorithm=algorithm, kid=kid, issuer=issuer, claims=claims)


def _object(segment: str) -> dict[str, Any] | None:
    """A segment's JSON object, read strictly: two parsers cannot read it differently."""
    try:
        data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
        found = from_json(data, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="none")
    except (binascii.Error, ValueError):
        return None
    return found if isinstance(found, dict) else None


_providers: changes.Cache[str, dict[str, IdentityProvider]] = changes.Cache()


def _trusted() -> dict[str, IdentityProvider]:
    """The providers whose JWTs open the door, by issuer, with their mappings; no query in the steady state."""
    return _providers.get("all", _load_trusted) or {}


def _load_trusted() -> dict[str, IdentityProvider]:
    rows = IdentityProvider.objects.filter(enabled=True, accept_tokens=True).exclude(issuer="")
    rows = rows.exclude(preset=IdentityProvider.Preset.GITHUB).select_related("tenant")
    return {row.issuer: row for row in rows.prefetch_related("team_mappings", "account_mappings")}


def _check_signature(token: _Token, provider: IdentityProvider, now: float) -> None:
    if token.algorithm not in provider.accepted_algorithms:
        raise Refused(Refusal.SIGNATURE)
    try:
        key = signing_keys.find(provider, kid=token.kid, algorithm=token.algorithm, now=now)
    except signing_keys.KeysUnavailable as error:
        raise Refused(Refusal.KEYS) from error
    if key is None:
        raise Refused(Refusal.SIGNATURE)
    try:
        jwt.PyJWS(algorithms=[token.algorithm]).decode_complete(token.text, key=key, algorithms=[token.algorithm])
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise Refused(Refusal.SIGNATURE) from error


def _check_claims(claims: Mapping[str, Any], now: float) -> float:
    """When the token ends (Unix seconds), the leeway included. Raises Refused."""
    end = _instant(claims, "exp")
    if end is None:
        raise Refused(Refusal.CLAIMS)
    if end + LEEWAY_SECONDS <= now:
        raise Refused(Refusal.EXPIRED)
    begins = (_instant(claims, name) for name in ("nbf", "iat"))
    if (
        end - LEEWAY_SECONDS > now + LONGEST_LIFE_SECONDS
        or any(begin is not None and begin - LEEWAY_SECONDS > now for begin in begins)
        or not isinstance(claims.get("sub"), str)
        # An event about somebody (their sign-out, for one) is no token of theirs.
        or "events" in claims
        # Only whoever holds the key that it names may use it (RFC 7800, RFC 9449): a bearer does not show that.
        or "cnf" in claims
    ):
        raise Refused(Refusal.CLAIMS)
    return end + LEEWAY_SECONDS


def _instant(claims: Mapping[str, Any], name: str) -> float | None:
    if name not in claims:
        return None
    value = claims[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_FAR < value < _FAR:
        raise Refused(Refusal.CLAIMS)
    return float(value)


def _audience(claims: Mapping[str, Any], provider: IdentityProvider) -> str | None:
    """The one MCP path that the token is good for, or None: any. Raises Refused when it is for somebody else."""
    named = claims.get("aud")
    audiences = [named] if isinstance(named, str) else named
    if not isinstance(audiences, list) or not all(isinstance(audience, str) for audience in audiences):
        raise Refused(Refusal.AUDIENCE)
    if any(audience in audiences for audience in provider.audiences):
        return None
    urls = {url.path for url in map(resources.parse, audiences) if url is not None}
    if len(urls) != 1:
        raise Refused(Refusal.AUDIENCE)
    return urls.pop()


def _user(provider: IdentityProvider, claims: Mapping[str, Any]) -> Any:
    mapping = next((m for m in provider.account_mappings.all() if _matches(m, claims)), None)
    if mapping is not None:
        return _account(provider, mapping)
    user = person_for(provider, claims)
    if isinstance(user, Denied):
        log.info("a JWT of somebody without an account", extra={"provider": provider.slug, "reason": user.reason})
        raise Refused(Refusal.NOT_ADMITTED)
    if user.is_active:
        sync_teams(user, provider, claims)
    return user


def _matches(mapping: AccountMapping, claims: Mapping[str, Any]) -> bool:
    value = claim_at(claims, mapping.claim)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    return isinstance(value, str) and value == mapping.value


def _account(provider: IdentityProvider, mapping: AccountMapping) -> Any:
    # Not from the mapping in memory: the account may have been disabled since.
    users = get_user_model()._default_manager.select_related("virtual_account")
    user = users.filter(virtual_account=mapping.virtual_account_id).first()
    if user is None:
        raise Refused(Refusal.NOT_ADMITTED)
    if not provider.vouches_for_all and user.virtual_account.tenant_id != provider.tenant_id:
        raise Refused(Refusal.NOT_ADMITTED)
    return user


def _on_change(kind: str, key: str) -> None:
    # Before `bearer.py` hears of it, because it imports this module: what it loads afterwards is from new rows.
    if kind == _KIND:
        _providers.clear()


changes.listen(_on_change)
