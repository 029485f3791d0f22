"""`subscriptions/listen` of a modern client: one stream for what several members say, behind one acknowledgement."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Hashable, Mapping
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from proxy.engine.beside import beside
from proxy.engine.engaged import Engaged
from proxy.engine.eras import member_is_modern
from proxy.engine.hearings import Keep
from proxy.engine.legacy_sessions import session_name
from proxy.engine.list_watch import KINDS, ListWatch
from proxy.engine.member_streams import (
    ACKNOWLEDGED,
    ALL_LISTS,
    UPDATED,
    Wanted,
    keep_session,
    keep_subscription,
    subscribe_each,
)
from proxy.engine.open_sessions import TROUBLE, declares
from proxy.engine.outbox import Outbox
from proxy.engine.resources import owner_of
from proxy.engine.watched import concerns
from proxy.engine.wire import SUBSCRIPTION_KEY, Refusal, result
from proxy.eras import known_of
from proxy.in_flight import EndedBy
from proxy.messages import INVALID_PARAMS
from servers.virtual.facts import MemberFacts

log = logging.getLogger(__name__)

MOST_RESOURCES: Final = 500
"""Of one listening request; more are not acknowledged."""
_PATIENCE_SECONDS: Final = 5.0
_FAREWELL_SECONDS: Final = 1.0


async def listen(engaged: Engaged) -> None:
    """Answer the request. Raises Refusal, and TooManyStreams."""
    wanted = engaged.params.get("notifications")
    if not isinstance(wanted, dict):
        raise Refusal(INVALID_PARAMS, "`notifications` must say what to listen to.")
    uris = wanted.get("resourceSubscriptions")
    await _Listen(
        engaged,
        tuple(kind for kind in KINDS if wanted.get(f"{kind}ListChanged") is True),
        tuple(dict.fromkeys(uri for uri in uris if isinstance(uri, str)))[:MOST_RESOURCES]
        if isinstance(uris, list)
        else (),
    ).run()


class _Listen:
    """One open listening request."""

    def __init__(self, engaged: Engaged, kinds: tuple[str, ...], uris: tuple[str, ...]) -> None:
        self._engaged = engaged
        self._engine = engaged.runtime.engine
        self._kinds = kinds
        self._uris = uris
        self._agreed: set[str] = set()
        self._acknowledged: frozenset[str] = frozenset()
        self._about = {"_meta": {SUBSCRIPTION_KEY: engaged.message.id}}
        self._outbox = Outbox()
        self._lists = ListWatch(engaged)
        self._tasks: set[asyncio.Task[None]] = set()
        self._heard: set[Hashable] = set()
        self._owned: dict[UUID, frozenset[str]] = {}
        self._awaited: set[str] = set()
        """Names of sessions that nobody has opened yet, and that would say when their lists change."""

    async def run(self) -> None:
        """Say what there is to say until one of both leaves. Raises TooManyStreams."""
        engaged, engine, sink = self._engaged, self._engine, self._engaged.sink
        engine.bell.listen(self)
        engine.listening.add(self)
        try:
            await self._lists.begin()
            await sink.open_stream()
            self._begin(self._tell_changes())
            await self._agree()
            await sink.say(self._acknowledgement())
            while (message := await self._outbox.take()) is not None:
                if message["method"] != UPDATED or message["params"]["uri"].startswith(tuple(self._acknowledged)):
                    await sink.say(message)
        except asyncio.CancelledError:
            if engaged.call.started and engaged.call.ended_by in (EndedBy.SHUTDOWN, EndedBy.TIMEOUT, EndedBy.REVOKED):
                # What the client takes for "begin again", instead of a stream that broke.
                with suppress(TimeoutError):
                    async with asyncio.timeout(_FAREWELL_SECONDS):
                        await sink.say(result(engaged.message.id, {"resultType": "complete", **self._about}))
            raise
        finally:
            engine.bell.leave(self)
            engine.listening.discard(self)
            self._outbox.close()
            for task in self._tasks:
                task.cancel()
            for key in self._heard:
                engine.hearings.leave(key, self)

    def changed(self, kind: str, key: str) -> None:
        """Something changed somewhere."""
        self._lists.changed(kind, key)

    def met(self, member: MemberFacts, name: str) -> None:
        """A call has come to this older member, in the session of this name."""
        if name in self._awaited:
            self._awaited.discard(name)
            self._hear(name, member, keep_session(self._engaged, member, name, late=True))

    async def hear(self, member: MemberFacts, said: Mapping[str, Any]) -> None:
        """A notification of a member: of those that this client can get here, only one kind comes from members."""
        params = said.get("params")
        uri = params.get("uri") if isinstance(params, dict) else None
        if said["method"] != UPDATED or not isinstance(uri, str):
            return
        if await concerns(self._engaged, member, uri, self.watched(member)):
            told = {"jsonrpc": "2.0", "method": UPDATED, "params": {"uri": uri, **self._about}}
            self._outbox.note(told, ("updated", uri))

    def watched(self, member: MemberFacts) -> frozenset[str]:
        """The resources of a member that the client wants to hear of."""
        return self._owned.get(member.id, frozenset())

    async def _tell_changes(self) -> None:
        while True:
            for kind in await self._lists.next_changes():
                if kind in self._kinds:
                    method = f"notifications/{kind}/list_changed"
                    self._outbox.note({"jsonrpc": "2.0", "method": method, "params": self._about}, kind)

    # What is agreed upon

    async def _agree(self) -> None:
        """Ask every member that is concerned; those that take too long are left out."""
        engaged = self._engaged
        for uri in self._uris:
            owner = await owner_of(engaged, uri)
            if owner is not None:
                self._owned[owner.member.id] = self._owned.get(owner.member.id, frozenset()) | {uri}
        tasks = [self._begin(self._agree_with(member)) for member in engaged.arrangement.members]
        if tasks:
            await asyncio.wait(tasks, timeout=_PATIENCE_SECONDS)
        self._acknowledged = frozenset(self._agreed)

    def _acknowledgement(self) -> dict[str, Any]:
        agreed: Wanted = {f"{kind}ListChanged": True for kind in self._kinds}
        uris = [uri for uri in self._uris if uri in self._acknowledged]
        if uris:
            agreed["resourceSubscriptions"] = uris
        return {"jsonrpc": "2.0", "method": ACKNOWLEDGED, "params": {"notifications": agreed, **self._about}}

    async def _agree_with(self, member: MemberFacts) -> None:
        engaged, watched = self._engaged, self.watched(member)
        lists = tuple(kind for kind in self._kinds if declares(engaged, member, kind, "listChanged"))
        key: Hashable = ("lists", member.server_id)
        if lists and key in self._engine.hearings:
            self._hear(key, member, keep_subscription(engaged, member, dict(ALL_LISTS)))
            lists = ()
        if not lists and not watched:
            return
        with suppress(*TROUBLE):
            async with beside(engaged, member) as work:
                prepared = work.call.prepared
                assert prepared is not None  # noqa: S101
                # Whoever only wants to hear of lists asks nobody for it what it is (T54).
                known = known_of(prepared).evidence.modern
                modern = await member_is_modern(work) if watched else known is True
                name = session_name(engaged.client, prepared, member)
                if not modern:
                    agreed = await subscribe_each(work, member, watched) if watched else frozenset[str]()
                    self._agreed |= agreed
                    if agreed or engaged.runtime.member_sessions.find(name) is not None:
                        keep = keep_session(engaged, member, name, reopening=bool(agreed))
                        self._hear(name, member, keep)
                    else:
                        self._awaited.add(name)
            if not modern:
                # Only what is heard from now on can be acknowledged; a session takes a moment to free its stream.
                await self._engine.hearings.opened(name)
                return
            asked = [self._listen_at(member, key, dict(ALL_LISTS))] if lists else []
            if watched:
                own = ("resources", id(self), member.id)
                asked.append(self._listen_at(member, own, {"resourceSubscriptions": sorted(watched)}))
            await asyncio.gather(*asked)

    async def _listen_at(self, member: MemberFacts, key: Hashable, wanted: Wanted) -> None:
        """Listen at a modern member; returns once it has acknowledged, or failed."""
        answered = asyncio.get_running_loop().create_future()

        def agreed(notifications: Wanted) -> None:
            uris = notifications.get("resourceSubscriptions")
            if isinstance(uris, list) and not answered.done():
                self._agreed |= {uri for uri in uris if uri in self.watched(member)}
            if not answered.done():
                answered.set_result(None)

        if self._hear(key, member, keep_subscription(self._engaged, member, wanted, agreed)):
            await answered

    def _hear(self, key: Hashable, member: MemberFacts, keep: Keep) -> bool:
        self._heard.add(key)
        return self._engine.hearings.join(key, member, self, keep)

    def _begin(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(_logged(coroutine))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _logged(coroutine: Coroutine[Any, Any, None]) -> None:
    try:
        await coroutine
    except Exception:
        log.exception("a listening request hears less than it should")
