"""The public keys of identity providers: fetched through the one door, kept, fetched anew when they rotate.

A request waits for a fetch only while there is no key for it; nothing that a caller sends makes us fetch more than
once a minute from a provider, and only what an admin entered or the issuer's own metadata says where from.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
import requests
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jiter import from_json
from urllib3.exceptions import HTTPError

from authflows.models import IdentityProvider
from servers import changes
from servers.egress import HttpSession, http_session, parse_destination, time_limit
from servers.errors import GatewayError

log = logging.getLogger(__name__)

KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "RS256": ("RSA", ""),
    "RS384": ("RSA", ""),
    "RS512": ("RSA", ""),
    "PS256": ("RSA", ""),
    "PS384": ("RSA", ""),
    "PS512": ("RSA", ""),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""Every algorithm that may ever be accepted, and the one kind of key (type, curve) that fits it."""

FRESH_SECONDS: Final = 600.0
"""Keys are fetched again after this time."""
STALE_SECONDS: Final = 24 * 3600.0
"""While the provider cannot be reached, keys are good for so long."""
REFETCH_SECONDS: Final = 60.0
"""At least so long between two fetches for the sake of a key that is not there."""
RETRY_SECONDS: Final = 15.0
"""At least so long after a fetch that failed, while there are no keys at all."""
FETCH_SECONDS: Final = 5.0
_LARGEST_DOCUMENT: Final = 512 * 1024
_MOST_KEYS: Final = 100
_RSA_BITS: Final = range(2048, 8193)


class KeysUnavailable(GatewayError):
    """The provider's keys could not be fetched."""

    code = "keys_unavailable"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key that signatures may be checked with."""

    kid: str | None
    kind: tuple[str, str]
    algorithm: str | None
    """The only algorithm it is for, or None: whichever fits its kind."""
    public: Any

    def fits(self, algorithm: str) -> bool:
        """Whether a signature of this algorithm may be checked with it."""
        return KINDS.get(algorithm) == self.kind and self.algorithm in (None, algorithm)


@dataclass(slots=True)
class _Held:
    """What is known of one provider. Times are Unix seconds."""

    keys: tuple[SigningKey, ...] = ()
    fetched_at: float = float("-inf")
    tried_at: float = float("-inf")
    fetching: threading.Lock = field(default_factory=threading.Lock)


_held: dict[str, _Held] = {}
_held_lock = threading.Lock()


def find(provider: IdentityProvider, *, kid: str | None, algorithm: str, now: float) -> Any | None:
    """The public key of this id that fits the algorithm, or None when the provider has no such key.

    Without an id: the only key that fits. Blocks for a few seconds when keys have to be fetched. Raises
    KeysUnavailable when there are none to look at.
    """
    with _held_lock:
        held = _held.setdefault(str(provider.pk), _Held())
    found = _choose(_usable(held, now), kid, algorithm)
    if found is None:
        with held.fetching:
            # Who held the lock may have fetched what is missing.
            found = _choose(_usable(held, now), kid, algorithm)
            if found is None and _may_try(held, now):
                _refresh(held, provider, now)
                found = _choose(_usable(held, now), kid, algorithm)
            if found is None and not _usable(held, now):
                raise KeysUnavailable("The identity provider's keys cannot be fetched.")
    elif not _within(now, held.fetched_at, FRESH_SECONDS) and held.fetching.acquire(blocking=False):
        # One request looks for news, the others go on with what there is.
        try:
            if _may_try(held, now):
                _refresh(held, provider, now)
                found = _choose(_usable(held, now), kid, algorithm)
        finally:
            held.fetching.release()
    return found


def _usable(held: _Held, now: float) -> tuple[SigningKey, ...]:
    return held.keys if _within(now, held.fetched_at, STALE_SECONDS) else ()


def _may_try(held: _Held, now: float) -> bool:
    pause = REFETCH_SECONDS if _usable(held, now) else RETRY_SECONDS
    return not _within(now, held.tried_at, pause)


def _within(now: float, since: float, seconds: float) -> bool:
    # False when the clock was set back: better one fetch too many than a key kept for ever.
    return 0 <= now - since < seconds


def _choose(keys: Iterable[SigningKey], kid: str | None, algorithm: str) -> Any | None:
    fitting = [key for key in keys if key.fits(algorithm) and kid in (None, key.kid)]
    if not fitting or (kid is None and len(fitting) > 1):
        return None
    return fitting[0].public


def _refresh(held: _Held, provider: IdentityProvider, now: float) -> None:
    """Fetch; what cannot be fetched leaves everything as it was."""
    held.tried_at = now
    try:
        held.keys = fetch(provider)
    except KeysUnavailable as error:
        log.warning("no signing keys", extra={"provider": provider.slug, "detail": error.log_detail})
    else:
        held.fetched_at = now


def fetch(provider: IdentityProvider) -> tuple[SigningKey, ...]:
    """The provider's present keys, from where the admin said or the issuer's metadata says. Raises KeysUnavailable."""
    try:
        with http_session("signing keys") as session, time_limit(FETCH_SECONDS):
            session.headers["Accept"] = "application/json"
            keys = keys_in(_json(session, provider.jwks_url or _jwks_url(session, provider.issuer)))
    except (requests.RequestException, HTTPError, OSError, ValueError, GatewayError) as error:
        detail = error.log_detail or error.public_message if isinstance(error, GatewayError) else str(error)
        raise KeysUnavailable("The identity provider's keys cannot be fetched.", detail) from error
    if not keys:
        raise KeysUnavailable("The identity provider has no key that can be used.", "no usable key in the set")
    return keys


def metadata_urls(issuer: str) -> tuple[str, str]:
    """Where an issuer's metadata may be: as OpenID Connect Discovery says, and as RFC 8414 says."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    return (
        f"{issuer.rstrip('/')}/.well-known/openid-configuration",
        f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server{path}",
    )


def _jwks_url(session: HttpSession, issuer: str) -> str:
    openid, oauth = metadata_urls(issuer)
    try:
        metadata = _json(session, openid)
    except _NotThere:
        metadata = _json(session, oauth)
    # Or somebody who can answer at one address would speak for another.
    if metadata.get("issuer") != issuer:
        raise ValueError("the metadata is of another issuer")
    url = metadata.get("jwks_uri")
    if not isinstance(url, str):
        raise ValueError("the metadata names no jwks_uri")
    return url


class _NotThere(ValueError):
    """An answer other than 200."""


def _json(session: HttpSession, url: str) -> dict[str, Any]:
    parse_destination(url)  # no URL with a password, which `requests` would send
    with session.get(url, stream=True, timeout=FETCH_SECONDS) as answer:
        if answer.status_code != 200:
            raise _NotThere(f"status {answer.status_code} from {url}")
        body = bytearray()
        for piece in answer.iter_content(16 * 1024):
            body += piece
            if len(body) > _LARGEST_DOCUMENT:
                raise ValueError(f"too large: {url}")
    document = from_json(bytes(body), allow_inf_nan=False, catch_duplicate_keys=True)
    if not isinstance(document, dict):
        raise ValueError(f"not a JSON object: {url}")
    return document


def keys_in(document: Mapping[str, Any]) -> tuple[SigningKey, ...]:
    """The keys of a JWK set that may check signatures; others are left out. Raises ValueError for no set at all."""
    listed = document.get("keys")
    if not isinstance(listed, list):
        raise ValueError("not a JWK set")
    found = [_signing_key(entry) for entry in listed[:_MOST_KEYS] if isinstance(entry, dict)]
    return tuple(key for key in found if key is not None)


def _signing_key(jwk: dict[str, Any]) -> SigningKey | None:
    kind = (jwk.get("kty"), "" if jwk.get("kty") == "RSA" else jwk.get("crv"))
    kid, algorithm, operations = jwk.get("kid"), jwk.get("alg"), jwk.get("key_ops")
    if (
        kind not in KINDS.values()
        or "d" in jwk  # a private key: whoever published it, others sign with it
        or jwk.get("use", "sig") != "sig"
        or not (operations is None or (isinstance(operations, list) and "verify" in operations))
        or not isinstance(kid, str | None)
        or not isinstance(algorithm, str | None)
    ):
        return None
    loader = algorithm if KINDS.get(algorithm or "") == kind else next(a for a, k in KINDS.items() if k == kind)
    try:
        public = jwt.PyJWK(jwk, algorithm=loader).key
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    if isinstance(public, RSAPublicKey) and public.key_size not in _RSA_BITS:
        return None
    return SigningKey(kid=kid, kind=(str(kind[0]), str(kind[1])), algorithm=algorithm, public=public)


def _on_change(kind: str, key: str) -> None:
    if kind == "identity_provider":
        with _held_lock:
            _held.pop(key, None)


changes.listen(_on_change)
