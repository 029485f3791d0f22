"""Are call records complete? An exact number of calls, then the rows that were written for them."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from typing import Any

from calls import call_body, headers_for
from targets import Target

_WRITE_TIMEOUT = 30.0


class _Caller(asyncio.Protocol):
    """One connection that sends its share of the calls, each after the reply to the one before."""

    def __init__(self, request: bytes, calls: int) -> None:
        self.request, self.left, self.wrong = request, calls, 0
        self.buffer = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found or len(rest) < int(head.lower().partition(b"content-length:")[2].split()[0]):
            return
        self.buffer = b""
        self.wrong += b" 200 " not in head[:15]
        self.left -= 1
        if self.left:
            self.transport.write(self.request)
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


def written(target: Target) -> int:
    """Call records in the gateway's database."""
    assert target.data is not None
    connection = sqlite3.connect(target.data / "gatehouse.sqlite3")
    try:
        return int(connection.execute("SELECT count(*) FROM servers_call").fetchone()[0])
    finally:
        connection.close()


async def measure(target: Target, *, calls: int, concurrency: int) -> dict[str, Any]:
    """Make exactly `calls` calls as fast as they go; returns how many were answered and recorded."""
    body = call_body("legacy")
    headers = headers_for("legacy", "tools/call") | {"Content-Length": str(len(body))}
    headers |= {"Host": f"127.0.0.1:{target.port}", "Authorization": f"Bearer {target.token}"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"POST {target.paths['json']} HTTP/1.1\r\n{lines}\r\n{body}".encode()
    before = await _settled(target)
    begun = time.monotonic()
    loop = asyncio.get_running_loop()
    callers = [_Caller(request, calls // concurrency) for _ in range(concurrency)]
    for caller in callers:
        await loop.create_connection(lambda made=caller: made, "127.0.0.1", target.port)
    await asyncio.gather(*(caller.done for caller in callers))
    seconds = time.monotonic() - begun
    sent = calls // concurrency * concurrency
    deadline = time.monotonic() + _WRITE_TIMEOUT
    while (rows := written(target) - before) < sent and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
    return {
        "calls": sent,
        "seconds": seconds,
        "wrong": sum(caller.wrong + caller.left for caller in callers),
        "rows": await _settled(target) - before,
        "lost": sent - rows,
    }


async def _settled(target: Target) -> int:
    """The number of records once it does not grow any more."""
    last = -1
    while (now := written(target)) != last:
        last = now
        await asyncio.sleep(1.5)
    return now
