"""Whether what somebody sees has changed: told by the change feed, never asked of a member."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import replace
from time import time
from typing import Any, Final

from proxy import threads
from proxy.engine.engaged import Engaged
from proxy.engine.lists import Pages, Sights, pages_of
from proxy.engine.sights import sights_now
from proxy.pipeline import NotConnected, Prepared, TokenDue, prepare_again
from servers import changes
from servers.items import ItemKind
from servers.virtual.arrangement import Arrangement, arrangement_of

KINDS: Final[Mapping[str, tuple[ItemKind, ...]]] = {
    "tools": (ItemKind.TOOL,),
    "prompts": (ItemKind.PROMPT,),
    "resources": (ItemKind.RESOURCE, ItemKind.TEMPLATE),
}
"""The lists of which clients hear that they have changed."""
_OF_SERVERS: Final = ("catalogue", "server")
_OF_PEOPLE: Final = ("connection", "own_key", "tenant", changes.EVERYTHING)

Fingerprints = Mapping[str, str]


def list_changed(kind: str) -> dict[str, Any]:
    """The notice for an older client."""
    return {"jsonrpc": "2.0", "method": f"notifications/{kind}/list_changed"}


class ListWatch:
    """What one caller sees of one server, and when that has become something else."""

    def __init__(self, engaged: Engaged) -> None:
        self._call = engaged.call
        self._virtual = engaged.virtual
        self.arrangement: Arrangement | None = None
        """What the server shows, as of the last look."""
        self._sights: Sights = ()
        self._concerned: frozenset[str] = frozenset()
        self._known: Fingerprints = {}
        self._rung = asyncio.Event()

    def changed(self, kind: str, key: str) -> None:
        """Something changed somewhere."""
        if kind in _OF_PEOPLE or (kind in _OF_SERVERS and key in self._concerned) or kind == "user":
            self._rung.set()

    async def begin(self) -> None:
        """Remember what is seen now."""
        self._known = await self._look() or {}

    async def next_changes(self) -> tuple[str, ...]:
        """Wait until one of the lists is another one; returns which."""
        while True:
            await self._rung.wait()
            self._rung.clear()
            found = await self._look()
            if found is None:
                continue
            changed = tuple(kind for kind in KINDS if found[kind] != self._known.get(kind))
            self._known = found
            if changed:
                return changed

    async def _look(self) -> Fingerprints | None:
        """The present lists; None when nobody can tell, or the caller may not see them any more."""
        try:
            try:
                found = self._seen(may_load=False)
            except changes.NotCached:
                found = await threads.run_or_give_up(self._seen_loading)
            if found is None:
                return None
            arrangement, sights = found
            if arrangement is self.arrangement and sights == self._sights:
                return self._known
            self.arrangement, self._sights = arrangement, sights
            return await threads.run(_fingerprints, arrangement, sights)
        except threads.NoAnswer:
            return None

    def _seen_loading(self) -> tuple[Arrangement, Sights] | None:
        return self._seen(may_load=True)

    def _seen(self, *, may_load: bool) -> tuple[Arrangement, Sights] | None:
        outcome = prepare_again(self._virtual, self._call.knock, now=time(), may_load=may_load)
        if not isinstance(outcome, Prepared | TokenDue | NotConnected):
            return None  # the call itself is ended by whoever looks after it
        virtual = replace(self._virtual, principal=outcome.principal, server=outcome.server)
        server = virtual.server
        arrangement = arrangement_of(server.id, virtual=server.virtual, may_load=may_load)
        self._concerned = frozenset({str(server.id), *(str(member.server_id) for member in arrangement.members)})
        return arrangement, sights_now(virtual, arrangement, self._call.knock, may_load=may_load)


def _fingerprints(arrangement: Arrangement, sights: Sights) -> Fingerprints:
    """A digest of each list; takes some milliseconds for thousands of items."""
    found: Fingerprints | None = arrangement.kept.get(("fingerprints", sights))
    if found is None:
        found = {
            name: hashlib.sha256(b"".join(_pages(arrangement, kind, sights) for kind in kinds)).hexdigest()
            for name, kinds in KINDS.items()
        }
        arrangement.kept["fingerprints", sights] = found
    return found


def _pages(arrangement: Arrangement, kind: ItemKind, sights: Sights) -> bytes:
    kept: Pages | None = arrangement.kept.get((kind, sights))
    return b"".join((kept or pages_of(arrangement, kind, sights)).pages)
