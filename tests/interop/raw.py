"""MCP over plain HTTP, without an SDK in between: for what SDKs hide and for revisions they no longer speak."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import httpx2

from tests.interop.route import Route

BOTH = "application/json, text/event-stream"
_EVENT_ID = re.compile(r"^id: ?.*$", re.MULTILINE)


def request(method: str, number: int | str = 1, **params: Any) -> dict[str, Any]:
    """A JSON-RPC request."""
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def notification(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params}


def tool_call(name: str, number: int | str = 2, **arguments: Any) -> dict[str, Any]:
    """A call of a tool that asks for progress; the token is the request's id."""
    return request("tools/call", number, name=name, arguments=arguments, _meta={"progressToken": number})


def events(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Pairs of event id and message of an event stream; a message of None only carries an id.

    Raises AssertionError when the stream lasts too long: comments keep one alive on which nothing ever comes.
    """
    number, data = "", ""
    deadline = time.monotonic() + 20
    for line in lines:
        assert time.monotonic() < deadline, "nothing came on the stream but comments"
        if line.startswith("id:"):
            number = line[3:].strip()
        elif line.startswith("data:"):
            data += line[5:].strip()
        elif line == "" and (number or data):
            yield number, json.loads(data) if data else None
            number, data = "", ""


class RawSession:
    """A client of the revisions that have sessions; a context manager.

    `announce` says whether it sends `MCP-Protocol-Version` after the handshake: not all real clients do.
    `patience` is how many seconds it waits for anything to arrive.
    """

    def __init__(
        self, route: Route, *, version: str = "2025-11-25", announce: bool = True, patience: float = 15
    ) -> None:
        self._url, self._version, self._announce = route.url, version, announce
        self._http = httpx2.Client(headers={**route.headers, "accept": BOTH}, timeout=patience)
        self.session_id: str | None = None

    def __enter__(self) -> RawSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def move(self, route: Route) -> None:
        """Go on with the same session at another address."""
        self._url = route.url

    def headers(self) -> dict[str, str]:
        found = {} if self.session_id is None else {"mcp-session-id": self.session_id}
        return {**found, "mcp-protocol-version": self._version} if self._announce and found else found

    def initialize(self) -> httpx2.Response:
        """The whole handshake; returns the answer to `initialize`."""
        info = {"name": "raw", "version": "1"}
        answer = self.post(request("initialize", 0, protocolVersion=self._version, capabilities={}, clientInfo=info))
        self.session_id = answer.headers.get("mcp-session-id")
        assert self.post(notification("notifications/initialized")).status_code == 202
        return answer

    def post(self, message: Any, **headers: str) -> httpx2.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._http.post(self._url, json=message, headers={**self.headers(), **named})

    def delete(self) -> httpx2.Response:
        return self._http.delete(self._url, headers=self.headers())

    @contextmanager
    def stream(self, message: Any) -> Iterator[Iterator[tuple[str, dict[str, Any] | None]]]:
        """The events of the answer as they come; leaving breaks the stream off."""
        with self._http.stream("POST", self._url, json=message, headers=self.headers()) as answer:
            assert answer.status_code == 200, answer.read()
            yield events(answer.iter_lines())

    @contextmanager
    def listen(self, **headers: str) -> Iterator[Iterator[tuple[str, dict[str, Any] | None]]]:
        """The standing stream; `last_event_id=` resumes a broken one."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        sent = {**self.headers(), "accept": "text/event-stream", **named}
        with self._http.stream("GET", self._url, headers=sent) as answer:
            assert answer.status_code == 200, answer.read()
            yield events(answer.iter_lines())


def comparable(answer: httpx2.Response) -> tuple[int, str, str]:
    """Status, type and body of an answer, without the ids of events, which count on from run to run."""
    body = _EVENT_ID.sub("id: …", answer.text)
    kind = answer.headers.get("content-type", "") if body else ""
    return answer.status_code, kind, body
