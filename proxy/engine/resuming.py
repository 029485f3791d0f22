"""Event streams of older members that end before their end, and are taken up again (2025-11-25, "polling").

Such a server gives its events ids, closes the connection when it likes, and says after how long to come back. What
was read is not sent again, and the request itself is never repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from jiter import from_json

from proxy.engine.legacy_sessions import session_headers
from proxy.engine.requests import request_bytes
from proxy.engine.sse import Event, EventReader
from proxy.exchanges import exchange
from proxy.in_flight import Phase
from proxy.upstream import Phase as UpstreamPhase
from proxy.upstream import Response, UpstreamError

if TYPE_CHECKING:
    from proxy.engine.member_call import MemberCall

MOST_TIMES_IN_VAIN: Final = 20
"""A stream that was taken up so often, one after the other, without a single event, is given up."""
_DELAY_SECONDS: Final = 1.0
_SHORTEST_SECONDS: Final = 0.05
_LONGEST_SECONDS: Final = 60.0


class Position:
    """Up to where a stream was read, and after how long to come back."""

    def __init__(self) -> None:
        self.last = ""
        """The id of the last event; empty: the server gave none, so the stream cannot be taken up."""
        self.delay = _DELAY_SECONDS

    def note(self, event: Event) -> None:
        """An event was read."""
        if event.id is not None:
            self.last = event.id
        if event.retry is not None:
            self.delay = min(max(event.retry / 1000, _SHORTEST_SECONDS), _LONGEST_SECONDS)

    def headers(self) -> dict[bytes, bytes]:
        """What a GET carries to go on from here."""
        legal = self.last.isascii() and self.last.isprintable()
        return {b"last-event-id": self.last.encode()} if self.last and legal else {}


async def events_of(response: Response, position: Position) -> AsyncIterator[Event]:
    """The events of a stream, noting where it is. Raises EventTooLarge and UpstreamError."""
    reader = EventReader(settings.MAX_RESPONSE_BYTES)
    while piece := await response.chunk():
        for event in reader.feed(piece):
            position.note(event)
            yield event


def message_of(event: Event) -> dict[str, Any] | None:
    """The JSON-RPC message in an event; None when there is none."""
    if not event.data:
        return None
    try:
        found = from_json(event.data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def is_event_stream(response: Response) -> bool:
    """Whether the body is one."""
    return (response.headers.get(b"content-type") or b"").lower().startswith(b"text/event-stream")


async def messages_of(member_call: MemberCall) -> AsyncIterator[dict[str, Any]]:
    """The messages of the stream that answers a call, and of those that continue it. Raises as `events_of`."""
    position, ends, in_vain = Position(), monotonic() + settings.MAX_STREAM_SECONDS, 0
    while True:
        assert member_call.response is not None  # noqa: S101
        try:
            async for event in events_of(member_call.response, position):
                in_vain = 0
                message = message_of(event)
                if message is not None:
                    yield message
        except UpstreamError:
            if member_call.session is None or not position.headers():
                raise
        resumable = member_call.session is not None and bool(position.headers())
        if not resumable or in_vain >= MOST_TIMES_IN_VAIN or monotonic() > ends:
            return
        in_vain += 1
        await _take_up(member_call, position)


async def _take_up(member_call: MemberCall, position: Position) -> None:
    """Put the stream's continuation in place of its response. Raises UpstreamError when there is none."""
    call, prepared = member_call.call, member_call.prepared
    assert member_call.session is not None  # noqa: S101
    member_call.close()
    call.enter(Phase.RESPONSE, position.delay + prepared.server.response_timeout)
    await asyncio.sleep(position.delay)
    plan = member_call.runtime.plan_for(prepared)
    headers = {**session_headers(member_call.session), **position.headers()}
    data = request_bytes(plan, member_call.head, headers, b"", method="GET")
    member_call.response = response = await exchange(call, plan, data, repeatable=True)
    if response.status != 200 or not is_event_stream(response):
        member_call.close()
        detail = f"the stream cannot be taken up again (HTTP {response.status})"
        raise UpstreamError(UpstreamPhase.BODY, detail, sent=True)
    if call.streaming:
        call.enter(Phase.STREAM, settings.MAX_STREAM_SECONDS)
