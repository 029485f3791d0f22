"""A notebook as an MCP server, as small as a server can be that is put behind Gatehouse.

It has no accounts and no sign-in: the gateway in front of it decides who may call, and brings a key that nobody else
has. docs/build-your-own-server.md tells it step by step. Start it with

    NOTES_KEY=<at least 32 characters> python examples/notes/server.py --port 8766
"""

from __future__ import annotations

import argparse
import hmac
import os
import sys
from typing import Annotated

import uvicorn
from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations
from pydantic import BaseModel, Field
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

SHORTEST_KEY = 32

server = MCPServer(name="notes", title="Notes", instructions="A notebook of the team.", version="1.0.0")


class Note(BaseModel):
    """One note of the notebook."""

    number: int
    text: str


notes: list[Note] = []


@server.tool(title="Write a note", annotations=ToolAnnotations(readOnlyHint=False, destructiveHint=False))
def write_note(text: Annotated[str, Field(description="The note.", min_length=1, max_length=2000)]) -> Note:
    """Add a note to the notebook, and say its number."""
    note = Note(number=len(notes) + 1, text=text)
    notes.append(note)
    return note


@server.tool(title="Find notes", annotations=ToolAnnotations(readOnlyHint=True))
def find_notes(word: Annotated[str, Field(description="What to look for; empty for all notes.")] = "") -> list[Note]:
    """The notes that contain a word, oldest first."""
    return [note for note in notes if word.lower() in note.text.lower()]


@server.tool(title="Read a note", annotations=ToolAnnotations(readOnlyHint=True))
def read_note(number: Annotated[int, Field(description="The note's number, from 1 on.", ge=1)]) -> Note:
    """One note by its number."""
    if number > len(notes):
        raise ToolError(f"There is no note {number}; there are {len(notes)}.")
    return notes[number - 1]


class OnlyWithKey:
    """Refuses whoever does not bring the key: even on the same machine, the gateway is the only way in."""

    def __init__(self, application: ASGIApp, *, key: str) -> None:
        self._application = application
        self._expected = f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            brought = dict(scope["headers"]).get(b"authorization", b"")
            # In constant time: how long a refusal takes says nothing about the key.
            if not hmac.compare_digest(brought, self._expected):
                await JSONResponse({"error": "Only the gateway may call this server."}, 401)(scope, receive, send)
                return
        await self._application(scope, receive, send)


def main() -> None:
    parser = argparse.ArgumentParser(description="A notebook as an MCP server (streamable HTTP).")
    parser.add_argument("--port", type=int, default=8766, help="loopback port to listen on (default 8766)")
    port = parser.parse_args().port
    key = os.environ.get("NOTES_KEY", "")  # noqa: TID251  a program of its own, not the gateway
    if len(key) < SHORTEST_KEY:
        sys.exit(
            f"Set NOTES_KEY to a random text of at least {SHORTEST_KEY} characters; openssl rand -hex 32 makes one."
        )
    application = OnlyWithKey(server.streamable_http_app(), key=key)
    uvicorn.run(application, host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
