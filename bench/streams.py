"""Idle streams: what each costs in memory and CPU, and how soon the upstream learns that a client left."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from calls import body_for, headers_for
from targets import Bench, Target, cpu_seconds, resident_kib

_BATCH = 100
_LEAVING = 500
_OPEN_TIMEOUT = 60.0
_NOTICE_TIMEOUT = 10.0


class Stream(asyncio.Protocol):
    """One stream that the client holds open."""

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.first: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.alive = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        if not self.first.done():
            self.first.set_result(data)

    def connection_lost(self, error: Exception | None) -> None:
        self.alive = False
        if not self.first.done():
            self.first.set_result(b"closed")


def request_bytes(target: Target, how: str) -> bytes:
    """The request that opens a stream: `get` (2025-11-25) or `listen` (a POST of 2026-07-28)."""
    method = "subscriptions/listen"
    if how == "get":
        verb, body = "GET", ""
        headers = headers_for("legacy", "")
        del headers["Content-Type"]
        headers["Accept"] = "text/event-stream"
    else:
        verb, body = "POST", body_for("modern", method, {"notifications": {"toolsListChanged": True}})
        headers = headers_for("modern", method) | {"Content-Length": str(len(body))}
    headers |= {"Host": f"127.0.0.1:{target.port}", "Authorization": f"Bearer {target.token}"}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{verb} {target.paths['json']} HTTP/1.1\r\n{lines}\r\n{body}".encode()


async def upstream_stats(bench: Bench) -> dict[str, Any]:
    """The fake upstream's counters; asking empties its list of closing times."""
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.upstream_port)
    writer.write(b"GET /stats HTTP/1.1\r\nHost: bench\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split()[0])
    told: dict[str, Any] = json.loads(await reader.readexactly(length))
    writer.close()
    return told


async def measure(bench: Bench, target: Target, *, how: str, counts: list[int], hold: float) -> list[dict[str, Any]]:
    """Open streams until there are as many as each of `counts`, hold them, then let some clients leave.

    Returns a row for each count: KiB a stream against the memory before, CPU us to open one, CPU seconds
    while idle; and in the last row how long the slowest disconnect took to reach the upstream.
    """
    assert target.pid is not None
    loop = asyncio.get_running_loop()
    request = request_bytes(target, how)
    before = resident_kib(target.pid)
    streams: list[Stream] = []
    rows: list[dict[str, Any]] = []
    for count in counts:
        cpu, already = cpu_seconds(target.pid), len(streams)
        while len(streams) < count:
            batch = [Stream(request) for _ in range(min(_BATCH, count - len(streams)))]
            for stream in batch:
                await loop.create_connection(lambda made=stream: made, "127.0.0.1", target.port)
            async with asyncio.timeout(_OPEN_TIMEOUT):
                first = await asyncio.gather(*(stream.first for stream in batch))
            refused = [answer for answer in first if b" 200 " not in answer]
            if refused:
                raise RuntimeError(f"{target.name} refused a stream: {refused[0][:300]!r}")
            streams += batch
        opening = cpu_seconds(target.pid) - cpu
        cpu = cpu_seconds(target.pid)
        await asyncio.sleep(hold)
        rows.append(
            {
                "target": target.name,
                "how": how,
                "streams": count,
                "kib": (resident_kib(target.pid) - before) / count,
                "open_cpu_us": opening * 1e6 / (count - already),
                "idle_cpu_s": cpu_seconds(target.pid) - cpu,
                "alive": sum(stream.alive for stream in streams),
                "upstream_open": (await upstream_stats(bench))["open"],
            }
        )
    rows[-1]["notice_ms"] = await _slowest_notice(bench, streams[:_LEAVING])
    for stream in streams:
        stream.transport.close()
    return rows


async def _slowest_notice(bench: Bench, leaving: list[Stream]) -> float | None:
    """Close these streams; milliseconds until the upstream saw the last one end, None for never."""
    left_at = time.monotonic()
    for stream in leaving:
        stream.transport.close()
    closed: list[float] = []
    while len(closed) < len(leaving):
        if time.monotonic() - left_at > _NOTICE_TIMEOUT:
            return None
        await asyncio.sleep(0.1)
        closed += (await upstream_stats(bench))["closed_at"]
    return (max(closed) - left_at) * 1000
