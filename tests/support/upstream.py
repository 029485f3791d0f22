"""An upstream whose every byte a test decides, on a loopback socket, one thread a connection.

It keeps each request exactly as it came. What it answers is the return value of a function of the request:

* `Answer` or `json_answer(...)`: a well-formed response;
* `bytes`: these bytes, whatever they are;
* an iterable of `bytes`: piece by piece, so that a generator may wait for an Event between two pieces;
* `None`: the connection is closed without an answer.

After an answer the connection stays open for the next request; `HANG_UP` as the last piece closes it.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Any

HANG_UP = b""
"""As a piece of an answer: close the connection here."""


@dataclass
class Peer:
    """The gateway's end of one connection, as the upstream sees it."""

    number: int
    socket: socket.socket = field(repr=False)

    def left(self, *, within: float = 10.0) -> bool:
        """Whether the gateway closes the connection within so many seconds; only while it sends nothing."""
        self.socket.settimeout(within)
        try:
            return self.socket.recv(1, socket.MSG_PEEK) == b""
        except TimeoutError:
            return False
        except OSError:
            return True
        finally:
            self.socket.settimeout(None)


@dataclass
class Request:
    """One request as it came: names and values byte for byte (latin-1), in order."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    peer: Peer
    head: bytes = field(repr=False)

    def header(self, name: str) -> str | None:
        """The only value of a header (case does not matter), or None. Fails when it came more than once."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    def names(self) -> list[str]:
        """Names of all headers in lower case, in order."""
        return [name.lower() for name, _ in self.headers]

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def raw(self) -> bytes:
        """Head and body."""
        return self.head + self.body


@dataclass(frozen=True)
class Answer:
    """A well-formed response; Content-Length is set unless `headers` hold it or a Transfer-Encoding."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    close: bool = False

    def encoded(self) -> bytes:
        """The bytes of the response."""
        names = {name.lower() for name, _ in self.headers}
        headers = list(self.headers)
        if not names & {"content-length", "transfer-encoding"}:
            headers.append(("Content-Length", str(len(self.body))))
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Odd"
        return f"HTTP/1.1 {self.status} {phrase}\r\n{lines}\r\n".encode("latin-1") + self.body


Script = Callable[[Request], "Answer | bytes | Iterable[bytes] | None"]


def json_answer(payload: Any, status: int = 200, **headers: str) -> Answer:
    """A JSON response; underscores in header names stand for hyphens."""
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Answer(status, (("Content-Type", "application/json"), *pairs), json.dumps(payload).encode())


def result(request: Request, value: Any, **headers: str) -> Answer:
    """A JSON-RPC result for the request."""
    return json_answer({"jsonrpc": "2.0", "id": request.json().get("id"), "result": value}, **headers)


def event(payload: Any, event_id: str | None = None) -> bytes:
    """One server-sent event with a JSON-RPC message."""
    prefix = f"id: {event_id}\n" if event_id is not None else ""
    return f"{prefix}event: message\ndata: {json.dumps(payload)}\n\n".encode()


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


def mcp_server(request: Request) -> Answer:
    """A small legacy MCP server: a session, one tool that repeats its arguments, an empty list of all else."""
    if request.method == "DELETE":
        return Answer(200)
    if request.method != "POST":
        return Answer(405, (("Allow", "POST, DELETE"),))
    message = request.json()
    if isinstance(message, list) or "id" not in message or "method" not in message:
        return Answer(202)
    match message["method"]:
        case "initialize":
            opened = {
                "protocolVersion": message.get("params", {}).get("protocolVersion", "2025-11-25"),
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "scripted", "version": "1"},
            }
            return result(request, opened, Mcp_Session_Id=f"upstream-session-{request.peer.number}")
        case "tools/list":
            return result(request, {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]})
        case "tools/call":
            text = json.dumps(message["params"].get("arguments"))
            return result(request, {"content": [{"type": "text", "text": text}], "isError": False})
    return result(request, {})


class Upstream:
    """The server; a context manager. `script` may be replaced at any time."""

    def __init__(self, script: Script = mcp_server, *, tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self._tls = tls
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(128)
        self.port: int = self._listener.getsockname()[1]
        self.origin = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.url = f"{self.origin}/mcp"
        self.requests: list[Request] = []
        self.connections = 0
        self.failures: list[BaseException] = []
        """What scripts raised; looked at when the server ends."""
        self._arrived = threading.Condition()
        self._open: set[socket.socket] = set()
        self._ending = False

    def __enter__(self) -> Upstream:
        threading.Thread(target=self._accept, name="upstream", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._ending = True
        self.stop_listening()
        self.drop_connections()
        if self.failures and kind is None:
            raise self.failures[0]

    def wait_for(self, count: int, *, within: float = 10.0) -> list[Request]:
        """The requests so far, as soon as there are `count`; fails after so many seconds."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.requests) >= count, within), (
                f"{len(self.requests)} of {count} requests arrived"
            )
            return list(self.requests)

    def stop_listening(self) -> None:
        """Refuse new connections from now on; open ones stay."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def drop_connections(self) -> None:
        """Close every open connection."""
        for connection in list(self._open):
            _close(connection)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection, self.connections), daemon=True).start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
        except OSError:
            _close(connection)
            return
        self._open.add(connection)
        try:
            self._answer_all(connection, Peer(number, connection))
        except OSError:
            pass
        except Exception as error:
            if not self._ending:
                self.failures.append(error)
        finally:
            self._open.discard(connection)
            _close(connection)

    def _answer_all(self, connection: socket.socket, peer: Peer) -> None:
        stream = connection.makefile("rb")
        while (request := _read(stream, peer)) is not None:
            with self._arrived:
                self.requests.append(request)
                self._arrived.notify_all()
            answer = self.script(request)
            if answer is None:
                return
            if isinstance(answer, Answer):
                connection.sendall(answer.encoded())
                if answer.close:
                    return
            elif isinstance(answer, bytes):
                connection.sendall(answer)
            else:
                for piece in answer:
                    if piece == HANG_UP:
                        return
                    connection.sendall(piece)


def _read(stream: Any, peer: Peer) -> Request | None:
    lines = []
    while True:
        line = stream.readline()
        if not line:
            return None
        lines.append(line)
        if line == b"\r\n":
            break
    method, target, _ = lines[0].decode("latin-1").rstrip("\r\n").split(" ", 2)
    headers = []
    for line in lines[1:-1]:
        name, _, value = line.decode("latin-1").rstrip("\r\n").partition(":")
        headers.append((name, value.removeprefix(" ")))
    known = {name.lower(): value for name, value in headers}
    body = b""
    if "content-length" in known:
        length = int(known["content-length"])
        body = stream.read(length)
        if len(body) < length:
            return None
    return Request(method, target, headers, body, peer, b"".join(lines))


def _close(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
