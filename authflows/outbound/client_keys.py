"""The keys by which providers know the gateway without a shared secret (`private_key_jwt`, RFC 7523; CL-8).

Each key of the ring yields one P-256 key by derivation, so there is nothing to store and a rotation of the ring
rotates these too: the first signs, the public halves of all are published.
"""

from __future__ import annotations

import secrets
import time
from functools import lru_cache
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings
from jwt.algorithms import ECAlgorithm

from servers.sealing import KeyRing

_LIFETIME_SECONDS: Final = 60
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the group of P-256; a private key is a number between 1 and this."""


def client_assertion(*, client_id: str, audience: str) -> str:
    """A signed statement that we are `client_id`, good for one minute at `audience` (RFC 7523, 3)."""
    ring: KeyRing = settings.KEY_RING
    key_id, key = _keys(ring)[0]
    now = int(time.time())
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "iat": now,
        "exp": now + _LIFETIME_SECONDS,
        "jti": secrets.token_urlsafe(24),
    }
    return jwt.encode(claims, key, algorithm="ES256", headers={"kid": key_id})


def public_keys() -> dict[str, Any]:
    """The JWKS document with the public halves (RFC 7517)."""
    keys = []
    for key_id, key in _keys(settings.KEY_RING):
        public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
        keys.append({**public, "kid": key_id, "use": "sig", "alg": "ES256"})
    return {"keys": keys}


@lru_cache(maxsize=2)
def _keys(ring: KeyRing) -> tuple[tuple[str, ec.EllipticCurvePrivateKey], ...]:
    return tuple((key_id, _derived(key)) for key_id, key in ring.keys)


def _derived(key: bytes) -> ec.EllipticCurvePrivateKey:
    # 48 bytes, so that the remainder is as good as evenly spread (FIPS 186-5, A.2.1).
    seed = HKDF(algorithm=hashes.SHA256(), length=48, salt=None, info=b"gatehouse v1 client assertion").derive(key)
    return ec.derive_private_key(int.from_bytes(seed) % (_ORDER - 1) + 1, ec.SECP256R1())
