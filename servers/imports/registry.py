"""Entries of the public MCP registry: one server.json, several, or a list as the registry's API answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from servers.imports.entries import OLD_TRANSPORT, Entry, Unusable, remote, shown
from servers.imports.values import BadEntry, Missing, Text, parse_registry

_STREAMABLE: Final = frozenset(("streamable-http", "streamable", "http"))
_OFFICIAL: Final = "io.modelcontextprotocol.registry/official"


def entries(document: Any) -> list[Entry] | None:
    """What each entry comes to, in the document's order; None when it is nothing of the registry."""
    listed = _listed(document)
    if listed is None:
        return None
    latest: dict[str, tuple[bool, Entry]] = {}
    for number, one in enumerate(listed, start=1):
        server, official = _unwrapped(one)
        key = str(server.get("name") or f"#{number}")
        newest = official.get("isLatest") is True
        # Of several versions of one server the newest counts, else the last in the list.
        if key not in latest or newest or not latest[key][0]:
            latest[key] = (newest, _entry(server, official))
    return [entry for _, entry in latest.values()]


def _listed(document: Any) -> list[Any] | None:
    if isinstance(document, Mapping):
        found = document.get("servers")
        document = found if isinstance(found, list) else [document]
    if not isinstance(document, list) or not document:
        return None
    return document if any(_is_server(_unwrapped(one)[0]) for one in document) else None


def _is_server(value: Mapping[str, Any]) -> bool:
    return isinstance(value.get("name"), str) and ("remotes" in value or "packages" in value)


def _unwrapped(one: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    if not isinstance(one, Mapping):
        return {}, {}
    inner, meta = one.get("server"), one.get("_meta")
    official = meta.get(_OFFICIAL) if isinstance(meta, Mapping) else None
    return inner if isinstance(inner, Mapping) else one, official if isinstance(official, Mapping) else {}


def _entry(server: Mapping[str, Any], official: Mapping[str, Any]) -> Entry:
    full = str(server.get("name") or "")
    name = str(server.get("title") or full.rpartition("/")[2])
    try:
        if not full:
            raise BadEntry("It has no name.")
        if official.get("status") == "deleted":
            raise BadEntry("The registry has marked it as deleted.")
        notes: tuple[str, ...] = (f"In the registry as {shown(full)}.",)
        if official.get("status") == "deprecated":
            notes = (*notes, "The registry marks it as deprecated.")
        found = _remote_of(server)
        headers, said = _headers(found)
        return remote(
            name, _url(found), headers, description=str(server.get("description") or ""), notes=(*notes, *said)
        )
    except BadEntry as bad:
        return Unusable(shown(name or full), str(bad))


def _remote_of(server: Mapping[str, Any]) -> Mapping[str, Any]:
    listed = server.get("remotes")
    remotes = [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []
    for one in remotes:
        if str(one.get("type") or one.get("transport_type") or "") in _STREAMABLE:
            return one
    if remotes:
        raise BadEntry(OLD_TRANSPORT)
    raise BadEntry("It is a package that runs on one's own machine. The gateway calls servers over HTTP.")


def _url(found: Mapping[str, Any]) -> str:
    text = parse_registry(str(found.get("url") or ""), _variables(found))
    if text.missing:
        parts = ", ".join(shown(one.name) for one in text.missing)
        raise BadEntry(f"Its URL has parts of your own ({parts}). Add it by hand with the URL that is yours.")
    return text.filled({})


def _headers(found: Mapping[str, Any]) -> tuple[dict[str, Text], tuple[str, ...]]:
    listed, headers = found.get("headers"), dict[str, Text]()
    notes: list[str] = []
    for one in listed if isinstance(listed, list) else []:
        if not isinstance(one, Mapping) or not isinstance(one.get("name"), str):
            raise BadEntry("One of its headers has no name.")
        name, value = one["name"].strip(), one.get("value") or one.get("default")
        if isinstance(value, str) and value:
            headers[name] = parse_registry(value, _variables(one))
        elif one.get("isRequired") is True or one.get("is_required") is True:
            headers[name] = Text((Missing(name, shown(one.get("description") or name)),))
        else:
            notes.append(f"The header {shown(name)} is optional and left out.")
    return headers, tuple(notes)


def _variables(holder: Mapping[str, Any]) -> dict[str, Missing | str]:
    listed = holder.get("variables")
    found: dict[str, Missing | str] = {}
    for name, one in listed.items() if isinstance(listed, Mapping) else ():
        described = one if isinstance(one, Mapping) else {}
        given = described.get("value") or described.get("default")
        found[str(name)] = str(given) if given else Missing(str(name), shown(described.get("description") or name))
    return found
