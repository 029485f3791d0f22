"""Sealed session ids for legacy traffic (F-704, SE-1 to SE-8, T40).

The upstream's own session id, sealed together with who may use it and where. No table: any replica opens it,
and it survives restarts. Only what began before its person was connected has a row (`member_sessions.py`). Every
mismatch looks the same to the caller (404, SE-5).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from django.conf import settings

from authflows.outbound.credential_results import Credential
from servers.access import Principal
from servers.registry import ServerFacts
from servers.sealing import KeyRing, Sealer, SealError

_CONTEXT: Final = "session-id v1"
_MOST_REMEMBERED: Final = 20_000


@lru_cache(maxsize=2)
def _sealer(ring: KeyRing) -> Sealer:
    return ring.sealer("session-id")


@dataclass(slots=True)
class Session:
    """What a sealed id held. Not changed once made."""

    bound: list[str]
    ends: float
    upstream_id: bytes
    opens_pages: bool
    """The client said at `initialize` that it can open a page for its person (URL elicitation)."""
    member: str
    """The key of a session that began before its person was connected; such a one has no `upstream_id`."""
    client: Mapping[str, Any] | None = None
    """What the client of a session with the engine said about itself; such a one has no `upstream_id` either."""
    known: Any = None
    """What the engine made of `client`."""


class Sessions:
    """Seals and opens session ids; remembers what it opened, since opening costs more than a look-up."""

    def __init__(self) -> None:
        self._opened: dict[bytes, Session] = {}

    def seal(
        self,
        upstream_id: str,
        *,
        principal: Principal,
        server: ServerFacts,
        credential: Credential | None,
        opens_pages: bool = False,
        member: str = "",
        client: Mapping[str, Any] | None = None,
        now: float,
    ) -> bytes:
        """The id for the client: bound to person, key, server and the credential's epoch.

        Without a credential it is the id of a session that begins before its person is connected.
        """
        payload = {
            "bound": _bound_to(principal, server, credential),
            "ends": int(now) + settings.SESSION_LIFETIME_SECONDS,
            "upstream": upstream_id,
            **({"pages": True} if opens_pages else {}),
            **({"member": member} if member else {}),
            **({"client": client} if client is not None else {}),
        }
        text = json.dumps(payload, separators=(",", ":")).encode()
        return _sealer(settings.KEY_RING).seal(text, _CONTEXT).encode()

    def open(
        self, sealed: bytes, *, principal: Principal, server: ServerFacts, credential: Credential | None, now: float
    ) -> Session | None:
        """The session, or None when the sealed id is damaged, expired or somebody else's.

        Without a credential, because there is none now, any of the same person, key and server is good.
        """
        found = self._opened.get(sealed) or self._open_new(sealed)
        if found is None or found.ends <= now:
            return None
        bound = _bound_to(principal, server, None if found.member else credential)
        if credential is None and not found.member:
            same = found.bound[:-1] == bound[:-1] and found.bound[-1].startswith(bound[-1])
        else:
            same = found.bound == bound
        return found if same else None

    def _open_new(self, sealed: bytes) -> Session | None:
        try:
            payload = json.loads(_sealer(settings.KEY_RING).open(sealed.decode("ascii"), _CONTEXT))
        except (SealError, UnicodeDecodeError):
            return None
        found = Session(
            payload["bound"],
            payload["ends"],
            payload["upstream"].encode("latin-1"),
            payload.get("pages", False),
            payload.get("member", ""),
            payload.get("client"),
        )
        if len(self._opened) >= _MOST_REMEMBERED:
            self._opened.clear()
        self._opened[sealed] = found
        return found


def _bound_to(principal: Principal, server: ServerFacts, credential: Credential | None) -> list[str]:
    """What must still hold for a session to be used: SE-3 (subject and key), SE-4 and SE-8 (epochs)."""
    return [
        str(server.id),
        str(principal.user_id),
        principal.credential,
        f"{server.session_epoch}/{credential.epoch if credential is not None else ''}",
    ]
