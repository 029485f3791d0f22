"""What is heard at members for open streams of clients: one stream to a member for all that want the same.

Older servers allow one stream a session, and ten thousand clients need one of them to hear that a list has changed.
The first that wants it keeps it open, in its own name; when that one leaves, the next one opens it anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import Any, Protocol

from servers.virtual.facts import MemberFacts

log = logging.getLogger(__name__)


class Hearer(Protocol):
    """An open stream of a client."""

    async def hear(self, member: MemberFacts, message: Mapping[str, Any]) -> None:
        """A notification of a member. Waits when the client does not take as much."""

    def watched(self, member: MemberFacts) -> frozenset[str]:
        """The resources of a member that the client wants to hear of."""


class Hearing:
    """One stream at a member, and who hears it."""

    def __init__(self, key: Hashable, member: MemberFacts) -> None:
        self.key = key
        self.member = member
        self.hearers: dict[Hearer, Keep] = {}
        self.task: asyncio.Task[None] | None = None
        self.opened = asyncio.Event()
        """Set once the member has opened the stream, and when nobody tries any more."""
        self.times = 0
        """How often somebody began to keep it open; from the second time on, something may have been missed."""

    async def tell(self, message: Mapping[str, Any], *, once: bool) -> None:
        """Give a notification to those who hear this; `once`: only to the one that came last.

        A session's own messages go out on one stream only, and of several the newest is surely alive.
        """
        hearers = tuple(self.hearers)
        for hearer in hearers[-1:] if once else hearers:
            await hearer.hear(self.member, message)

    def watched(self) -> frozenset[str]:
        """The resources that somebody wants to hear of."""
        return frozenset[str]().union(*(hearer.watched(self.member) for hearer in self.hearers))

    def next_one(self) -> None:
        """Whoever keeps it open may not do so any more: somebody else does, if there is somebody."""
        self.hearers.pop(next(iter(self.hearers)), None)


Keep = Callable[[Hearing], Awaitable[None]]
"""Keeps the stream open for a hearing; returns when nothing is to be heard there."""


class Hearings:
    """All of one event loop."""

    def __init__(self) -> None:
        self._known: dict[Hashable, Hearing] = {}

    def __contains__(self, key: Hashable) -> bool:
        found = self._known.get(key)
        return found is not None and found.task is not None and not found.task.done()

    def join(self, key: Hashable, member: MemberFacts, hearer: Hearer, keep: Keep) -> bool:
        """Let `hearer` hear it, opening it with `keep` when nobody else has done so; returns whether that was so."""
        hearing = self._known.get(key)
        if hearing is None:
            hearing = self._known[key] = Hearing(key, member)
        hearing.hearers[hearer] = keep
        if hearing.task is None or hearing.task.done():
            # Whoever had it open gave up; the newcomer's knowledge is fresher.
            hearing.hearers = {hearer: keep} | hearing.hearers
            self._open(hearing)
            return True
        return False

    async def opened(self, key: Hashable) -> None:
        """Wait until what is said at the member is heard, or will not be."""
        event: asyncio.Event | None = None
        while (hearing := self._known.get(key)) is not None and hearing.opened is not event:
            # Another one, when somebody else has begun to keep it open meanwhile.
            event = hearing.opened
            await event.wait()

    def leave(self, key: Hashable, hearer: Hearer) -> None:
        """Let `hearer` hear it no more."""
        hearing = self._known.get(key)
        if hearing is None or hearer not in hearing.hearers:
            return
        was_keeper = next(iter(hearing.hearers)) is hearer
        del hearing.hearers[hearer]
        if not was_keeper:
            return
        if hearing.task is not None:
            hearing.task.cancel()
            hearing.task = None
        if hearing.hearers:
            self._open(hearing)
        else:
            del self._known[key]

    def reopen(self, key: Hashable) -> None:
        """What it heard is over, and there is another: open it anew."""
        hearing = self._known.get(key)
        if hearing is not None and hearing.hearers:
            if hearing.task is not None:
                hearing.task.cancel()
            self._open(hearing)

    def _open(self, hearing: Hearing) -> None:
        keep = next(iter(hearing.hearers.values()))
        hearing.times += 1
        hearing.opened = asyncio.Event()
        hearing.task = asyncio.ensure_future(self._kept(hearing, keep))

    async def _kept(self, hearing: Hearing, keep: Keep) -> None:
        opened = hearing.opened
        try:
            await keep(hearing)
        except HandOver:
            hearing.next_one()
            if hearing.hearers:
                self._open(hearing)
            else:
                self._known.pop(hearing.key, None)
        except Exception:
            log.exception("what a member says is not heard any more")
        finally:
            opened.set()


class HandOver(Exception):
    """Raised by a `Keep` whose client may not have the member any more."""
