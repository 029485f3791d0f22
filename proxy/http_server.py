"""The HTTP/1.1 side of `manage.py serve`: a leaner protocol class for uvicorn.

uvicorn stays the server (sockets, workers, signals, lifespan); this replaces what it does for each request.
Against uvicorn's own class it writes head and first body in one piece, arms no timer and makes no Event for a
request, and it bounds what a client can make us hold: a request head has a size and a time limit, which
uvicorn's own has not. The application is plain ASGI and runs under uvicorn's class or Daphne as well.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any, Final
from urllib.parse import unquote
from weakref import WeakSet

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from proxy.http_exchange import Exchange
from proxy.known_head import KnownHead, known_head

LARGEST_HEAD: Final = 64 * 1024
HEAD_SECONDS: Final = 30.0
_SWEEP_SECONDS: Final = 5.0
_MOST_AHEAD: Final = 16
_MISSES_UNTIL_FORGOTTEN: Final = 8
_ASGI: Final = {"version": "3.0", "spec_version": "2.3"}
_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


_swept: WeakSet[ServerState] = WeakSet()


class LeanHttpProtocol(HttpToolsProtocol):
    """One client connection."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.quiet_since = monotonic()
        self.head_bytes = 0
        self.head_since = 0.0
        self.closing_since = 0.0
        self.waiting: Exchange | None = None
        self.in_head = False
        self.between_requests = True
        self.known_head: KnownHead | None = None
        self.head_misses = 0
        self.replaying = False
        if self.server_state not in _swept:
            _swept.add(self.server_state)
            self.loop.call_later(_SWEEP_SECONDS, _sweep, self.loop, self.server_state)

    def connection_lost(self, exc: Exception | None) -> None:
        self.connections.discard(self)
        for exchange in (self.cycle, *(entry[0] for entry in self.pipeline)):
            if exchange is not None and not exchange.response_complete:
                exchange.disconnect()  # type: ignore[attr-defined]
        self.flow.resume_writing()
        self.parser = None  # type: ignore[assignment]

    def shutdown(self) -> None:
        """The server stops: uvicorn waits for what is under way, which must not be streams that never end."""
        from proxy import runtime  # not above: uvicorn's workers import this module before Django is set up

        runtime.current_runtime().in_flight.end_subscriptions()
        super().shutdown()

    def data_received(self, data: bytes) -> None:
        began_between = self.between_requests
        if began_between and self.known_head is not None and self.cycle.response_complete:
            again = self.known_head.again(data)
            if again is not None:
                self.head_misses = 0
                self._serve_again(*again)
                return
        self.head_bytes += len(data)
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._reject()
            return
        if self.head_bytes > LARGEST_HEAD:
            self._reject(_TOO_LARGE)
            return
        # Started after the packet was read, when a small request is complete and never waits for its body.
        if self.waiting is not None:
            exchange, self.waiting = self.waiting, None
            if began_between and self.between_requests and self._is_worth_remembering(exchange):
                self.known_head = known_head(data, exchange.scope)
                self.head_misses = 0
            self._begin(exchange)

    def _is_worth_remembering(self, exchange: Exchange) -> bool:
        """Not the first request of a connection, which may be a stream that is all there ever is, by the thousand.

        And not each of a client whose heads take turns: remembering one costs more than it saves once.
        """
        self.head_misses += 1
        forgotten = self.known_head is None or self.head_misses >= _MISSES_UNTIL_FORGOTTEN
        return forgotten and exchange.keep_alive and self.cycle is not None

    def _serve_again(self, scope: dict[str, Any], body: bytes) -> None:
        """A complete request whose head is known: what the parser's callbacks below would have done."""
        self.head_bytes = 0
        self.head_since = 0.0
        self.incoming = exchange = Exchange(self, scope, keep_alive=True, expects=False)
        exchange.add_body(body)
        exchange.end_body()
        self._begin(exchange)

    def _reject(self, answer: bytes | None = None) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            # Anything written now would be taken for the answer that is still owed.
            self.transport.abort()
        elif answer is None:
            self.send_400_response("Invalid HTTP request received.")
        else:
            self.transport.write(answer)
            self.transport.close()

    def _ignore_upgrade(self, data: bytes) -> None:
        """No upgrade is offered: go on with the request's body (Java's client asks for h2c with every POST).

        The parser took the body for another protocol. A new one is put where it would be without the upgrade.
        """
        self.between_requests = False
        framing = [pair for pair in self.headers if pair[0] in (b"content-length", b"transfer-encoding")]
        if framing:
            self.incoming.expect_body()
        lines = b"".join(b"%b: %b\r\n" % pair for pair in framing or [(b"content-length", b"0")])
        self.parser = httptools.HttpRequestParser(self)
        self.replaying = True
        self.parser.feed_data(b"POST / HTTP/1.1\r\n" + lines + b"\r\n")
        self.replaying = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])

    def on_url(self, url: bytes) -> None:
        if not self.replaying:
            self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # What comes behind the body is no header: it was not there when the request was judged.
        if self.in_head:
            super().on_header(name, value)

    def on_message_begin(self) -> None:
        self.between_requests = False
        if self.replaying:
            return
        self.in_head = True
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        if self.replaying:
            return
        self.in_head = False
        raw_path, _, query = self.url.partition(b"?")
        path = raw_path.decode("latin-1")
        version = self.parser.get_http_version()
        self.head_bytes = 0
        self.head_since = 0.0
        self.quiet_since = 0.0
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": "",
            "headers": self.headers,
            "state": self.app_state,
            "method": self.parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query,
        }
        keep_alive = version == "1.1" and self.parser.should_keep_alive()
        exchange = Exchange(self, scope, keep_alive, self.expect_100_continue)
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy or self.waiting is not None:
            # Pipelined: wait for the answer before. Reading goes on, or nobody would see this client leave.
            if self.waiting is not None:
                first, self.waiting = self.waiting, None
                self._begin(first)
            if len(self.pipeline) >= _MOST_AHEAD:
                self.transport.abort()
            self.pipeline.appendleft((exchange, self.app))  # type: ignore[arg-type]
        else:
            self.waiting = exchange
        self.incoming = exchange

    def on_body(self, body: bytes) -> None:
        self.head_bytes = 0
        if not self.incoming.complete and self.incoming.add_body(body):
            if self.pipeline:
                self.transport.abort()
            else:
                self.flow.pause_reading()

    def on_message_complete(self) -> None:
        self.head_bytes = 0
        self.between_requests = True
        self.incoming.end_body()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self.quiet_since = monotonic()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            exchange, _ = self.pipeline.pop()
            self._begin(exchange)  # type: ignore[arg-type]

    def _begin(self, exchange: Exchange) -> None:
        self.cycle = exchange  # type: ignore[assignment]
        self.quiet_since = 0.0
        exchange.task = self.loop.create_task(exchange.run(self.app))
        self.tasks.add(exchange.task)

    def close_if_quiet(self, now: float) -> None:
        """Close a connection on which nothing has been asked, or a head has been coming, for too long."""
        if self.transport.is_closing():
            # Closed, but what is still to be written is not taken.
            self.closing_since = self.closing_since or now
            if now - self.closing_since > HEAD_SECONDS:
                self.transport.abort()
        elif self.head_bytes and self.quiet_since:
            self.head_since = self.head_since or now
            if now - self.head_since > HEAD_SECONDS:
                self.transport.close()
        elif self.quiet_since and now - self.quiet_since > self.timeout_keep_alive:
            self.transport.close()


def _sweep(loop: asyncio.AbstractEventLoop, state: ServerState) -> None:
    now = monotonic()
    for connection in list(state.connections):
        if isinstance(connection, LeanHttpProtocol):
            connection.close_if_quiet(now)
    loop.call_later(_SWEEP_SECONDS, _sweep, loop, state)
