"""Members whose every word a test decides: an older server with a session and a stream, a modern one that is listened
to."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from tests.support.upstream import LAST_CHUNK, STREAM_HEAD, Answer, Request, Script, Upstream, chunk, event, json_answer
from tests.support.upstream import result as result_of

GUARD = 20.0
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
SUBSCRIPTION_KEY = "io.modelcontextprotocol/subscriptionId"


class Held:
    """An open stream of a member, written by the test."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self._pieces: queue.Queue[bytes | None] = queue.Queue()

    def say(self, method: str, params: Any = None, *, id: Any = None, event_id: str | None = None) -> None:
        """A notification, or with an id a request."""
        message = {"jsonrpc": "2.0", "method": method}
        self.send(event({**message, **({"params": params} if params else {}), **({"id": id} if id else {})}, event_id))

    def send(self, data: bytes) -> None:
        self._pieces.put(data)

    def end(self) -> None:
        """End the stream as a server does that wants the client to come back."""
        self._pieces.put(None)

    def left(self) -> bool:
        """Whether the gateway closes it within seconds."""
        return self.request.peer.left()

    def pieces(self) -> Iterator[bytes]:
        yield STREAM_HEAD
        while (piece := self._pieces.get(timeout=3 * GUARD)) is not None:
            yield chunk(piece)
        yield LAST_CHUNK


class _Member(Upstream):
    """What both have in common: requests by method, and streams in the order in which they were opened."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.streams: list[Held] = []
        self.answers: dict[str, Script] = {}
        """Own answers by JSON-RPC method (or HTTP method), in place of the usual ones."""
        self._changed = threading.Condition()

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        for held in self.streams:
            held.end()
        super().__exit__(kind, value, tb)

    def stream(self, number: int = 1) -> Held:
        """The stream that was opened as the number-th; waits for it."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.streams) >= number, GUARD), "no stream was opened"
            return self.streams[number - 1]

    def hold(self, request: Request) -> Iterator[bytes]:
        """Answer with a stream that the test writes."""
        held = Held(request)
        with self._changed:
            self.streams.append(held)
            self._changed.notify_all()
        return held.pieces()

    def asked(self, method: str) -> list[Any]:
        """The messages of this JSON-RPC method that came so far."""
        return [one for one in self._messages() if one.get("method") == method]

    def wait_for_message(self, wanted: Callable[[Any], Any]) -> Any:
        """The first message that is wanted; waits for it."""
        for count in range(1, 10_000):
            found = next((one for one in self._messages() if wanted(one)), None)
            if found is not None:
                return found
            self.wait_for(max(count, len(self.requests) + 1), within=GUARD)
        raise AssertionError

    def wait_for_method(self, method: str) -> Any:
        """The first message of this method; waits for it."""
        return self.wait_for_message(lambda one: one.get("method") == method)

    def wait_for_http(self, method: str) -> Request:
        """The first request of this HTTP method; waits for it."""
        while not (found := [one for one in self.requests if one.method == method]):
            self.wait_for(len(self.requests) + 1, within=GUARD)
        return found[0]

    def _messages(self) -> list[Any]:
        return [one.json() for one in tuple(self.requests) if one.method == "POST"]

    def _answer(self, request: Request) -> Any:
        name = request.json().get("method", "") if request.method == "POST" else request.method
        script = self.answers.get(name)
        return script(request) if script is not None else self.usual(request, name)

    def usual(self, request: Request, name: str) -> Any:
        raise NotImplementedError


class OlderMember(_Member):
    """A server with sessions: `session-1`, `session-2`, ... in the order in which they are opened."""

    def __init__(self, **capabilities: Any) -> None:
        super().__init__()
        self.capabilities = {"tools": {"listChanged": True}, **capabilities}
        self.sessions = 0
        self.lost: set[str] = set()
        """Sessions that it does not know any more."""

    def usual(self, request: Request, name: str) -> Any:
        if request.header("mcp-session-id") in self.lost:
            return Answer(404)
        if request.method == "GET":
            return self.hold(request)
        if request.method == "DELETE":
            return Answer(204)
        if name == "initialize":
            self.sessions += 1
            opened = {
                "protocolVersion": request.json()["params"]["protocolVersion"],
                "capabilities": self.capabilities,
                "serverInfo": {"name": "older", "version": "1"},
            }
            return result_of(request, opened, Mcp_Session_Id=f"session-{self.sessions}")
        if "id" not in request.json() or not name:
            return Answer(202)
        if name == "tools/call":
            return result_of(request, {"content": [{"type": "text", "text": "done"}]})
        return result_of(request, {})


class ModernMember(_Member):
    """A server of 2026-07-28 that acknowledges whatever is listened to."""

    def usual(self, request: Request, name: str) -> Any:
        message = request.json()
        if name == "subscriptions/listen":
            about = {"_meta": {SUBSCRIPTION_KEY: message["id"]}}
            agreed = {"notifications": message["params"]["notifications"], **about}
            pieces = self.hold(request)
            self.streams[-1].say(ACKNOWLEDGED, agreed)
            return pieces
        if name == "tools/call":
            return result_of(request, {"resultType": "complete", "content": [{"type": "text", "text": "done"}]})
        if name == "server/discover":
            return result_of(
                request,
                {
                    "resultType": "complete",
                    "supportedVersions": ["2026-07-28"],
                    "capabilities": {"tools": {}},
                    "ttlMs": 0,
                    "cacheScope": "private",
                },
            )
        return json_answer(
            {"jsonrpc": "2.0", "id": message.get("id"), "error": {"code": -32601, "message": "Method not found"}}, 404
        )


def body(message: Any) -> bytes:
    """Compact JSON."""
    return json.dumps(message).encode()
