"""What to paste where, so that a client calls a server through the gateway with a key."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

# The variable that the snippets read the key from; the key itself belongs in no file that is shared.
KEY_VARIABLE = "GATEHOUSE_KEY"
# In short lines, since it is read before it is run.
_INITIALIZE = """{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
    "protocolVersion": "2025-11-25", "capabilities": {},
    "clientInfo": {"name": "curl", "version": "1"}}}"""


@dataclass(frozen=True, slots=True)
class Snippet:
    """One way to use the server: `text` goes where `place` says."""

    id: str
    client: str
    place: str
    text: str
    note: str = ""


def export_line(key: str) -> str:
    """The shell line that puts a key where the snippets look for it."""
    return f"export {KEY_VARIABLE}={key}"


def snippets(*, url: str, name: str) -> list[Snippet]:
    """How to use the server at `url` with a key, per client; `name` is what the client will call it."""
    bearer = f"Authorization: Bearer ${KEY_VARIABLE}"
    return [
        Snippet("curl", "curl", "Run in a shell: the server says who it is", _curl(url, bearer)),
        Snippet(
            "claude-code",
            "Claude Code",
            "Run in a shell",
            f'claude mcp add --transport http {name} {url} \\\n  --header "{bearer}"',
            f"For a project that you share, put this into .mcp.json instead, with ${{{KEY_VARIABLE}}} for the key.",
        ),
        Snippet(
            "cursor",
            "Cursor",
            "~/.cursor/mcp.json, or .cursor/mcp.json in a project",
            _pretty({"mcpServers": {name: _entry(url, f"${{env:{KEY_VARIABLE}}}")}}),
            f"Cursor reads {KEY_VARIABLE} from the environment that it was started in. If it opens a sign-in "
            "instead of sending the key, let the URL end in /key instead of /server.",
        ),
        Snippet(
            "vs-code",
            "VS Code",
            ".vscode/mcp.json, or “MCP: Open User Configuration”",
            _pretty(
                {
                    "inputs": [
                        {
                            "type": "promptString",
                            "id": "gatehouse-key",
                            "description": "Gatehouse API key",
                            "password": True,
                        }
                    ],
                    "servers": {name: {"type": "http", **_entry(url, "${input:gatehouse-key}")}},
                }
            ),
            "VS Code asks for the key once and keeps it in its secret storage.",
        ),
    ]


def _entry(url: str, key: str) -> dict[str, Any]:
    return {"url": url, "headers": {"Authorization": f"Bearer {key}"}}


def _curl(url: str, bearer: str) -> str:
    lines = [
        f"curl -sS {url}",
        f'-H "{bearer}"',
        '-H "Content-Type: application/json"',
        '-H "Accept: application/json, text/event-stream"',
        f"-d '{_INITIALIZE}'",
    ]
    return " \\\n  ".join(lines)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
