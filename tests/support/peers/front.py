"""A loopback front that adds a credential for programs that cannot send headers of their own.

Every connection carries one request: the head is rewritten, everything after it is passed on byte by byte in
both directions, unbuffered. `Host` and `Origin` are replaced only where they name the front itself; a foreign
one is passed on, because the conformance suite sends it to see it refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from types import TracebackType
from urllib.parse import urlsplit

_LOOPBACK = {"localhost", "127.0.0.1", "[::1]"}
_HEAD_LIMIT = 65_536


def _is_own(authority: str, *, port: int) -> bool:
    host, _, given_port = authority.rpartition(":")
    return host in _LOOPBACK and given_port == str(port)


def rewrite_head(head: bytes, *, target: str, port: int, headers: dict[str, str]) -> bytes:
    """The request head for `target` (host:port), with `headers` added or replaced."""
    request_line, *lines = head.decode("latin-1").split("\r\n")
    kept = []
    for line in lines:
        name, _, value = line.partition(":")
        lowered, text = name.lower(), value.strip()
        if lowered in {header.lower() for header in headers} or lowered in ("connection", "keep-alive"):
            continue
        if lowered == "host" and _is_own(text, port=port):
            line = f"Host: {target}"
        elif lowered == "origin" and _is_own(text.partition("://")[2], port=port):
            line = f"Origin: http://{target}"
        kept.append(line)
    added = [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([request_line, *kept, *added, "Connection: close", "", ""]).encode("latin-1")


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(65_536):
            writer.write(chunk)
            await writer.drain()


class Front:
    """The front in a thread of its own; `url` stands for `target_url`. Use as a context manager."""

    def __init__(self, target_url: str, *, headers: dict[str, str] | None = None) -> None:
        parts = urlsplit(target_url)
        self._target, self._path = parts.netloc, parts.path
        self._headers = headers or {}
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="front", daemon=True)
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}{self._path}"

    def __enter__(self) -> Front:
        self._thread.start()
        self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(self._cancel_all())
        self._loop.close()

    async def _cancel_all(self) -> None:
        waiting = asyncio.all_tasks() - {asyncio.current_task()}
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream: asyncio.StreamWriter | None = None
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            host, _, port = self._target.rpartition(":")
            answer, upstream = await asyncio.open_connection(host, int(port), limit=_HEAD_LIMIT)
            upstream.write(rewrite_head(head[:-4], target=self._target, port=self.port, headers=self._headers))
            directions = [
                asyncio.create_task(_pump(reader, upstream)),
                asyncio.create_task(_pump(answer, writer)),
            ]
            try:
                # Whoever closes first ends the exchange: a client that leaves must be noticed behind us.
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for direction in directions:
                    direction.cancel()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for side in (writer, upstream):
                if side is not None:
                    side.close()
                    with contextlib.suppress(OSError):
                        await side.wait_closed()
