"""Streams that members keep open for us: the GET stream of an older one's session, the listening request of a new one.

What is heard there is passed on or acted upon; a broken stream is opened again a few times. A question that comes
here belongs to no call, so nobody is asked it (T47).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from typing import Any, Final

from django.conf import settings

from proxy import member_sessions, threads
from proxy.engine.beside import NotReady, Stopped, beside
from proxy.engine.engaged import Engaged
from proxy.engine.hearings import HandOver, Hearing, Keep
from proxy.engine.legacy_sessions import session_headers
from proxy.engine.list_watch import KINDS
from proxy.engine.member_call import MemberCall
from proxy.engine.open_sessions import TROUBLE, inside, tell
from proxy.engine.requests import request_bytes
from proxy.engine.resuming import Position, events_of, is_event_stream, message_of
from proxy.engine.wire import METHOD_NOT_FOUND, error, result
from proxy.exchanges import exchange
from proxy.in_flight import EndedBy, Phase
from proxy.member_sessions import Member as Session
from proxy.messages import Kind, Message
from proxy.upstream import Response
from servers.virtual.facts import MemberFacts

MOST_TRIES: Final = 5
"""A stream that could not be opened so often, one after the other, is given up until somebody wants it again."""
_FIRST_DELAY_SECONDS: Final = 0.5
_PASSED_ON: Final = ("notifications/message", "notifications/resources/updated", "notifications/elicitation/complete")
UPDATED: Final = "notifications/resources/updated"
ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
LISTEN: Final = "subscriptions/listen"
ALL_LISTS: Final = {f"{kind}ListChanged": True for kind in KINDS}
"""What is asked of a modern member to hear that one of its lists has changed."""

Wanted = dict[str, Any]
"""What is listened to at a modern member: the filter of `subscriptions/listen`."""


def refresh_catalogue(engaged: Engaged) -> None:
    """The member that was entered says that its lists have changed: read them anew, beside."""
    assert engaged.call.prepared is not None  # noqa: S101
    engaged.runtime.spawn(engaged.runtime.catalogues.refresh(engaged.call.prepared, wait=False))


class _Tries:
    """How often opening a stream was tried in vain."""

    def __init__(self) -> None:
        self._times = 0

    @property
    def in_vain(self) -> bool:
        """Whether the stream could not be opened, or broke, since something was last heard on it."""
        return self._times > 0

    def heard(self) -> None:
        """The stream is good."""
        self._times = 0

    async def again(self, least: float = 0.0) -> bool:
        """Wait, longer each time and at least so many seconds; False when it was tried often enough."""
        if self._times >= MOST_TRIES:
            return False
        delay = _FIRST_DELAY_SECONDS * 2**self._times
        self._times += 1
        await asyncio.sleep(max(delay, least))
        return True


# An older member's session


def keep_session(
    engaged: Engaged, member: MemberFacts, name: str, *, reopening: bool = False, late: bool = False
) -> Keep:
    """Keep the GET stream of the session at an older member that is kept under this name.

    `late`: somebody wanted to hear of its lists before the session was there.
    `reopening`: a session that is lost is opened anew, and told again what is watched there; else that is left to the
    next call (T54).
    """

    async def keep(hearing: Hearing) -> None:
        tries, position = _Tries(), Position()
        before: Session | None = None
        while True:
            session = await _session_called(engaged, name)
            if session is None:
                return
            renewed = before is not None and session != before
            if renewed:
                position = Position()
            before = session
            try:
                async with inside(engaged, member, session) as work:
                    if renewed and reopening:
                        await subscribe_each(work, member, hearing.watched())
                    missed = late or tries.in_vain or hearing.times > 1
                    status = await _hear_session(work, session, hearing, position, tries, missed=missed)
                    if status == 404 and reopening:
                        await subscribe_each(work, member, hearing.watched())
                        before = engaged.runtime.member_sessions.find(name)
                        position = Position()
                    elif status in (404, 405):
                        return
            except NotReady:
                return
            except Stopped as stopped:
                _hand_over(stopped)
            except TROUBLE:
                pass
            if not await tries.again(position.delay if position.headers() else 0.0):
                return

    return keep


async def _session_called(engaged: Engaged, name: str) -> Session | None:
    kept = engaged.runtime.member_sessions.find(name)
    if kept is not None:
        return kept
    found = await threads.run_or_give_up(member_sessions.load, name)
    return engaged.runtime.member_sessions.keep(name, found) if isinstance(found, Session) else None


async def _hear_session(
    work: Engaged, session: Session, hearing: Hearing, position: Position, tries: _Tries, *, missed: bool
) -> int:
    """Open the stream and hear it to its end; returns the HTTP status. `missed`: some of it may have been missed."""
    call = work.call
    assert call.prepared is not None  # noqa: S101
    call.http_method = "GET"
    plan = work.runtime.plan_for(call.prepared)
    headers = {**session_headers(session), **position.headers()}
    response = await exchange(call, plan, request_bytes(plan, work.head, headers, b"", method="GET"), repeatable=True)
    try:
        if response.status != 200 or not is_event_stream(response):
            return response.status
        call.enter(Phase.STREAM, settings.MAX_STREAM_SECONDS)
        call.rights_end(call.prepared)
        hearing.opened.set()
        if missed:
            # What changed while nobody listened is not known, so the lists are read again.
            refresh_catalogue(work)
        async for event in events_of(response, position):
            tries.heard()
            said = message_of(event)
            if said is not None:
                await _take_from_session(work, session, hearing, said)
    finally:
        _drop(response)
    return response.status


async def _take_from_session(work: Engaged, session: Session, hearing: Hearing, said: Mapping[str, Any]) -> None:
    method = said.get("method")
    if not isinstance(method, str):
        return
    if "id" in said:
        answer = result(said["id"], {}) if method == "ping" else _nobody_to_ask(said["id"])
        with suppress(*TROUBLE):
            await tell(work, session, answer)
    elif method.endswith("/list_changed"):
        refresh_catalogue(work)
    elif method in _PASSED_ON:
        await hearing.tell(said, once=not work.client.modern)


def _nobody_to_ask(asked_as: Any) -> dict[str, Any]:
    return error(asked_as, METHOD_NOT_FOUND, "Nobody can be asked outside of a call.")


async def subscribe_each(work: Engaged, member: MemberFacts, uris: frozenset[str]) -> frozenset[str]:
    """Watch resources in the session at an older member, opening one if need be; returns those that it agreed to."""
    agreed = set()
    for uri in sorted(uris):
        with suppress(*TROUBLE):
            said = await _ask(work, member, "resources/subscribe", {"uri": uri})
            if "result" in said:
                agreed.add(uri)
    return frozenset(agreed)


async def _ask(work: Engaged, member: MemberFacts, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """A request to an older member whose answer is of no interest beyond its kind. Raises `TROUBLE`."""
    member_call = MemberCall(work.call, work.runtime, work.head, work.client, member, False, method, params, {})
    try:
        await member_call.send()
        async for said in member_call.messages():
            if "method" not in said:
                return said
            if "id" in said and member_call.session is not None:
                await tell(work, member_call.session, _nobody_to_ask(said["id"]))
    finally:
        member_call.close()
    raise AssertionError("messages() ends with a response")


# A modern member


def _nobody_waits(_: Wanted) -> None:
    """For what is acknowledged already."""


def keep_subscription(
    engaged: Engaged, member: MemberFacts, wanted: Wanted, agreed: Callable[[Wanted], None] = _nobody_waits
) -> Keep:
    """Keep a listening request at a modern member. `agreed` hears what it agreed to, nothing after a failure."""

    async def keep(hearing: Hearing) -> None:
        tries, honoured = _Tries(), dict[str, Any]()
        while True:
            try:
                asked = Message(Kind.REQUEST, None, LISTEN, "", modern=True, version="", client="")
                async with (
                    beside(engaged, member, message=asked) as work,
                    aclosing(_listened(work, member, wanted)) as notifications,
                ):
                    async for said in notifications:
                        tries.heard()
                        if said["method"] == ACKNOWLEDGED:
                            # What changed while nobody listened is not known, so it counts as changed.
                            await _tell_all(hearing, honoured)
                            honoured = _filter_of(said)
                            agreed(honoured)
                            hearing.opened.set()
                        elif said["method"].endswith("/list_changed"):
                            refresh_catalogue(work)
                        elif said["method"] == UPDATED:
                            await hearing.tell(said, once=False)
            except NotReady:
                return agreed({})
            except Stopped as stopped:
                agreed({})
                _hand_over(stopped)
            except TROUBLE:
                pass
            agreed({})
            if not await tries.again():
                return

    return keep


async def _listened(work: Engaged, member: MemberFacts, wanted: Wanted) -> AsyncGenerator[dict[str, Any], None]:
    """The notifications of a listening request, until the member ends it. Raises `TROUBLE`."""
    params = {"notifications": wanted}
    client, call = work.client, work.call
    member_call = MemberCall(call, work.runtime, work.head, client, member, True, LISTEN, params, {})
    try:
        await member_call.send()
        call.enter(Phase.STREAM, settings.MAX_STREAM_SECONDS)
        call.rights_end(member_call.prepared)
        async for said in member_call.messages():
            if isinstance(said.get("method"), str) and "id" not in said:
                yield said
    finally:
        member_call.close()


def _filter_of(said: Mapping[str, Any]) -> Wanted:
    params = said.get("params")
    found = params.get("notifications") if isinstance(params, dict) else None
    return found if isinstance(found, dict) else {}


async def _tell_all(hearing: Hearing, honoured: Wanted) -> None:
    for uri in _uris(honoured):
        await hearing.tell({"jsonrpc": "2.0", "method": UPDATED, "params": {"uri": uri}}, once=False)


def _uris(found: Wanted) -> list[str]:
    uris = found.get("resourceSubscriptions")
    return [uri for uri in uris if isinstance(uri, str)] if isinstance(uris, list) else []


def _hand_over(stopped: Stopped) -> None:
    if stopped.why is EndedBy.REVOKED:
        raise HandOver from None


def _drop(response: Response) -> None:
    if not response.complete:
        response.close()
