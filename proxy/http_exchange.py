"""One request and its answer on a connection of `http_server.py`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

if TYPE_CHECKING:
    from proxy.http_server import LeanHttpProtocol

_BODY_HIGH_WATER: Final = 64 * 1024
_WITHOUT_BODY: Final = frozenset((204, 304))


class Exchange:
    """One request and its answer: the `receive` and `send` of the application."""

    __slots__ = (
        "_body",
        "_body_given",
        "_chunked",
        "_expects_continue",
        "_head",
        "_keep_alive",
        "_left",
        "_more",
        "_protocol",
        "_responding",
        "_waiter",
        "_without_body",
        "complete",
        "disconnected",
        "scope",
        "task",
    )

    def __init__(self, protocol: LeanHttpProtocol, scope: dict[str, Any], keep_alive: bool, expects: bool) -> None:
        self._protocol = protocol
        self.scope = scope
        self._keep_alive = keep_alive
        self._expects_continue = expects
        self._without_body = scope["method"] == "HEAD"
        self._body = b""
        self._more = True
        self._waiter: asyncio.Future[None] | None = None
        self._responding = False
        self._head = b""
        self._chunked = False
        self._left: int | None = None
        self._body_given = False
        self.complete = False
        self.disconnected = False
        self.task: asyncio.Task[None] | None = None

    # What uvicorn asks of its own class when it shuts down:

    @property
    def response_complete(self) -> bool:
        return self.complete

    @property
    def keep_alive(self) -> bool:
        return self._keep_alive

    @keep_alive.setter
    def keep_alive(self, value: bool) -> None:
        self._keep_alive = value

    async def run(self, application: Any) -> None:
        """Run the application for this request."""
        protocol = self._protocol
        try:
            await application(self.scope, self.receive, self.send)
        except BaseException as error:
            if not isinstance(error, asyncio.CancelledError):
                protocol.logger.error("Exception in ASGI application", exc_info=error)
            if not self._responding and not self.disconnected:
                protocol.transport.write(STATUS_LINE[500] + b"content-length: 0\r\nconnection: close\r\n\r\n")
            protocol.transport.close()
        else:
            if not self.complete and not self.disconnected:
                # An answer without its end. Closing would wait for a client that does not read.
                if protocol.flow.write_paused:
                    protocol.transport.abort()
                else:
                    protocol.transport.close()
        finally:
            if self.task is not None:
                protocol.tasks.discard(self.task)

    def add_body(self, data: bytes) -> bool:
        """A piece of the request's body came; returns True when reading should pause."""
        self._body = self._body + data if self._body else data
        self._wake()
        return len(self._body) > _BODY_HIGH_WATER

    def expect_body(self) -> None:
        """The body is still to come, though the parser had said it was complete."""
        self._more = True

    def end_body(self) -> None:
        """The request is complete."""
        self._more = False
        self._wake()

    def disconnect(self) -> None:
        """The client is gone."""
        self.disconnected = True
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def receive(self) -> dict[str, Any]:
        """ASGI `receive`: body pieces, then, once it happens, the disconnect."""
        if self._expects_continue:
            self._expects_continue = False
            self._protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while True:
            if self.disconnected or self.complete:
                return {"type": "http.disconnect"}
            if self._body or not (self._more or self._body_given):
                return self._next_piece()
            self._protocol.flow.resume_reading()
            self._waiter = self._protocol.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def _next_piece(self) -> dict[str, Any]:
        body, self._body = self._body, b""
        self._body_given = not self._more
        return {"type": "http.request", "body": body, "more_body": self._more}

    async def send(self, message: Any) -> None:
        """ASGI `send`: the head waits for the first piece of the body and leaves with it."""
        protocol = self._protocol
        if protocol.flow.write_paused and not self.disconnected:
            await protocol.flow.drain()
        if self.disconnected:
            return
        if not self._responding:
            self._begin(message["status"], message.get("headers", ()))
            return
        if self.complete:
            raise RuntimeError("the response is already complete")
        body: bytes = message.get("body", b"")
        more: bool = message.get("more_body", False)
        protocol.transport.write(self._head + self._framed(body, more))
        self._head = b""
        if not more:
            if self._left:
                raise RuntimeError("the response is shorter than its Content-Length")
            self.complete = True
            self._wake()
            if not self._keep_alive:
                protocol.transport.close()
            protocol.on_response_complete()

    def _begin(self, status: int, headers: Any) -> None:
        self._responding = True
        if self._expects_continue and self._more:
            # Whether the body follows all the same is up to the client (RFC 9110 10.1.1).
            self._keep_alive = False
        self._expects_continue = False
        self._without_body = self._without_body or status in _WITHOUT_BODY
        lines, length, closes = _response_lines(status, headers)
        if closes:
            self._keep_alive = False
        if not self._without_body:
            self._left = length
            if length is None:
                if self.scope["http_version"] == "1.1":
                    self._chunked = True
                    lines += b"transfer-encoding: chunked\r\n"
                else:
                    self._keep_alive = False
        self._head = lines + (b"\r\n" if self._keep_alive else b"connection: close\r\n\r\n")

    def _framed(self, body: bytes, more: bool) -> bytes:
        if self._without_body:
            return b""
        if self._chunked:
            piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return piece if more else piece + b"0\r\n\r\n"
        if self._left is not None:
            self._left -= len(body)
            if self._left < 0:
                raise RuntimeError("the response is longer than its Content-Length")
        return body


def _response_lines(status: int, headers: Any) -> tuple[bytes, int | None, bool]:
    """Status and header lines; the length they declare; whether they close the connection."""
    parts = [STATUS_LINE[status]]
    length, closes = None, False
    for name, value in headers:
        lowered = name.lower()
        if lowered == b"content-length":
            length = int(value)
        elif lowered == b"connection":
            closes = closes or value.lower() == b"close"
            continue
        parts.append(b"%b: %b\r\n" % (name, value))
    lines = b"".join(parts)
    # One line break a line: a header with one inside would be a second header (T53).
    if not lines.count(b"\n") == lines.count(b"\r") == len(parts):
        raise RuntimeError("a response header holds a line break")
    return lines, length, closes
