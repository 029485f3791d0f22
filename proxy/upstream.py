"""One connection to an upstream: HTTP/1.1, one exchange at a time; `pool.py` keeps them.

Made of httptools on asyncio protocols, because ready-made clients cost several times the whole rest of a call.
It never repeats anything: whether a failed exchange may be repeated is decided in `forward.py`, which is told
what had happened when it failed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, cast

import httptools

# What one response's status line and headers may take, and how much of a body may wait for the client.
LARGEST_HEAD: Final = 64 * 1024
HIGH_WATER: Final = 256 * 1024


class Phase(StrEnum):
    """Where an exchange failed."""

    ADDRESS = "address"
    CONNECT = "connect"
    TLS = "tls"
    RESPONSE = "response"
    BODY = "body"


class UpstreamError(Exception):
    """An exchange that failed. `sent` is False when not one byte of the request can have arrived."""

    def __init__(self, phase: Phase, detail: str, *, sent: bool) -> None:
        super().__init__(f"{phase}: {detail}")
        self.phase = phase
        self.detail = detail
        self.sent = sent


class Response:
    """The answer of one exchange, filled while it arrives."""

    __slots__ = (
        "_buffered",
        "_chunks",
        "_connection",
        "_head_waiter",
        "_loop",
        "_waiter",
        "complete",
        "error",
        "head_complete",
        "headers",
        "length",
        "received",
        "reusable",
        "status",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection: Connection | None = connection
        self._loop = connection.loop
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._waiter: asyncio.Future[None] | None = None
        self._head_waiter: asyncio.Future[None] | None = None
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        """By name in lower case; of headers that came more than once, the first."""
        self.head_complete = False
        self.length: int | None = None
        self.complete = False
        self.error: UpstreamError | None = None
        self.received = 0
        self.reusable = False

    def head(self) -> asyncio.Future[None]:
        """Wait for status and headers; raises UpstreamError. A future, so that no coroutine stands between."""
        self._head_waiter = waiter = self._loop.create_future()
        self._tell_head()
        return waiter

    def _tell_head(self) -> None:
        waiter = self._head_waiter
        if waiter is None or waiter.done():
            return
        if self.head_complete:
            waiter.set_result(None)
        elif self.error is not None:
            waiter.set_exception(self.error)

    async def chunk(self) -> bytes:
        """What has arrived of the body since the last call; empty at its end. Raises UpstreamError."""
        while not self._chunks:
            if self.complete:
                return b""
            if self.error is not None:
                raise self.error
            await self._wait()
        return self.take()

    def take(self) -> bytes:
        """What has arrived so far, without waiting; reading goes on if it had been paused."""
        chunks = self._chunks
        if len(chunks) == 1:
            data = chunks.popleft()
        else:
            data = b"".join(chunks)
            chunks.clear()
        if self._buffered > HIGH_WATER and self._connection is not None:
            self._connection.resume()
        self._buffered = 0
        return data

    def put_back(self, data: bytes) -> None:
        """Have a piece that was looked at read once more."""
        if data:
            self._chunks.appendleft(data)
            self._buffered += len(data)

    def close(self) -> None:
        """Give the exchange up: the connection is closed, which is how an upstream learns of it (T49)."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def wake(self) -> None:
        """Continue whoever waits for this response."""
        if self._head_waiter is not None:
            self._tell_head()
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def add(self, data: bytes) -> bool:
        """Keep a piece of the body; returns True when reading should pause."""
        self._chunks.append(data)
        self._buffered += len(data)
        self.received += len(data)
        return self._buffered > HIGH_WATER

    def finish(self, reusable: bool) -> None:
        """The body is complete; the connection is no longer ours."""
        self.complete = True
        self.reusable = reusable
        self._connection = None

    def fail(self, error: UpstreamError) -> None:
        """The exchange ended before its end."""
        if not self.complete and self.error is None:
            self.error = error
            self._connection = None
            self.wake()


class Connection(asyncio.Protocol):
    """One connection to an upstream, with at most one exchange in flight."""

    __slots__ = (
        "_head_bytes",
        "_parser",
        "_paused",
        "_release",
        "_response",
        "_transport",
        "_until_close",
        "idle_since",
        "keep_alive_for",
        "loop",
        "used",
    )

    def __init__(self, release: Callable[[Connection], None], loop: asyncio.AbstractEventLoop) -> None:
        # Asking for the running loop costs a system call on some machines.
        self.loop = loop
        self._release = release
        self._parser: Any = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._response: Response | None = None
        self._head_bytes = 0
        self._paused = False
        self._until_close = False
        self.idle_since = 0.0
        self.keep_alive_for: float | None = None
        self.used = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are not subclasses

    @property
    def open(self) -> bool:
        """Whether an exchange can begin on it."""
        return self._transport is not None and not self._transport.is_closing()

    def send(self, request: bytes) -> Response:
        """Begin an exchange: write head and body of a request in one piece."""
        assert self._transport is not None  # noqa: S101
        response = self._response = Response(self)
        self._head_bytes = 0
        self._until_close = False
        self._transport.write(request)
        return response

    def resume(self) -> None:
        """Read on after a pause."""
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once, without waiting for what is still to be written."""
        self._response = None
        if self._transport is not None:
            self._transport.abort()

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        response = self._response
        if response is None:
            # An upstream that speaks unasked cannot be trusted to answer the next request.
            self.abort()
            return
        if not response.head_complete:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._break("switched protocols unasked")
        except httptools.HttpParserError as error:
            # Possibly behind the end of the response, which is then complete and waited for all the same.
            self._break(f"not HTTP: {error}")
        else:
            if not response.head_complete and self._head_bytes > LARGEST_HEAD:
                self._break("response headers too large")
        response.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        response, self._response = self._response, None
        self._transport = None
        if response is None:
            return
        if response.head_complete and self._until_close and exc is None:
            response.finish(reusable=False)
            response.wake()
            return
        phase = Phase.BODY if response.head_complete else Phase.RESPONSE
        response.fail(UpstreamError(phase, str(exc or "closed the connection"), sent=True))

    # httptools

    def on_message_begin(self) -> None:
        if self._response is None:
            # A second response to one request: its rest would be taken for the answer to the next one.
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._response is not None:
            self._response.headers.setdefault(name.lower(), value)

    def on_headers_complete(self) -> None:
        response = self._response
        if response is None:
            return
        status = self._parser.get_status_code()
        if status < 200:
            response.headers.clear()
            return
        response.status = status
        length = response.headers.get(b"content-length")
        if length is not None and length.isdigit():
            response.length = int(length)
        elif status not in (204, 304):
            encoding = response.headers.get(b"transfer-encoding")
            self._until_close = encoding is None or b"chunked" not in encoding.lower()
        self.keep_alive_for = _keep_alive_seconds(response.headers.get(b"keep-alive"))
        response.head_complete = True

    def on_body(self, body: bytes) -> None:
        response = self._response
        if response is not None and response.add(body) and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        response = self._response
        if response is None or not response.head_complete:
            return
        self._response = None
        reusable = self.open and self._parser.should_keep_alive()
        response.finish(reusable)
        if reusable:
            self.resume()
            self._release(self)
        elif self._transport is not None:
            self._transport.close()

    def _break(self, why: str) -> None:
        response = self._response
        self.abort()
        if response is not None:
            phase = Phase.BODY if response.head_complete else Phase.RESPONSE
            response.fail(UpstreamError(phase, why, sent=True))


def _keep_alive_seconds(value: bytes | None) -> float | None:
    """How long the upstream keeps an idle connection, less a second for the way (`Keep-Alive: timeout=5`)."""
    if value is None:
        return None
    for part in value.split(b","):
        key, _, seconds = part.strip().partition(b"=")
        if key.lower() == b"timeout" and seconds.isdigit():
            return max(0.0, int(seconds) - 1.0)
    return None
