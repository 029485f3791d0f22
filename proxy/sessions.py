"""Sealed session ids for legacy traffic (F-704, SE-1 to SE-8, T40).

The upstream's own session id, sealed together with who may use it and where. No table: any replica opens it,
and it survives restarts. Every mismatch looks the same to the caller (404, SE-5).
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Final

from django.conf import settings

from authflows.outbound.credentials import Credential
from servers.access import Principal
from servers.registry import ServerFacts
from servers.sealing import KeyRing, Sealer, SealError

_CONTEXT: Final = "session-id v1"
_MOST_REMEMBERED: Final = 20_000


@lru_cache(maxsize=2)
def _sealer(ring: KeyRing) -> Sealer:
    return ring.sealer("session-id")


class Sessions:
    """Seals and opens session ids; remembers what it opened, since opening costs more than a look-up."""

    def __init__(self) -> None:
        self._opened: dict[bytes, tuple[list[str], float, str]] = {}

    def seal(
        self,
        upstream_id: str,
        *,
        principal: Principal,
        server: ServerFacts,
        credential: Credential,
        now: float,
    ) -> bytes:
        """The id for the client: bound to person, key, server and the credential's epoch."""
        payload = {
            "bound": _bound_to(principal, server, credential),
            "ends": int(now) + settings.SESSION_LIFETIME_SECONDS,
            "upstream": upstream_id,
        }
        text = json.dumps(payload, separators=(",", ":")).encode()
        return _sealer(settings.KEY_RING).seal(text, _CONTEXT).encode()

    def open(
        self, sealed: bytes, *, principal: Principal, server: ServerFacts, credential: Credential, now: float
    ) -> bytes | None:
        """The upstream's id, or None when the sealed one is damaged, expired or somebody else's."""
        found = self._opened.get(sealed) or self._open_new(sealed)
        if found is None:
            return None
        bound, ends, upstream_id = found
        if ends <= now or bound != _bound_to(principal, server, credential):
            return None
        return upstream_id.encode("latin-1")

    def _open_new(self, sealed: bytes) -> tuple[list[str], float, str] | None:
        try:
            payload = json.loads(_sealer(settings.KEY_RING).open(sealed.decode("ascii"), _CONTEXT))
        except (SealError, UnicodeDecodeError):
            return None
        found = (payload["bound"], payload["ends"], payload["upstream"])
        if len(self._opened) >= _MOST_REMEMBERED:
            self._opened.clear()
        self._opened[sealed] = found
        return found


def _bound_to(principal: Principal, server: ServerFacts, credential: Credential) -> list[str]:
    """What must still hold for a session to be used: SE-3 (subject and key), SE-4 and SE-8 (epochs)."""
    return [
        str(server.id),
        str(principal.user_id),
        principal.credential,
        f"{server.session_epoch}/{credential.epoch}",
    ]
