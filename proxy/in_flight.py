"""Calls in flight, and the one timer that looks after all of them.

Four times a second the timer ends calls whose time is up, starts to watch for a disconnect where a call lasts,
sends comments on idle streams, and has the rights of open calls checked again when something changed. A timer
and a watching task for every call would cost more than the call.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from enum import StrEnum
from math import inf
from time import monotonic, time
from typing import Any, Final
from uuid import UUID

from django.conf import settings

from proxy.admissions import rights_until
from proxy.headers import Headers
from proxy.messages import NO_BODY, Message
from proxy.pipeline import Knock, NotConnected, Prepared, TokenDue
from proxy.upstream import Response
from servers import changes

TICK_SECONDS: Final = 0.25
_KEEP_ALIVE: Final = b": keep-alive\n\n"
_EVENT_ENDS: Final = (b"\n\n", b"\n\r\n", b"\r\r")
_LONGEST_END: Final = 3

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]


class Phase(StrEnum):
    """What a call waits for; the words stand in answers and records."""

    REQUEST = "request"
    CONNECT = "connect"
    RESPONSE = "response"
    STREAM = "stream"


class EndedBy(StrEnum):
    """Why the gateway ended a call before its end."""

    CLIENT = "client_disconnected"
    TIMEOUT = "timeout"
    STALLED = "client_stalled"
    REVOKED = "access_ended"
    SHUTDOWN = "shutdown"


class ActiveCall:
    """One request in flight: its way back to the client, its deadline, and what its record will say."""

    # What most calls never change stands here, so that a call is made cheaply.
    deadline = 0.0
    recheck_at = inf
    phase = Phase.REQUEST
    ended_by: EndedBy | None = None
    watchable = False
    watcher: asyncio.Task[None] | None = None
    started = False
    streaming = False
    mid_event = False
    tail = b""
    sending = False
    stalled_since = 0.0
    last_sent = 0.0
    prepared: Prepared | None = None
    response: Response | None = None
    cors: tuple[tuple[bytes, bytes], ...] = ()
    # The body of a request to a virtual server, parsed; on its way to the engine, which takes it away.
    parsed: Any = None
    # Set while the caller waits for a person to connect an account: something changed, look again.
    waiting: asyncio.Event | None = None
    # The client can open a page for its person (URL elicitation).
    opens_pages = False
    # For the record:
    message: Message = NO_BODY
    client = ""
    principal_id: int | None = None
    principal_label = ""
    credential = ""
    server_id: UUID | None = None
    decision = ""
    outcome = "ok"
    status = 0
    upstream_status: int | None = None
    bytes_in = 0
    bytes_out = 0

    def __init__(
        self,
        http_method: str,
        knock: Knock,
        request_id: str,
        receive: Receive,
        send: Send,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.http_method = http_method
        self.knock = knock
        self.request_id = request_id
        self.receive = receive
        self.send = send
        self.task = asyncio.current_task(loop)
        self.began = monotonic()
        self.changes_seen = _changes_seen

    def enter(self, phase: Phase, seconds: float) -> None:
        """Wait for something else from now on, for at most `seconds`."""
        self.phase = phase
        self.deadline = monotonic() + seconds

    def stop(self, why: EndedBy) -> None:
        """End the call from outside; its task learns why through `ended_by`."""
        if self.ended_by is None and self.task is not None:
            self.ended_by = why
            self.task.cancel()

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a complete answer."""
        self.started = True
        self.status = status
        self.bytes_out += len(body)
        if status != 204:
            headers.append((b"content-length", b"%d" % len(body)))
        headers += self.cors
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})

    async def start(self, status: int, headers: Headers) -> None:
        """Begin an answer whose body follows piece by piece."""
        self.started = True
        self.status = status
        self.last_sent = monotonic()
        headers += self.cors
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def flush(self) -> None:
        """Let the head of a begun answer go before there is any body."""
        await self.send({"type": "http.response.body", "body": b"", "more_body": True})

    async def piece(self, data: bytes) -> None:
        """Send a piece of the body; returns when the client's connection takes more."""
        self.bytes_out += len(data)
        self.mid_event = True
        self.sending = True
        await self.send({"type": "http.response.body", "body": data, "more_body": True})
        self.sending = False
        self.stalled_since = 0.0
        # The empty line that ends an event may come in two pieces.
        self.tail = data[-_LONGEST_END:] if len(data) >= _LONGEST_END else (self.tail + data)[-_LONGEST_END:]
        self.mid_event = not self.tail.endswith(_EVENT_ENDS)
        self.last_sent = monotonic()

    async def finish(self) -> None:
        """End a body that was sent in pieces."""
        self.sending = True
        await self.send({"type": "http.response.body", "body": b"", "more_body": False})

    async def comment(self) -> None:
        """Keep an idle event stream alive; only between two events, never inside one."""
        if self.streaming and not self.mid_event:
            self.last_sent = monotonic()
            self.sending = True
            await self.send({"type": "http.response.body", "body": _KEEP_ALIVE, "more_body": True})
            self.sending = False
            self.stalled_since = 0.0

    def rights_end(self, outcome: Prepared | TokenDue | NotConnected) -> None:
        """Note when what lets the caller in may have ended by itself: the key, a rule, or a file's value.

        A token that runs out meanwhile ends nothing: it opened the stream, and the next request takes a newer one.
        """
        now = time()
        self.recheck_at = rights_until(outcome.principal, outcome.server, now)
        if isinstance(outcome, Prepared) and outcome.credential.read_again_at is not None:
            self.recheck_at = min(self.recheck_at, now + outcome.credential.read_again_at - monotonic())

    async def watch(self) -> None:
        """Wait for the client to leave."""
        while (await self.receive())["type"] != "http.disconnect":
            pass
        self.stop(EndedBy.CLIENT)


Recheck = Callable[[ActiveCall], Awaitable[None]]


class InFlight:
    """All calls of one event loop."""

    def __init__(self, recheck: Recheck, sweep: Callable[[float], None]) -> None:
        self._calls: set[ActiveCall] = set()
        self._streams: Counter[str] = Counter()
        self._recheck = recheck
        self._sweep = sweep
        self._timer: asyncio.TimerHandle | None = None
        self._seen_changes = _changes_seen
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, call: ActiveCall) -> None:
        """Look after a call until `end`."""
        self._calls.add(call)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def end(self, call: ActiveCall) -> None:
        """The call is over."""
        self._calls.discard(call)
        if call.watcher is not None:
            call.watcher.cancel()
        if call.streaming and call.prepared is not None:
            credential = call.prepared.principal.credential
            self._streams[credential] -= 1
            if not self._streams[credential]:
                del self._streams[credential]

    def begin_stream(self, call: ActiveCall) -> bool:
        """Count a stream of the caller; False when it has too many already."""
        assert call.prepared is not None  # noqa: S101
        credential = call.prepared.principal.credential
        if self._streams[credential] >= settings.MAX_STREAMS_PER_CALLER:
            return False
        self._streams[credential] += 1
        call.streaming = True
        call.enter(Phase.STREAM, settings.MAX_STREAM_SECONDS)
        call.rights_end(call.prepared)
        return True

    def end_subscriptions(self) -> None:
        """The process is about to end: streams that only listen end now, for their clients to come back elsewhere."""
        for call in tuple(self._calls):
            if call.streaming and (call.http_method == "GET" or call.message.method == "subscriptions/listen"):
                call.stop(EndedBy.SHUTDOWN)

    def close(self) -> None:
        """The process ends: end every call and the timer."""
        for call in tuple(self._calls):
            call.stop(EndedBy.SHUTDOWN)
        if self._timer is not None:
            self._timer.cancel()

    def __len__(self) -> int:
        return len(self._calls)

    def _tick(self) -> None:
        # First of all: whatever happens below, the next tick comes.
        self._timer = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)
        now, clock = monotonic(), time()
        idle_since = now - settings.STREAM_KEEPALIVE_SECONDS
        recheck = self._seen_changes != _changes_seen
        self._seen_changes = _changes_seen
        for call in tuple(self._calls):
            if call.deadline and now >= call.deadline and not (call.sending and call.phase is Phase.RESPONSE):
                call.stop(EndedBy.TIMEOUT)
                continue
            if call.sending and self._is_stalled(call, now):
                call.stop(EndedBy.STALLED)
                continue
            if call.watcher is None and call.watchable and now - call.began >= TICK_SECONDS:
                call.watcher = asyncio.ensure_future(call.watch())
            if call.streaming and call.last_sent <= idle_since and not call.sending:
                self.spawn(call.comment())
            if (recheck or clock >= call.recheck_at) and call.prepared is not None:
                call.recheck_at = inf
                self.spawn(self._recheck(call))
        self._sweep(now)

    @staticmethod
    def _is_stalled(call: ActiveCall, now: float) -> bool:
        """Whether the client has taken nothing for too long: what waits for it is memory (T30)."""
        if not call.stalled_since:
            call.stalled_since = now
        return now - call.stalled_since >= settings.STALLED_CLIENT_SECONDS

    def spawn(self, coroutine: Any) -> None:
        """Run something beside the calls, to its end."""
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_WITHOUT_RIGHTS: Final = frozenset(("answer", "engine_session", "engine_cancel"))
"""Kinds of change that no right depends on: what replicas tell each other of sessions with the engine."""
_changes_seen = 0


def changes_seen() -> int:
    """How many changes this process has heard of; an `ActiveCall` remembers how many there were when it began."""
    return _changes_seen


def _on_change(kind: str, key: str) -> None:
    global _changes_seen
    if kind not in _WITHOUT_RIGHTS:
        _changes_seen += 1


changes.listen(_on_change)
