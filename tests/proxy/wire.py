"""Both ends of the gateway as plain sockets, played by one test in the order in which it says so.

The test is the client and the upstream at once, so it decides what has been sent when, without a sleep: every
wait is a blocking read with a limit, and a limit that is reached fails the test.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from servers.models import Server
from tests.conftest import allow_private

GUARD = 20.0
"""Seconds until a wait gives up; none lasts so long when the code is right."""

MODERN = "2026-07-28"
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Broken(Exception):
    """The other side closed before its message was complete."""


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of `condition`; fails with `what` when there is none in time."""
    ends = time.monotonic() + GUARD
    while time.monotonic() < ends:
        if value := condition():
            return value
        time.sleep(0.01)  # the pace of asking, not a wait for something to have happened
    raise AssertionError(f"waited in vain: {what}")


class Wire:
    """One connection, read and written by hand."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.settimeout(GUARD)
        self._held = b""

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def until(self, mark: bytes) -> bytes:
        """Everything up to and including `mark`. Raises Broken."""
        while mark not in self._held:
            self._read()
        end = self._held.index(mark) + len(mark)
        found, self._held = self._held[:end], self._held[end:]
        return found

    def exactly(self, count: int) -> bytes:
        """This many bytes. Raises Broken."""
        while len(self._held) < count:
            self._read()
        found, self._held = self._held[:count], self._held[count:]
        return found

    def rest(self) -> bytes:
        """Everything until the other side closes, in whichever way."""
        try:
            while True:
                self._read()
        except Broken:
            return self._held

    def silent(self) -> bool:
        """Whether nothing is there to read at this moment."""
        self.socket.setblocking(False)
        try:
            self._read()
        except BlockingIOError:
            return not self._held
        finally:
            self.socket.settimeout(GUARD)
        return False

    def close(self) -> None:
        """Leave as a client or server does whose process ended."""
        self.socket.close()

    def reset(self) -> None:
        """Leave without a good-bye (RST)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def _read(self) -> None:
        try:
            data = self.socket.recv(65536)
        except ConnectionError as error:
            raise Broken(self._held) from error
        if not data:
            raise Broken(self._held)
        self._held += data


class Asked(Wire):
    """The upstream's end of one connection: what the gateway asked, and what is answered."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self.head = b""
        self.body = b""

    def read_request(self) -> Asked:
        """Read one request of the gateway."""
        self.head = self.until(b"\r\n\r\n")
        length = self.headers.get("content-length", "0")
        self.body = self.exactly(int(length))
        return self

    @property
    def http_method(self) -> str:
        return self.head.split(b" ", 1)[0].decode()

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}

    def answer(self, body: bytes, *, status: str = "200 OK", content_type: str = "application/json") -> None:
        """A complete answer."""
        self.send(
            f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body
        )

    def answer_result(self, **more: Any) -> bytes:
        """A JSON-RPC result for the request that was read; returns its bytes."""
        body = json.dumps({"jsonrpc": "2.0", "id": json.loads(self.body)["id"], "result": {"content": [], **more}})
        self.answer(body.encode())
        return body.encode()

    def start_stream(self) -> None:
        """The head of an event stream."""
        self.send(STREAM_HEAD)

    def piece(self, data: bytes) -> None:
        """One chunk."""
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def end_stream(self) -> None:
        self.send(b"0\r\n\r\n")

    def left_by_gateway(self) -> bool:
        """Wait until the gateway closes this connection; True when it said nothing more before."""
        return self.rest() == b""


class RawUpstream:
    """A listening socket that answers nothing by itself."""

    def __init__(self, backlog: int = 64) -> None:
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(backlog)
        self._listener.settimeout(GUARD)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self._accepted: list[Asked] = []

    def accept(self) -> Asked:
        """The next connection, not read yet."""
        connection, _ = self._listener.accept()
        asked = Asked(connection)
        self._accepted.append(asked)
        return asked

    def request(self) -> Asked:
        """The next connection and its first request."""
        return self.accept().read_request()

    def nobody_came(self) -> bool:
        """Whether no connection is waiting to be accepted."""
        self._listener.setblocking(False)
        try:
            self.accept()
        except BlockingIOError:
            return True
        finally:
            self._listener.settimeout(GUARD)
        return False

    def close(self) -> None:
        for asked in self._accepted:
            asked.close()
        self._listener.close()

    def front(self, server: Server, **settings: Any) -> Server:
        """Make this the upstream of a registered server."""
        allow_private(self.url)
        for name, value in {"url": self.url, **settings}.items():
            setattr(server, name, value)
        server.save()
        return server


class Caller(Wire):
    """A client's connection to the gateway."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        connection = socket.socket()
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(GUARD)
        try:
            connection.connect(("127.0.0.1", port))
        except OSError:
            connection.close()
            raise
        super().__init__(connection)
        self.status = 0
        self.headers: dict[str, str] = {}

    def ask(
        self,
        path: str,
        *,
        key: str | None,
        method: str = "POST",
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        length: int | None = None,
    ) -> Caller:
        """Send one request; `length` declares another size than the body has."""
        lines = {"Host": "127.0.0.1", "Accept": "application/json, text/event-stream", **(headers or {})}
        if key is not None:
            lines["Authorization"] = f"Bearer {key}"
        if method == "POST":
            lines.setdefault("Content-Type", "application/json")
            lines["Content-Length"] = str(len(body) if length is None else length)
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)
        return self

    def call(
        self, path: str, *, key: str | None, tool: str = "add", modern: bool = False, method: str = "tools/call"
    ) -> Caller:
        """Send one tool call (or another request) of an era."""
        body, headers = message(method, tool=tool, modern=modern)
        return self.ask(path, key=key, body=body, headers=headers)

    def read_head(self) -> int:
        """Read status and headers of the answer."""
        head = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        self.status = int(head[0].split(" ")[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        return self.status

    def chunk(self) -> bytes:
        """The next chunk; empty for the last. Raises Broken."""
        size = int(self.until(b"\r\n"), 16)
        return self.exactly(size + 2)[:-2]

    def event(self) -> bytes:
        """The next event of a stream, keep-alive comments left out."""
        while True:
            found = b""
            while not found.endswith((b"\n\n", b"\r\n\r\n")):
                found += self._chunk_or_fail()
            if found != b": keep-alive\n\n":
                return found

    def _chunk_or_fail(self) -> bytes:
        chunk = self.chunk()
        assert chunk, "the stream ended"
        return chunk

    def read_body(self) -> bytes:
        """The whole body after `read_head`. Raises Broken when it is not complete."""
        if "content-length" in self.headers:
            return self.exactly(int(self.headers["content-length"]))
        pieces = []
        while piece := self.chunk():
            pieces.append(piece)
        return b"".join(pieces)

    def answer(self) -> Any:
        """Head and JSON body."""
        self.read_head()
        return json.loads(self.read_body())


def message(method: str = "tools/call", *, tool: str = "add", modern: bool = False) -> tuple[bytes, dict[str, str]]:
    """Body and routing headers of one request."""
    params: dict[str, Any] = {"name": tool, "arguments": {"a": 1, "b": 2}} if method == "tools/call" else {}
    headers = {}
    if modern:
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1"},
        }
        headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method}
        if method == "tools/call":
            headers["Mcp-Name"] = tool
    body = json.dumps({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
    return body.encode(), headers


class Stage:
    """One upstream, one gateway, one key: what most tests of the path need."""

    def __init__(self, port: int, server: Server, key: str, upstream: RawUpstream) -> None:
        self.port = port
        self.server = server
        self.key = key
        self.upstream = upstream
        self.path = f"/{server.tenant.slug}/mcp/{server.slug}/server"
        self._callers: list[Caller] = []

    def caller(self, *, receive_buffer: int | None = None, port: int | None = None) -> Caller:
        """A new connection to the gateway, or to another one on `port`."""
        caller = Caller(port or self.port, receive_buffer=receive_buffer)
        self._callers.append(caller)
        return caller

    def call(self, *, modern: bool = False, tool: str = "add", method: str = "tools/call") -> tuple[Caller, Asked]:
        """A call that has arrived at the upstream and is not answered yet."""
        caller = self.caller().call(self.path, key=self.key, tool=tool, modern=modern, method=method)
        return caller, self.upstream.request()

    def stream(self, *, http_method: str = "POST", modern: bool = False) -> tuple[Caller, Asked]:
        """An open event stream of which only the head has been sent."""
        if http_method == "GET":
            caller = self.caller().ask(self.path, key=self.key, method="GET")
            asked = self.upstream.request()
        else:
            caller, asked = self.call(modern=modern)
        asked.start_stream()
        assert caller.read_head() == 200
        return caller, asked

    def close(self) -> None:
        for caller in self._callers:
            caller.close()
        self.upstream.close()


@contextmanager
def staged(port: int, server: Server, key: str, **settings: Any) -> Iterator[Stage]:
    """A stage on a gateway that listens on `port`; `settings` are fields of the server's row."""
    upstream = RawUpstream()
    stage = Stage(port, upstream.front(server, **settings), key, upstream)
    try:
        yield stage
    finally:
        stage.close()
