"""An HTTP client that sends exactly the bytes it is given."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

Pairs = Iterable[tuple[str, str]]


@dataclass
class Response:
    """A response as it came: header names and values in order."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The only value of a header (case does not matter), or None. Fails when it came more than once."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None

    def names(self) -> set[str]:
        """Names of all headers in lower case."""
        return {name.lower() for name, _ in self.headers}

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class RawConnection:
    """One connection; a context manager. Nothing is sent or followed that the test did not write."""

    def __init__(self, origin: str, *, timeout: float = 20.0) -> None:
        parts = urlsplit(origin)
        self._socket = socket.create_connection((parts.hostname or "", parts.port or 80), timeout=timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self._socket.makefile("rb")

    def __enter__(self) -> RawConnection:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Send these bytes."""
        self._socket.sendall(data)

    def close(self) -> None:
        """Leave."""
        self._stream.close()
        self._socket.close()

    def is_closed(self) -> bool:
        """Whether the server closes the connection without sending anything more; waits for it."""
        try:
            return self._stream.read(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    def read_all(self) -> bytes:
        """Everything until the server closes the connection, as it came."""
        pieces = []
        try:
            while piece := self._stream.read1(65536):
                pieces.append(piece)
        except ConnectionResetError:
            pass
        return b"".join(pieces)

    def line(self) -> bytes:
        """The next line as it came."""
        return self._stream.readline()

    def read(self, *, of: str = "POST") -> Response:
        """The next response, of a request with that method; interim (1xx) ones are not skipped."""
        status_line = self.line()
        assert status_line, "the connection was closed without a response"
        status = int(status_line.split(b" ")[1])
        headers = []
        while (line := self.line()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").rstrip("\r\n").partition(":")
            headers.append((name, value.strip()))
        response = Response(status, headers, b"")
        if of != "HEAD" and status >= 200 and status not in (204, 304):
            response.body = self._body(response)
        return response

    def _body(self, response: Response) -> bytes:
        if (response.header("transfer-encoding") or "").lower() == "chunked":
            pieces = []
            while size := int(self.line().split(b";")[0], 16):
                pieces.append(self._stream.read(size))
                assert self.line() == b"\r\n"
            assert self.line() == b"\r\n"
            return b"".join(pieces)
        length = response.header("content-length")
        return self._stream.read(int(length)) if length is not None else self._stream.read()


def encoded(method: str, url: str, headers: Pairs = (), body: bytes | None = None) -> bytes:
    """A request with exactly these headers, besides Host and Content-Length where they are not given."""
    parts = urlsplit(url)
    lines = list(headers)
    names = {name.lower() for name, _ in lines}
    if "host" not in names:
        lines.insert(0, ("Host", parts.netloc))
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        lines.append(("Content-Length", str(len(body))))
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    head = f"{method} {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines) + "\r\n"
    return head.encode("latin-1") + (body or b"")


def request(method: str, url: str, headers: Pairs | Mapping[str, str] = (), body: bytes | None = None) -> Response:
    """Send one request on a connection of its own and read its response."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    with RawConnection(url) as connection:
        connection.send(encoded(method, url, pairs, body))
        return connection.read(of=method)
