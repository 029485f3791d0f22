"""Claude Code's command line: each command is a process of its own; what it keeps is in its home."""

from __future__ import annotations

import json
import os
import pty
import selectors
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.interop.sign_in.programs import PATIENCE, Browse, Desktop
from tests.support import node

# Nothing goes to its maker while it runs here.
_QUIET = {
    "DISABLE_TELEMETRY": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_AUTOUPDATER": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
}


def binary() -> Path:
    """The program, in the package for this machine."""
    _, modules = node.packages()
    found = sorted((modules / "@anthropic-ai").glob("claude-code-*/claude"))
    if not found:
        node.leave_out("Claude Code has no program for this machine.")
    return found[0]


class ClaudeCode:
    """Claude Code on a desktop."""

    def __init__(self, desktop: Desktop) -> None:
        self._desktop = desktop
        self._program = str(binary())

    def run(self, *arguments: str, **environment: str) -> str:
        """What a command prints, whether it worked or not."""
        done = subprocess.run(
            [self._program, *arguments],
            env=self._desktop.environment(**_QUIET, **environment),
            cwd=self._desktop.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        return done.stdout

    def sign_in(self, name: str, browse: Browse) -> tuple[int, str]:
        """`mcp login`, which insists on a terminal: its exit status and what it printed."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [self._program, "mcp", "login", name],
            env=self._desktop.environment(**_QUIET, TERM="dumb"),
            cwd=self._desktop.home,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        printed = b""
        try:
            for chunk in self._until_it_ends(ours, browse):
                printed += chunk
            return process.wait(5), printed.decode(errors="replace")
        except BaseException as error:
            error.add_note(f"It printed: {printed.decode(errors='replace')}")
            raise
        finally:
            if process.poll() is None:
                process.kill()
                process.wait(5)
            os.close(ours)

    def _until_it_ends(self, terminal: int, browse: Browse) -> Iterator[bytes]:
        ends = time.monotonic() + PATIENCE
        with selectors.DefaultSelector() as selector:
            selector.register(terminal, selectors.EVENT_READ)
            selector.register(self._desktop, selectors.EVENT_READ)
            while ready := selector.select(max(ends - time.monotonic(), 0)):
                for key, _ in ready:
                    if key.fileobj is self._desktop:
                        browse(self._desktop.opened())
                        continue
                    try:
                        yield os.read(terminal, 65536)
                    except OSError:  # the other end is closed: it has ended
                        return
        raise AssertionError("it does not end")

    def add_by_model(self, name: str, *, a: int, b: int) -> str:
        """Let a model call the tool `add`, and return what the model then says: the tool's answer."""
        return self.call_by_model(name, "add", a=a, b=b)

    def call_by_model(self, name: str, tool: str, **arguments: Any) -> str:
        """The same with any tool."""
        with scripted_model(f"mcp__{name}__{tool}", arguments) as model:
            printed = self.run(
                "-p",
                "Do what you were asked to.",
                "--allowedTools",
                f"mcp__{name}__{tool}",
                "--output-format",
                "json",
                ANTHROPIC_BASE_URL=model,
                ANTHROPIC_API_KEY="of-a-test",
                ENABLE_TOOL_SEARCH="false",
            )
        try:
            return str(json.loads(printed)["result"])
        except ValueError:
            raise AssertionError(printed) from None


@contextmanager
def scripted_model(tool: str, arguments: dict[str, Any]) -> Iterator[str]:
    """The URL of a stand-in for a model: it calls one tool, once, and repeats what came back."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if "/messages" not in self.path or "count_tokens" in self.path:
                self._answer("application/json", json.dumps({"input_tokens": 1}).encode())
                return
            block = self._block(asked)
            events = _stream(block) if asked.get("stream") else None
            if events is None:
                self._answer("application/json", json.dumps(_message([block])).encode())
            else:
                self._answer("text/event-stream", events)

        def _block(self, asked: dict[str, Any]) -> dict[str, Any]:
            if tool not in {offered["name"] for offered in asked.get("tools", ())}:
                return {"type": "text", "text": "I am not offered that tool."}
            results = [
                block
                for message in asked["messages"]
                if isinstance(message["content"], list)
                for block in message["content"]
                if block["type"] == "tool_result"
            ]
            if not results:
                return {"type": "tool_use", "id": "toolu_1", "name": tool, "input": arguments}
            return {"type": "text", "text": json.dumps(results[-1]["content"])}

        def _answer(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_HEAD(self) -> None:
            self._answer("text/plain", b"")

        def do_GET(self) -> None:
            self._answer("application/json", b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def _message(content: list[dict[str, Any]]) -> dict[str, Any]:
    stopped = "tool_use" if content and content[0]["type"] == "tool_use" else "end_turn"
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "scripted",
        "content": content,
        "stop_reason": stopped,
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }


def _stream(block: dict[str, Any]) -> bytes:
    """A message of one block as server-sent events."""
    whole = _message([block])
    begun: dict[str, Any]
    delta: dict[str, Any]
    if block["type"] == "tool_use":
        begun = {**block, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    else:
        begun = {"type": "text", "text": ""}
        delta = {"type": "text_delta", "text": block["text"]}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": begun},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": whole["stop_reason"], "stop_sequence": None},
            "usage": {"output_tokens": 1},
        },
        {"type": "message_stop"},
    ]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()
