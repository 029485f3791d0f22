"""A language model for tests: an OpenAI-compatible endpoint that says what a script tells it, rightly or wrongly.

As a program (`python -m tests.support.model_server PORT`) it is a model that uses the first tool it is given.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Piece = bytes | threading.Event
"""What is written next; an event is waited for, with the connection open."""


@dataclass(frozen=True)
class Asked:
    """One request that came in; header names in lower case."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def last(self) -> dict[str, Any]:
        """The newest message."""
        found: dict[str, Any] = self.body["messages"][-1]
        return found

    @property
    def tools(self) -> list[str]:
        """The names of the tools that may be called."""
        return [tool["function"]["name"] for tool in self.body.get("tools", ())]


@dataclass
class Reply:
    """An answer: written piece by piece, closed at its end."""

    pieces: list[Piece] = field(default_factory=list)
    status: int = 200
    content_type: str = "text/event-stream"
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    """A Content-Length to claim."""


def event(value: Any) -> bytes:
    """One event of a stream."""
    return f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode()


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    """One chunk of a chat."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice], **more})


DONE = event("[DONE]")
USAGE = event({"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 5}})


def saying(*words: str) -> Reply:
    """An answer in words."""
    return Reply([*(chunk({"content": word}) for word in words), chunk({}, "stop"), USAGE, DONE])


def calling(*calls: tuple[str, Any], text: str = "") -> Reply:
    """An answer that calls tools, their arguments in two pieces as models send them."""
    pieces: list[Piece] = [chunk({"content": text})] if text else []
    for index, (name, arguments) in enumerate(calls):
        given = arguments if isinstance(arguments, str) else json.dumps(arguments)
        first = {"index": index, "id": f"call_{index}", "function": {"name": name, "arguments": given[:4]}}
        rest = {"index": index, "function": {"arguments": given[4:]}}
        pieces += [chunk({"tool_calls": [first]}), chunk({"tool_calls": [rest]})]
    return Reply([*pieces, chunk({}, "tool_calls"), USAGE, DONE])


def eager(asked: Asked) -> Reply:
    """A model that calls its first tool with the numbers of the question, and then tells what came out."""
    last = asked.last
    if last["role"] == "tool":
        return saying("The tool ", "answered: ", f"**{last['content']}**", '\n\n```json\n{"said": true}\n```\n')
    numbers = [int(word) for word in str(last["content"]).replace("?", " ").split() if word.isdigit()]
    if asked.tools and len(numbers) >= 2:
        return calling((asked.tools[0], {"a": numbers[0], "b": numbers[1]}), text="Let me compute that.")
    return saying("Hello! ", "Give me two numbers ", "and a tool, ", "and I will use it.")


class ModelServer:
    """A context manager. `url` is its base URL; `replies` are given one after the other, then `otherwise`."""

    def __init__(self, *replies: Reply, otherwise: Callable[[Asked], Reply] = eager, port: int = 0) -> None:
        self.replies = list(replies)
        self.otherwise = otherwise
        self.asked: list[Asked] = []
        self.left = threading.Event()
        """Set when the other side hung up before the end of an answer."""
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = Asked(self.path, headers, body)
                model.asked.append(asked)
                self._give(model.replies.pop(0) if model.replies else model.otherwise(asked))

            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                model.asked.append(Asked(self.path, headers, {}))
                listed = json.dumps({"object": "list", "data": [{"id": "small"}, {"id": "large"}]}).encode()
                self._give(model.replies.pop(0) if model.replies else Reply([listed], content_type="application/json"))

            def _give(self, reply: Reply) -> None:
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.content_type)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if reply.length is not None:
                    self.send_header("Content-Length", str(reply.length))
                self.end_headers()
                self.wfile.flush()
                for piece in reply.pieces:
                    if isinstance(piece, bytes):
                        self.wfile.write(piece)
                    elif not self._held(piece):
                        return

            def _held(self, over: threading.Event) -> bool:
                """Wait for the event; False when the other side left before it."""
                self.connection.settimeout(0.02)
                while not over.is_set():
                    try:
                        if not self.connection.recv(1):
                            model.left.set()
                            return False
                    except TimeoutError:
                        continue
                    except OSError:
                        model.left.set()
                        return False
                self.connection.settimeout(None)
                return True

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    def chats(self) -> Iterator[Asked]:
        """What was asked of it as a chat."""
        return (asked for asked in self.asked if asked.path.endswith("/chat/completions"))

    def serve(self) -> None:
        """Serve until the process ends."""
        self._server.serve_forever()

    def __enter__(self) -> ModelServer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)


if __name__ == "__main__":
    ModelServer(port=int(sys.argv[1])).serve()
