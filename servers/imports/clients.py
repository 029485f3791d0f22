"""Entries of a client's own file: Claude, Cursor, VS Code, Windsurf, Zed, Gemini CLI, opencode, Codex' JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from servers.imports.entries import Entry, Unusable, remote, shown
from servers.imports.values import BadEntry, Text, parse
from servers.imports.wrappers import unwrap, words_of
from servers.presets.library import find

_PLACES: Final = (
    ("mcpServers",), ("mcp_servers",), ("context_servers",), ("servers",), ("mcp", "servers"), ("mcp", "mcpServers"),
    ("amp.mcpServers",), ("mcp",),
)  # fmt: skip
_URLS: Final = ("url", "httpUrl", "serverUrl", "uri", "endpoint")
_STDIO: Final = (
    "It is a program that the client starts on its own machine ({program}). The gateway calls servers over HTTP."
)


def servers_of(document: Any) -> Mapping[str, Any] | None:
    """The mapping of names to entries, wherever the client keeps it; None where there is none."""
    if not isinstance(document, Mapping):
        return None
    for place in _PLACES:
        found: Any = document
        for key in place:
            found = found.get(key) if isinstance(found, Mapping) else None
        if isinstance(found, Mapping):
            return found
    # The inner part alone, as it stands in many instructions.
    if _is_entry(document):
        return {"": document}
    return document if document and all(_is_entry(one) for one in document.values()) else None


def _is_entry(value: Any) -> bool:
    return isinstance(value, Mapping) and any(key in value for key in (*_URLS, "command"))


def entries(document: Any) -> list[Entry] | None:
    """What each entry comes to, in the file's order; None when it is no client's file."""
    found = servers_of(document)
    if found is None:
        return None
    labels = _labels(document)
    return [_entry(str(name), one, labels) for name, one in found.items()]


def _labels(document: Mapping[str, Any]) -> dict[str, str]:
    """What VS Code's inputs ask for, by id."""
    inner = document.get("mcp")
    listed = document.get("inputs") or (inner.get("inputs") if isinstance(inner, Mapping) else None)
    return {
        str(one["id"]): shown(one["description"])
        for one in (listed if isinstance(listed, list) else [])
        if isinstance(one, Mapping) and "id" in one and one.get("description")
    }


def _entry(name: str, entry: Any, labels: Mapping[str, str]) -> Entry:
    try:
        if not isinstance(entry, Mapping):
            raise BadEntry("It is not an object with a url or a command.")
        url = next((entry[key] for key in _URLS if entry.get(key)), None)
        if url is None:
            return _command(name, entry, labels)
        notes = (
            ("The file has it switched off.",) if entry.get("disabled") is True or entry.get("enabled") is False else ()
        )
        if str(entry.get("type", "")).lower() == "sse" and not str(url).rstrip("/").endswith("/sse"):
            notes = (*notes, "The file calls its transport SSE; the gateway speaks streamable HTTP with it. Test it.")
        return remote(name or _host(url), url, _headers(entry, labels), description="", notes=notes)
    except BadEntry as bad:
        return Unusable(shown(name), str(bad))


def _host(url: Any) -> str:
    return str(url).partition("://")[2].partition("/")[0]


def _headers(entry: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, Text]:
    inner = entry.get("requestInit")
    found = entry.get("headers") or (inner.get("headers") if isinstance(inner, Mapping) else None) or {}
    if not isinstance(found, Mapping):
        raise BadEntry("Its headers are not an object of names and values.")
    headers: dict[str, Text] = {}
    known = _environment(entry)
    for name, value in found.items():
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise BadEntry(f"The header {shown(name)} has a value that is not a text.")
        headers[str(name).strip()] = parse(str(value).strip(), known=known, labels=labels)
    if isinstance(variable := entry.get("bearer_token_env_var"), str) and "Authorization" not in headers:
        headers["Authorization"] = parse(f"Bearer ${{{variable}}}", labels=labels)
    return headers


def _environment(entry: Mapping[str, Any]) -> dict[str, str]:
    command = entry.get("command")
    found = entry.get("env") or (command.get("env") if isinstance(command, Mapping) else None)
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, Mapping) else {}


def _command(name: str, entry: Mapping[str, Any], labels: Mapping[str, str]) -> Entry:
    words = words_of(entry)
    if not words:
        raise BadEntry("It has neither a url nor a command.")
    wrapped = unwrap(words, known=_environment(entry), labels=labels)
    if wrapped is not None:
        return remote(name, wrapped.url, wrapped.headers, notes=wrapped.notes)
    why = _STDIO.format(program=shown(words[0])[:60])
    if (preset := find(name.strip().lower().replace(" ", "-"))) is not None:
        why += f" There is a preset for the provider's own remote server: {preset.name}."
    else:
        why += " Look for the provider's remote server, or put the program behind a streamable HTTP server of yours."
    return Unusable(shown(name), why)
