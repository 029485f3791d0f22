"""Walks an MCP client through a plan and notes everything that the client sees.

A plan is a list of steps such as `{"do": "call", "name": "add", "arguments": {"a": 1, "b": 2}}`. The client
programs (one for each SDK line) adapt their SDK to `Adapter`; what comes out can be compared as it is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Protocol

PATIENCE = 10.0  # seconds until something that was expected is noted as missing

Found = dict[str, Any]


class Adapter(Protocol):
    """What a tour needs of an SDK; results are JSON as the SDK read them."""

    error_class: type[Exception]

    async def handshake(self) -> Found: ...
    async def list_page(self, what: str, cursor: str | None) -> Found: ...
    async def call(self, name: str, arguments: Found) -> Found: ...
    async def cancel(self, task: asyncio.Task[Found]) -> None: ...
    async def read(self, uri: str) -> Found: ...
    async def prompt(self, name: str, arguments: dict[str, str]) -> Found: ...
    async def complete(self, reference: Found, argument: dict[str, str]) -> Found: ...
    async def ping(self) -> Found: ...
    async def level(self, level: str) -> Found: ...
    async def subscribe(self, uri: str) -> Found: ...
    async def unsubscribe(self, uri: str) -> Found: ...
    async def hear(self, kind: str, announce: Callable[[], Awaitable[Found]]) -> Found: ...
    def error(self, error: Any) -> Found: ...


class Notes:
    """What comes to the client by itself: notifications and questions, and the exchanges on the wire."""

    def __init__(self) -> None:
        self.notifications: list[Any] = []
        self.questions: list[Any] = []
        self.wire: set[tuple[str, ...]] = set()
        self._arrived = asyncio.Event()

    def notification(self, body: Found) -> None:
        self.notifications.append(body)
        self._arrived.set()

    def question(self, body: Found) -> None:
        self.questions.append(body)

    async def wait(self, count: int) -> bool:
        """Whether `count` notifications came in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                while len(self.notifications) < count:
                    self._arrived.clear()
                    await self._arrived.wait()
        return len(self.notifications) >= count

    def exchange(self, request: Any, response: Any) -> None:
        """Note one HTTP exchange of an httpx client."""
        message: Any = {}
        with suppress(ValueError):
            message = json.loads(request.content or b"{}")
        about = message.get("method") or ("answer" if message else "")
        # An answer without a body needs no type, and the gateway gives it none.
        bare = response.status_code in (202, 204) or request.method == "DELETE"
        kind = "" if bare else response.headers.get("content-type", "")
        session = "session" if about == "initialize" and "mcp-session-id" in response.headers else ""
        self.wire.add((request.method, about, str(response.status_code), kind, session))


class Upstream:
    """The witness of the upstream, reached directly; without one, nothing is waited for."""

    def __init__(self, url: str | None) -> None:
        self._url = url

    async def wait(self, mark: str) -> bool | None:
        if self._url is None:
            return None
        query = urllib.parse.urlencode({"mark": mark, "seconds": PATIENCE})
        return bool(await asyncio.to_thread(self._get, f"{self._url}/wait?{query}"))

    async def mark(self, mark: str) -> None:
        if self._url is not None:
            query = urllib.parse.urlencode({"mark": mark})
            await asyncio.to_thread(self._get, f"{self._url}/mark?{query}")

    @staticmethod
    def _get(url: str) -> Any:
        with urllib.request.urlopen(url, timeout=PATIENCE + 10) as answer:
            return json.load(answer)


def answer_form(schema: Mapping[str, Any]) -> Found:
    """A person's answer to an elicitation: defaults where there are some, else something of the right type."""
    by_type = {"string": "ada", "integer": 7, "number": 1.5, "boolean": True, "array": []}
    content = {}
    for name, field in schema.get("properties", {}).items():
        choices = field.get("enum") or [option["const"] for option in field.get("oneOf", [])]
        content[name] = field.get("default", choices[0] if choices else by_type[field["type"]])
    return content


async def _step(step: Found, adapter: Adapter, notes: Notes, upstream: Upstream) -> Any:
    match step["do"]:
        case "handshake":
            return await adapter.handshake()
        case "list":
            pages, cursor = [], None
            while not pages or cursor:
                pages.append(await adapter.list_page(step["what"], cursor))
                cursor = pages[-1].get("nextCursor")
            return pages
        case "call":
            return await adapter.call(step["name"], step.get("arguments", {}))
        case "gate":
            call = asyncio.create_task(adapter.call(step.get("name", "gated"), {"key": step["key"]}))
            before = await notes.wait(1)
            await upstream.mark(f"open:{step['key']}")
            return {"heard before the result": before, "result": await call}
        case "cancel":
            call = asyncio.create_task(adapter.call(step.get("name", "endless"), {"key": step["key"]}))
            started = await upstream.wait(f"started:{step['key']}")
            await notes.wait(1)
            await adapter.cancel(call)
            return {"started": started, "cancelled": await upstream.wait(f"cancelled:{step['key']}")}
        case "read":
            return await adapter.read(step["uri"])
        case "prompt":
            return await adapter.prompt(step["name"], step.get("arguments", {}))
        case "complete":
            return await adapter.complete(step["ref"], step["argument"])
        case "ping":
            return await adapter.ping()
        case "level":
            return await adapter.level(step["level"])
        case "subscribe":
            return await adapter.subscribe(step["uri"])
        case "unsubscribe":
            return await adapter.unsubscribe(step["uri"])
        case "hear":
            return await adapter.hear(
                step["kind"], lambda: adapter.call(step.get("name", "announce"), {"kind": step["kind"]})
            )
    raise ValueError(f"unknown step {step['do']}")


async def walk(plan: list[Found], adapter: Adapter, notes: Notes, upstream: Upstream) -> list[Found]:
    """Do every step; returns what was seen at each."""
    seen: list[Found] = []
    for step in [{"do": "handshake"}, *plan]:
        notes.notifications, notes.questions = [], []
        found: Found = dict(step)
        try:
            async with asyncio.timeout(PATIENCE * 4):
                if step.get("standing"):  # needs the standing stream of the older revisions
                    await upstream.wait("listening")
                found["result"] = await _step(step, adapter, notes, upstream)
        except adapter.error_class as error:
            found["error"] = adapter.error(error)
        except Exception as error:
            found["failed"] = f"{type(error).__name__}: {error}"
        await notes.wait(step.get("notes", 0))
        found["notifications"], found["questions"] = notes.notifications, notes.questions
        seen.append(found)
    return seen


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--mode", default="legacy", help="legacy, auto or a modern protocol version")
    parser.add_argument("--header", action="append", default=[], help="Name: value")
    parser.add_argument("--without-roots", action="store_true", help="do not offer roots to the server")
    parser.add_argument("--witness", help="URL of the upstream's witness")
    options = parser.parse_args()
    options.headers = dict(header.split(": ", 1) for header in options.header)
    return options


def run(client: Callable[[argparse.Namespace, list[Found], Notes, Upstream], Awaitable[list[Found]]]) -> None:
    """Run a client program: plan on standard input, what was seen on standard output."""
    options = arguments()

    async def main() -> None:
        notes = Notes()
        seen = await client(options, json.load(sys.stdin), notes, Upstream(options.witness))
        json.dump({"seen": seen, "wire": sorted(notes.wire)}, sys.stdout)

    asyncio.run(main())
