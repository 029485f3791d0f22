"""Guides for editors and desktop programs, which are set up by a file or a link."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

from authflows.inbound.how_to_use.parts import KEY_VARIABLE, NO_KEY, Guide, Link, Step, Target, bearer, pretty

_CURSOR_FILE = "~/.cursor/mcp.json, or .cursor/mcp.json in a project"
_CODE_FILE = ".vscode/mcp.json, or the command “MCP: Open User Configuration”"
_DESKTOP_FILE = "claude_desktop_config.json (Settings → Developer → Edit Config)"
_WINDSURF_FILE = "~/.codeium/windsurf/mcp_config.json"
_ZED_FILE = "settings.json (command “zed: open settings”)"
_JETBRAINS_PLACE = "Settings → Tools → AI Assistant → Model Context Protocol → Add → As JSON"
_BRIDGE_NOTE = "mcp-remote is a small bridge; it needs Node.js, which brings npx."


def cursor_sign_in(target: Target) -> Guide:
    """Cursor, by the URL alone."""
    entry = {"url": target.url}
    config = _cursor_query(target.name, entry)
    return Guide(
        "cursor",
        "Cursor",
        (
            Step(f"Or put this into {_CURSOR_FILE}", pretty({"mcpServers": {target.name: entry}})),
            Step("In Cursor’s settings under MCP, press Connect beside the server: the browser opens. Approve there."),
        ),
        (
            Link("Add to Cursor", f"cursor://anysphere.cursor-deeplink/mcp/install?{config}"),
            Link("the web link", f"https://cursor.com/en/install-mcp?{config}", through="cursor.com"),
        ),
    )


def cursor_key(target: Target, key: str | None) -> Guide:
    """Cursor, with a header, on the URL that does not invite to sign in."""
    entry = {"url": target.key_url, "headers": bearer(key or f"${{env:{KEY_VARIABLE}}}")}
    text = pretty({"mcpServers": {target.name: entry}})
    note = (
        "The URL ends in /key here: Cursor leaves its headers out as soon as a server offers a sign-in, and this URL "
        "offers none."
    )
    if key:
        # No link: it would carry the key through the browser's history.
        return Guide("cursor", "Cursor", (Step(f"Put this into {_CURSOR_FILE}", text),), note=note)
    return Guide(
        "cursor",
        "Cursor",
        (Step(f"Or put this into {_CURSOR_FILE}", text),),
        (Link("Add to Cursor", f"cursor://anysphere.cursor-deeplink/mcp/install?{_cursor_query(target.name, entry)}"),),
        f"{note} {KEY_VARIABLE} is read from the environment that Cursor was started in.",
    )


def vs_code_sign_in(target: Target) -> Guide:
    """VS Code, by the URL alone."""
    entry = {"type": "http", "url": target.url}
    return Guide(
        "vs-code",
        "VS Code",
        (
            Step(f"Or put this into {_CODE_FILE}", pretty({"servers": {target.name: entry}})),
            Step("Start the server there (“MCP: List Servers”): VS Code asks, and the browser opens. Approve there."),
        ),
        _code_links({"name": target.name, **entry}),
    )


def vs_code_key(target: Target, key: str | None) -> Guide:
    """VS Code, which asks for the key and keeps it."""
    prompt = {"type": "promptString", "id": "gatehouse-key", "description": "Gatehouse API key", "password": True}
    entry = {"type": "http", "url": target.url, "headers": bearer("${input:gatehouse-key}")}
    steps = [Step(f"Or put this into {_CODE_FILE}", pretty({"inputs": [prompt], "servers": {target.name: entry}}))]
    steps.append(Step("When VS Code asks for the key, paste it", *([key] if key else [])))
    return Guide(
        "vs-code",
        "VS Code",
        tuple(steps),
        _code_links({"name": target.name, **entry, "inputs": [prompt]}),
        "VS Code asks for the key once and keeps it in its secret storage.",
    )


def claude_desktop_sign_in(target: Target) -> Guide:
    """Claude Desktop, through the bridge that signs in."""
    return Guide(
        "claude-desktop",
        "Claude Desktop",
        (
            Step(f"Put this into {_DESKTOP_FILE}", pretty({"mcpServers": {target.name: _bridge(target.url)}})),
            Step("Start Claude Desktop again: the browser opens. Approve there."),
        ),
        note=f"{_BRIDGE_NOTE} A custom connector (Settings → Connectors) needs no bridge, but connects from the "
        "vendor’s cloud: use it only if this gateway can be reached from the internet.",
    )


def claude_desktop_key(target: Target, key: str | None) -> Guide:
    """Claude Desktop, through the bridge with a header."""
    entry = pretty({"mcpServers": {target.name: _bridge(target.url, key or NO_KEY)}})
    return Guide(
        "claude-desktop",
        "Claude Desktop",
        (Step(f"Put this into {_DESKTOP_FILE}", entry), Step("Start Claude Desktop again.")),
        note=f"{_BRIDGE_NOTE} No space after “Authorization:” there; the value has its own.",
    )


def windsurf_sign_in(target: Target) -> Guide:
    """Windsurf, by the URL alone."""
    entry = {"mcpServers": {target.name: {"serverUrl": target.url}}}
    return Guide(
        "windsurf",
        "Windsurf",
        (
            Step(f"Put this into {_WINDSURF_FILE}", pretty(entry)),
            Step("Refresh the MCP servers in Cascade: the browser opens. Approve there."),
        ),
    )


def windsurf_key(target: Target, key: str | None) -> Guide:
    """Windsurf with a header."""
    entry = {"serverUrl": target.url, "headers": bearer(key or f"${{env:{KEY_VARIABLE}}}")}
    note = "" if key else f"Windsurf reads {KEY_VARIABLE} from the environment that it was started in."
    return Guide(
        "windsurf",
        "Windsurf",
        (Step(f"Put this into {_WINDSURF_FILE}", pretty({"mcpServers": {target.name: entry}})),),
        note=note,
    )


def zed_sign_in(target: Target) -> Guide:
    """Zed, by the URL alone."""
    entry = {"context_servers": {target.name: {"url": target.url}}}
    return Guide(
        "zed",
        "Zed",
        (
            Step(f"Put this into {_ZED_FILE}", pretty(entry)),
            Step("Open the Agent Panel’s settings and press Authenticate: the browser opens. Approve there."),
        ),
    )


def zed_key(target: Target, key: str | None) -> Guide:
    """Zed with a header."""
    entry = {"context_servers": {target.name: {"url": target.url, "headers": bearer(key or NO_KEY)}}}
    return Guide("zed", "Zed", (Step(f"Put this into {_ZED_FILE}", pretty(entry)),))


def jetbrains_sign_in(target: Target) -> Guide:
    """JetBrains IDEs, through the bridge that signs in."""
    return Guide(
        "jetbrains",
        "JetBrains",
        (
            Step(f"{_JETBRAINS_PLACE}", pretty({"mcpServers": {target.name: _bridge(target.url)}})),
            Step("Apply: the browser opens. Approve there."),
        ),
        note=f"{_BRIDGE_NOTE} For Junie, put the same into ~/.junie/mcp/mcp.json.",
    )


def jetbrains_key(target: Target, key: str | None) -> Guide:
    """JetBrains IDEs, through the bridge with a header."""
    entry = pretty({"mcpServers": {target.name: _bridge(target.url, key or NO_KEY)}})
    note = f"{_BRIDGE_NOTE} For Junie, put the same into ~/.junie/mcp/mcp.json."
    return Guide("jetbrains", "JetBrains", (Step(_JETBRAINS_PLACE, entry),), note=note)


def _bridge(url: str, key: str | None = None) -> dict[str, Any]:
    arguments = ["-y", "mcp-remote", url]
    if key is None:
        return {"command": "npx", "args": arguments}
    return {
        "command": "npx",
        "args": [*arguments, "--header", "Authorization:${AUTH_HEADER}"],
        "env": {"AUTH_HEADER": f"Bearer {key}"},
    }


def _cursor_query(name: str, entry: dict[str, Any]) -> str:
    config = base64.b64encode(_compact(entry).encode()).decode()
    return f"name={quote(name, safe='')}&config={quote(config, safe='')}"


def _code_links(server: dict[str, Any]) -> tuple[Link, ...]:
    install = f"mcp/install?{quote(_compact(server), safe='')}"
    web = f"https://vscode.dev/redirect?url={quote(f'vscode:{install}', safe='')}"
    return (
        Link("Install in VS Code", f"vscode:{install}"),
        Link("Install in VS Code Insiders", f"vscode-insiders:{install}"),
        Link("the web link", web, through="vscode.dev"),
    )


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
