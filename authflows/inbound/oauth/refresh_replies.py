"""The same answer for windows of one IDE that refresh at the same moment (AZ-17, T8).

For a minute the answer to a refresh is kept, sealed under a key derived from the refresh token that was presented.
Whoever presents that token again gets the very same pair; whoever reads the database gets nothing.
"""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime, timedelta
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from authflows.inbound.oauth.tokens import digest_of
from authflows.models import OAuthClient, RefreshReply

LIFETIME: Final = timedelta(seconds=60)
_NONCE_BYTES: Final = 12
_MOST_SWEPT: Final = 100


def keep(reply: dict[str, Any], *, refresh_token: str, client: OAuthClient, now: datetime) -> None:
    """Keep the answer that `refresh_token` got; in the transaction that replaces the token."""
    _sweep(now)
    content = {"reply": reply, "expires_at": now.timestamp() + reply["expires_in"]}
    digest, nonce = digest_of(refresh_token), os.urandom(_NONCE_BYTES)
    sealed = _cipher(refresh_token).encrypt(nonce, json.dumps(content).encode(), _context(digest, client))
    RefreshReply.objects.create(
        digest=digest,
        client=client,
        sealed_reply=urlsafe_b64encode(nonce + sealed).decode(),
        expires_at=now + LIFETIME,
    )


def find(refresh_token: str, *, client: OAuthClient, now: datetime) -> dict[str, Any] | None:
    """The answer that this client got for this token less than a minute ago; `expires_in` counts from now."""
    digest = digest_of(refresh_token)
    row = RefreshReply.objects.filter(digest=digest, client=client, expires_at__gt=now).first()
    if row is None:
        return None
    data = urlsafe_b64decode(row.sealed_reply)
    try:
        plain = _cipher(refresh_token).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _context(digest, client))
    except InvalidTag:
        return None
    content = json.loads(plain)
    reply: dict[str, Any] = content["reply"]
    reply["expires_in"] = max(0, int(content["expires_at"] - now.timestamp()))
    return reply


def _sweep(now: datetime) -> None:
    # Here and not only by a daily command: what is not there, no later leak of an old token can open.
    over = RefreshReply.objects.select_for_update(skip_locked=True).filter(expires_at__lte=now)
    RefreshReply.objects.filter(pk__in=list(over.values_list("pk", flat=True)[:_MOST_SWEPT])).delete()


def _cipher(refresh_token: str) -> AESGCM:
    info = b"gatehouse v1 answer to a refresh"
    return AESGCM(HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=info).derive(refresh_token.encode()))


def _context(digest: str, client: OAuthClient) -> bytes:
    return f"{RefreshReply._meta.db_table}\0{digest}\0{client.pk}".encode()
