"""Calls from the gateway's own pages and API: the very path of every other call, without a socket.

The playground and the Gateway API are clients of the consumer like any IDE. So the same access decision, the same
credential and the same record stand behind them, and there is no second way to a server.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings

from proxy.consumers import McpConsumer
from proxy.pipeline import Inside
from proxy.request_head import INSIDE, REQUEST_ID
from servers.request_id import current_request_id

_PIECES_WAITING: Final = 8
"""So many pieces of an answer are taken before whoever reads them has to keep up."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the consumer answers: `pieces` is read once, to its end or closed, which ends the call."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    pieces: AsyncIterator[bytes]


async def ask(
    caller: Inside | bytes,
    *,
    tenant: str,
    slug: str,
    body: bytes,
    headers: Iterable[tuple[str, str]] = (),
    agent: str = "Gatehouse",
) -> Answer:
    """POST `body`, one JSON-RPC message, to the MCP endpoint of a server, and return as soon as its answer begins.

    `caller` is a person whom the calling door knows, or the Authorization header that came to it. `headers` are
    further ones of MCP: the version, the method, the names.
    """
    exchange = _Exchange(body)
    said = [
        (b"host", settings.PUBLIC_URL.partition("://")[2].encode()),
        (b"content-type", b"application/json"),
        (b"accept", b"application/json, text/event-stream"),
        (b"content-length", b"%d" % len(body)),
        (b"user-agent", agent.encode("latin-1", "replace")),
        *((name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers),
    ]
    if isinstance(caller, bytes):
        said.append((b"authorization", caller))
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": f"/{tenant}/mcp/{slug}/server",
        "mcp_route": (tenant, slug, "server"),
        "query_string": b"",
        "headers": said,
        REQUEST_ID: current_request_id(),
    }
    if isinstance(caller, Inside):
        scope[INSIDE] = caller
    return await exchange.begin(scope)


async def ask_whole(caller: Inside | bytes, **request: Any) -> tuple[int, Mapping[str, str], bytes]:
    """As `ask`, with the whole answer: status, headers, body. The gateway's limit on answers bounds its size."""
    answer = await ask(caller, **request)
    async with aclosing(answer.pieces) as pieces:  # type: ignore[type-var]
        return answer.status, answer.headers, b"".join([piece async for piece in pieces])


class _Exchange:
    """Both ends of one call: what the consumer receives and sends, and what its caller reads."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._left = asyncio.Event()
        self._events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(_PIECES_WAITING)
        self._task: asyncio.Task[None] | None = None

    async def begin(self, scope: dict[str, Any]) -> Answer:
        self._task = asyncio.create_task(self._run(scope))
        try:
            event = await self._events.get()
        except asyncio.CancelledError:
            await self._leave()
            raise
        if event is None:
            await self._task  # raises what went wrong
            raise ConnectionError("The call ended without an answer.")
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in event["headers"]}
        return Answer(event["status"], headers, self._pieces())

    async def _run(self, scope: dict[str, Any]) -> None:
        try:
            await McpConsumer()(scope, self._receive, self._send)
        finally:
            if not self._left.is_set():
                await self._events.put(None)

    async def _receive(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, event: dict[str, Any]) -> None:
        # As with a socket: what is sent to somebody who left goes nowhere.
        if not self._left.is_set():
            await self._events.put(event)

    async def _pieces(self) -> AsyncIterator[bytes]:
        try:
            while (event := await self._events.get()) is not None:
                if event.get("body"):
                    yield event["body"]
        finally:
            await self._leave()

    async def _leave(self) -> None:
        """Nobody reads any more: let a call that goes on see that its client left."""
        self._left.set()
        while not self._events.empty():
            self._events.get_nowait()
        assert self._task is not None  # noqa: S101
        await asyncio.wait({self._task})
