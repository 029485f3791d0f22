"""Sealing: AES-256-GCM with keys derived by HKDF from a key ring. No Django, no I/O.

A sealed text is `v1:<key id>:<base64url(nonce + ciphertext + tag)>`. The purpose selects a derived key and
the context is associated data, so a sealed text opens only for the purpose, table, row and field that it
was made for (promise 4, SE-1, T55). The first key of the ring seals; every key opens, which is what makes
rotation possible without stopping (F-404, SE-2).
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from dataclasses import dataclass
from functools import cached_property

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_VERSION = "v1"
_NONCE_BYTES = 12
_KEY_BYTES = 32
_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,32}")


class SealError(Exception):
    """A sealed text that does not open: damaged, of another place, or sealed by a key we no longer have."""


@dataclass(frozen=True)
class KeyRing:
    """Master keys in order, newest first: pairs of key id and 32 random bytes."""

    keys: tuple[tuple[str, bytes], ...]

    @classmethod
    def parse(cls, text: str) -> KeyRing:
        """Read `id:base64url,id:base64url`; raises ValueError that names what is wrong, never the key."""
        keys: list[tuple[str, bytes]] = []
        for entry in filter(None, (part.strip() for part in re.split(r"[,\n]", text))):
            key_id, colon, encoded = entry.partition(":")
            if not colon or not _KEY_ID.fullmatch(key_id):
                raise ValueError("each key is written as <key id>:<base64url of 32 random bytes>")
            try:
                key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
            except binascii.Error as error:
                raise ValueError(f"key {key_id!r} is not base64url") from error
            if len(key) != _KEY_BYTES:
                raise ValueError(f"key {key_id!r} has {len(key)} bytes; it needs {_KEY_BYTES}")
            keys.append((key_id, key))
        if not keys:
            raise ValueError("the key ring is empty")
        if len({key_id for key_id, _ in keys}) != len(keys):
            raise ValueError("two keys have the same id")
        return cls(tuple(keys))

    @property
    def sealing_key_id(self) -> str:
        """Id of the key that new sealed texts use."""
        return self.keys[0][0]

    def sealer(self, purpose: str) -> Sealer:
        """The sealer of one purpose; derived keys are made once and kept by the caller."""
        return Sealer(self, purpose)

    def __repr__(self) -> str:
        return f"KeyRing({', '.join(key_id for key_id, _ in self.keys)})"


class Sealer:
    """Seals and opens texts of one purpose."""

    def __init__(self, ring: KeyRing, purpose: str) -> None:
        self._ring = ring
        self._purpose = purpose

    @cached_property
    def _ciphers(self) -> dict[str, AESGCM]:
        return {key_id: AESGCM(self._derive(key)) for key_id, key in self._ring.keys}

    def _derive(self, key: bytes) -> bytes:
        info = f"gatehouse {_VERSION} {self._purpose}".encode()
        return HKDF(algorithm=hashes.SHA256(), length=_KEY_BYTES, salt=None, info=info).derive(key)

    def _associated_data(self, key_id: str, context: str) -> bytes:
        return f"{_VERSION}\0{key_id}\0{self._purpose}\0{context}".encode()

    def seal(self, plaintext: bytes, context: str) -> str:
        """Seal for `context` (for a column: `table:row:field`) with the ring's first key."""
        key_id = self._ring.sealing_key_id
        nonce = os.urandom(_NONCE_BYTES)
        data = self._ciphers[key_id].encrypt(nonce, plaintext, self._associated_data(key_id, context))
        return f"{_VERSION}:{key_id}:{_encoded(nonce + data)}"

    def open(self, sealed: str, context: str) -> bytes:
        """The plaintext; raises SealError for every kind of mismatch alike."""
        version, _, rest = sealed.partition(":")
        key_id, _, encoded = rest.partition(":")
        cipher = self._ciphers.get(key_id)
        if version != _VERSION or cipher is None:
            raise SealError("unknown format or key")
        try:
            data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
            if _encoded(data) != encoded:
                raise ValueError("another spelling of the same bytes")
            return cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], self._associated_data(key_id, context))
        except (InvalidTag, ValueError) as error:
            raise SealError("does not open") from error


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sealed_with(sealed: str) -> str:
    """Key id that a sealed text names (not authenticated; for choosing what to seal anew)."""
    return sealed.split(":", 2)[1] if sealed.count(":") >= 2 else ""
