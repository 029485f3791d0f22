"""A fake MCP server that is cheap enough not to be what is measured.

    python bench/upstream.py PORT [--tls PORT CERTIFICATE_AND_KEY.pem] [--pages FOLDER]

What it does depends on the path, for requests that carry `Authorization: Bearer bench-upstream-token`
(anything else gets a 401, so a gateway that forgets the credential cannot look fast):

    POST /mcp    initialize, ping, tools/list, tools/call: a JSON reply
    POST /sse    the same reply as a one-event stream
    POST /big    a JSON reply of 64 KiB
    POST /slow   the JSON reply after 50 ms
    POST /page/N the file N of the folder of pages
    GET (any)    a stream that stays open; so does a POST of `subscriptions/listen`
    GET /stats   (no credential) counters as JSON: calls, refused, open streams and when streams closed,
                 in seconds of the monotonic clock, since the last time that somebody asked

It understands the HTTP that a gateway writes: Content-Length bodies, keep-alive, pipelining.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

CREDENTIAL = "Bearer bench-upstream-token"
MODERN = "2026-07-28"
BIG_BYTES = 64 * 1024
SLOW_SECONDS = 0.05
_WANTED = b"\r\nauthorization: " + CREDENTIAL.lower().encode() + b"\r\n"
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_TOOLS = [{"name": "echo", "description": "Returns its text.", "inputSchema": {"type": "object"}}]


class Stats:
    """What the driver asks for afterwards."""

    calls = 0
    refused = 0
    streams: set[Upstream] = set()
    closed_at: list[float] = []
    pages = Path()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _event(message: dict[str, Any]) -> bytes:
    return b"event: message\r\ndata: " + json.dumps(message, separators=(",", ":")).encode() + b"\r\n\r\n"


def _plain(status: int, body: bytes) -> bytes:
    head = b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def _result(message: dict[str, Any], path: bytes) -> dict[str, Any]:
    method, params = message["method"], message.get("params") or {}
    meta = params.get("_meta") or {}
    result: dict[str, Any] = {}
    if method == "initialize":
        result["protocolVersion"] = params.get("protocolVersion", "2025-11-25")
        result["capabilities"] = {"tools": {}}
        result["serverInfo"] = {"name": "bench", "version": "1"}
    elif method == "server/discover":
        result |= {"supportedVersions": [MODERN], "capabilities": {"tools": {}}}
    elif method == "tools/list":
        result["tools"] = _TOOLS
    elif method == "tools/call":
        text = "x" * BIG_BYTES if path == b"/big" else params["arguments"]["text"]
        result |= {"content": [{"type": "text", "text": text}], "isError": False}
    if meta.get("io.modelcontextprotocol/protocolVersion") == MODERN:
        server_info = {"io.modelcontextprotocol/serverInfo": {"name": "bench", "version": "1"}}
        result |= {"resultType": "complete", "_meta": server_info}
    return result


def make_reply(path: bytes, body: bytes) -> tuple[bytes, bool]:
    """The bytes that answer one POST, and whether they open a stream that stays."""
    if path.startswith(b"/page/"):
        return _plain(200, (Stats.pages / str(int(path[6:]))).read_bytes()), False
    message = json.loads(body)
    if "id" not in message or "method" not in message:
        return _plain(202, b""), False
    if message["method"] == "subscriptions/listen":
        params = {
            "notifications": {"toolsListChanged": True},
            "_meta": {"io.modelcontextprotocol/subscriptionId": message["id"]},
        }
        note = {"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": params}
        return _STREAM_HEAD + _chunk(_event(note)), True
    reply = {"jsonrpc": "2.0", "id": message["id"], "result": _result(message, path)}
    if path == b"/sse":
        return _STREAM_HEAD + _chunk(_event(reply)) + b"0\r\n\r\n", False
    return _plain(200, json.dumps(reply, separators=(",", ":")).encode()), False


class Upstream(asyncio.Protocol):
    """One connection. Replies to bodies that were seen before come out of a dictionary."""

    _replies: dict[tuple[bytes, bytes], tuple[bytes, bool]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.rest = b""

    def connection_lost(self, error: Exception | None) -> None:
        if self in Stats.streams:
            Stats.streams.discard(self)
            Stats.closed_at.append(time.monotonic())

    def data_received(self, data: bytes) -> None:
        if self.rest:
            data = self.rest + data
        while data:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                break
            head = data[: end + 2].lower()
            at = head.find(b"\r\ncontent-length:")
            length = int(head[at + 17 : head.find(b"\r\n", at + 17)]) if at >= 0 else 0
            stop = end + 4 + length
            if len(data) < stop:
                break
            self.answer(head, data[end + 4 : stop])
            data = data[stop:]
        self.rest = data

    def answer(self, head: bytes, body: bytes) -> None:
        """Reply to one complete request; `head` is in lower case."""
        verb, path, _ = head.split(b" ", 2)
        if path == b"/stats":
            return self.tell_stats()
        if _WANTED not in head:
            Stats.refused += 1
            return self.transport.write(_plain(401, b'{"error":"no upstream credential"}'))
        if verb == b"get":
            Stats.streams.add(self)
            return self.transport.write(_STREAM_HEAD + _chunk(b": open\n\n"))
        if verb != b"post":
            return self.transport.write(_plain(200, b""))
        Stats.calls += 1
        found = self._replies.get((path, body))
        if found is None:
            found = make_reply(path, body)
            if len(self._replies) < 1000:
                self._replies[path, body] = found
        reply, stays = found
        if stays:
            Stats.streams.add(self)
        if path == b"/slow":
            asyncio.get_running_loop().call_later(SLOW_SECONDS, self.write_late, reply)
        else:
            self.transport.write(reply)

    def write_late(self, reply: bytes) -> None:
        """Write unless the caller has gone meanwhile."""
        if not self.transport.is_closing():
            self.transport.write(reply)

    def tell_stats(self) -> None:
        """Write the counters and forget the closing times."""
        told = {
            "calls": Stats.calls,
            "refused": Stats.refused,
            "open": len(Stats.streams),
            "closed_at": Stats.closed_at,
        }
        self.transport.write(_plain(200, json.dumps(told).encode()))
        Stats.closed_at = []


async def serve(port: int, tls: list[str] | None) -> None:
    """Serve until killed."""
    loop = asyncio.get_running_loop()
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls[1])
        await loop.create_server(Upstream, "127.0.0.1", int(tls[0]), ssl=context, backlog=8192)
    server = await loop.create_server(Upstream, "127.0.0.1", port, backlog=8192)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--tls", nargs=2, metavar=("PORT", "PEM"))
    parser.add_argument("--pages", type=Path, default=Path(), metavar="FOLDER")
    options = parser.parse_args()
    Stats.pages = options.pages
    try:
        uvloop.run(serve(options.port, options.tls))
    except KeyboardInterrupt:
        sys.exit(0)
