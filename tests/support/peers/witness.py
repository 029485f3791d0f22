"""What an upstream saw: an ASGI wrapper that notes every MCP request, and a place where handlers leave marks.

Only the tests talk to `/witness`; it is reached directly, never through the gateway.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

import uvicorn

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_requests: list[dict[str, Any]] = []
_marks: list[str] = []
_changed = asyncio.Condition()


async def mark(text: str) -> None:
    """Leave a mark, such as `cancelled:42`, that a test can wait for."""
    async with _changed:
        _marks.append(text)
        _changed.notify_all()


async def wait_for(text: str, *, seconds: float) -> bool:
    """Whether the mark came in time; the test and a handler may both wait."""

    async def seen() -> None:
        async with _changed:
            await _changed.wait_for(lambda: text in _marks)

    try:
        await asyncio.wait_for(seen(), seconds)
    except TimeoutError:
        return False
    return True


class Witness:
    """Wraps an ASGI application; `/witness/requests`, `wait?mark=`, `mark?mark=`, `reset` are its own."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
        elif scope["path"].startswith("/witness/"):
            await self._answer(scope, send)
        else:
            await self._observe(scope, receive, send)

    async def _observe(self, scope: Scope, receive: Receive, send: Send) -> None:
        entry: dict[str, Any] = {
            "verb": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode(),
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
            "body": "",
        }
        _requests.append(entry)

        async def observed() -> MutableMapping[str, Any]:
            message = await receive()
            if message["type"] == "http.request":
                entry["body"] += message.get("body", b"").decode("utf-8", "replace")
            return message

        async def sent(message: MutableMapping[str, Any]) -> None:
            await send(message)
            if scope["method"] == "GET" and message["type"] == "http.response.start" and message["status"] == 200:
                await mark("listening")

        await self.app(scope, observed, sent)

    async def _answer(self, scope: Scope, send: Send) -> None:
        action = scope["path"].removeprefix("/witness/")
        answer: Any = None
        if action == "reset":
            _requests.clear()
            _marks.clear()
        elif action == "requests":
            answer = _requests
        elif action == "mark":
            await mark(parse_qs(scope["query_string"].decode())["mark"][0])
        elif action == "wait":
            query = parse_qs(scope["query_string"].decode())
            answer = await wait_for(query["mark"][0], seconds=float(query["seconds"][0]))
        body = json.dumps(answer).encode()
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())],
            }
        )
        await send({"type": "http.response.body", "body": body})


def run(app: Any) -> None:
    """Serve on a free port of the loopback and print the MCP URL as the first line.

    h11, since httptools leaves the blanks around header values, which a server must accept.
    """
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(256)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/mcp", flush=True)
    uvicorn.Server(uvicorn.Config(app, http="h11", log_level="warning")).run(sockets=[listener])
