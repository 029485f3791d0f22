"""The GET stream of an older client: what happens outside of its calls (2.3, list change and resource notices)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Hashable, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from proxy import errors
from proxy.engine import session_notes
from proxy.engine.beside import beside
from proxy.engine.engaged import Engaged
from proxy.engine.eras import member_is_modern
from proxy.engine.list_watch import KINDS, ListWatch, list_changed
from proxy.engine.log_levels import wants
from proxy.engine.member_streams import ALL_LISTS, UPDATED, Wanted, keep_session, keep_subscription
from proxy.engine.open_sessions import TROUBLE, declares, open_at, own_name
from proxy.engine.outbox import Outbox
from proxy.engine.sink import TooManyStreams
from proxy.engine.watched import concerns
from servers.virtual.facts import MemberFacts

log = logging.getLogger(__name__)


async def stream(engaged: Engaged) -> None:
    """Answer a GET. Whoever comes back after a break gets a new stream: nothing is kept to be sent again (T41)."""
    call, client = engaged.call, engaged.client
    if not client.session:
        return await call.answer(*errors.render(errors.method_not_allowed("GET"), None))
    opened = ClientStream(engaged)
    try:
        await opened.run()
    except TooManyStreams:
        call.outcome = errors.STREAM_LIMIT.outcome
        await call.answer(*errors.render(errors.STREAM_LIMIT, None))


class ClientStream:
    """One open stream of an older client's session."""

    def __init__(self, engaged: Engaged) -> None:
        self._engaged = engaged
        self._engine = engaged.runtime.engine
        self._session = engaged.client.session
        self._digest = session_notes.digest_of(self._session)
        self._outbox = Outbox()
        self._lists = ListWatch(engaged)
        self._noted = asyncio.Event()
        self._notes = session_notes.Notes()
        self._tasks: set[asyncio.Task[None]] = set()
        self._heard: dict[Hashable, UUID] = {}
        self._modern: dict[UUID, bool] = {}

    async def run(self) -> None:
        """Say what there is to say until one of both leaves. Raises TooManyStreams."""
        engaged, engine = self._engaged, self._engine
        engine.bell.listen(self)
        try:
            self._notes = await session_notes.notes_of(self._session)
            await self._lists.begin()
            await engaged.sink.open_stream()
            engine.streams.setdefault(self._session, []).append(self)
            self._begin(self._tell_changes())
            self._begin(self._follow_notes())
            self._begin(self._join_open())
            while (message := await self._outbox.take()) is not None:
                await engaged.sink.say(message)
            await engaged.call.finish()
        finally:
            engine.bell.leave(self)
            self._outbox.close()
            for key in tuple(self._heard):
                engine.hearings.leave(key, self)
            for task in self._tasks:
                task.cancel()
            if self in (others := engine.streams.get(self._session, [])):
                others.remove(self)
                if not others:
                    del engine.streams[self._session]

    def changed(self, kind: str, key: str) -> None:
        """Something changed somewhere."""
        if kind == session_notes.CHANGE:
            if key == self._digest:
                self._noted.set()
        else:
            self._lists.changed(kind, key)

    async def hear(self, member: MemberFacts, said: Mapping[str, Any]) -> None:
        """A notification of a member."""
        client = self._engaged.client
        if said["method"] == UPDATED:
            uri = said.get("params", {}).get("uri")
            if isinstance(uri, str) and await self._watches(member, uri):
                told = {"jsonrpc": "2.0", "method": UPDATED, "params": {"uri": uri}}
                self._outbox.note(told, ("updated", uri))
        elif await wants(client, said):
            await self._outbox.put(said)

    def watched(self, member: MemberFacts) -> frozenset[str]:
        """The resources of a member that the session watches, as of a moment ago."""
        return frozenset(self._notes.watched_at(member.id))

    def met(self, member: MemberFacts, *, modern: bool) -> None:
        """The session has come to this member: from now on there may be something to hear."""
        self._modern[member.id] = modern
        self._join(member)

    async def attend(self, member: MemberFacts, *, modern: bool) -> None:
        """Take up what the session has just begun to watch at this member; returns once that is heard there."""
        self._notes = await session_notes.notes_of(self._session)
        self.met(member, modern=modern)
        for key, whose in tuple(self._heard.items()):
            if whose == member.id:
                await self._engine.hearings.opened(key)

    async def _watches(self, member: MemberFacts, uri: str) -> bool:
        self._notes = await session_notes.notes_of(self._session)
        return await concerns(self._present(), member, uri, self.watched(member))

    # What is watched

    async def _tell_changes(self) -> None:
        while True:
            for kind in await self._lists.next_changes():
                # Of several streams of one session one is told, and the newest is surely alive.
                if self._engine.streams.get(self._session, [self])[-1] is self:
                    self._outbox.note(list_changed(kind), kind)

    async def _follow_notes(self) -> None:
        """What the session says in another request, which any replica may get."""
        while True:
            await self._noted.wait()
            self._noted.clear()
            self._notes = await session_notes.notes_of(self._session)
            if self._notes.ended:
                return self._outbox.close()
            await self._meet_watched()
            for member in self._present().arrangement.members:
                self._join(member)

    async def _join_open(self) -> None:
        engaged = self._engaged
        for member, _ in await open_at(engaged):
            self.met(member, modern=False)
        await self._meet_watched()

    async def _meet_watched(self) -> None:
        """Find out which members are modern, of those that are to be listened to."""
        engaged = self._present()
        for member in engaged.arrangement.members:
            # The one member of a bridge is asked at once, of many only those that are in use (T54).
            if member.id in self._modern or not (self.watched(member) or not engaged.server.virtual):
                continue
            try:
                async with beside(engaged, member) as work:
                    modern = await member_is_modern(work)
            except TROUBLE:
                continue
            if modern:
                self.met(member, modern=True)

    def _join(self, member: MemberFacts) -> None:
        engaged, hearings = self._present(), self._engine.hearings
        modern = self._modern.get(member.id)
        if modern is None:
            return
        if not modern:
            if _speaks(engaged, member):
                name = own_name(self._session, member)
                self._hear(name, member)
                hearings.join(name, member, self, keep_session(engaged, member, name))
            return
        if any(declares(engaged, member, kind, "listChanged") for kind in KINDS):
            key: Hashable = ("lists", member.server_id)
            self._hear(key, member)
            hearings.join(key, member, self, keep_subscription(engaged, member, dict(ALL_LISTS)))
        watched = self.watched(member)
        key = ("resources", id(self), member.id, watched)
        for before in [one for one, whose in self._heard.items() if whose == member.id and one != key]:
            if isinstance(before, tuple) and before[0] == "resources":
                del self._heard[before]
                hearings.leave(before, self)
        if watched and key not in self._heard:
            self._hear(key, member)
            wanted: Wanted = {"resourceSubscriptions": sorted(watched)}
            hearings.join(key, member, self, keep_subscription(engaged, member, wanted))

    def _hear(self, key: Hashable, member: MemberFacts) -> None:
        self._heard[key] = member.id

    def _present(self) -> Engaged:
        """The request, with what the server shows by now."""
        return replace(self._engaged, arrangement=self._lists.arrangement or self._engaged.arrangement)

    def _begin(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(_logged(coroutine))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _speaks(engaged: Engaged, member: MemberFacts) -> bool:
    """Whether an older member says anything outside of calls."""
    if declares(engaged, member, "logging") or declares(engaged, member, "resources", "subscribe"):
        return True
    return any(declares(engaged, member, kind, "listChanged") for kind in KINDS)


async def _logged(coroutine: Coroutine[Any, Any, None]) -> None:
    try:
        await coroutine
    except Exception:
        log.exception("a stream hears less than it should")
