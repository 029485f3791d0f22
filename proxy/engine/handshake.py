"""`initialize` and `server/discover`: answered from the catalogues, so that no member is asked (T54). Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.conf import settings
from django.urls import reverse

from proxy.engine.wire import MODERN_VERSION, SERVER_INFO_KEY
from servers.registry import ServerFacts
from servers.virtual.arrangement import Arrangement

_MOST_INSTRUCTIONS: Final = 4000
"""Letters of one member's own instructions."""
_WITH_LIST_CHANGES: Final = ("tools", "prompts", "resources")


def capabilities(arrangement: Arrangement) -> dict[str, Any]:
    """What the engine does for these members: no more than one of them offers, and than we can carry.

    Members that were never read could offer anything, so everything is declared then.
    """
    catalogues = arrangement.catalogues.values()
    unread = any(not catalogue.taken for catalogue in catalogues)
    offered: dict[str, Any] = {}
    for name in _WITH_LIST_CHANGES:
        if unread or any(name in catalogue.capabilities for catalogue in catalogues):
            offered[name] = {"listChanged": True}
    if "resources" in offered and (unread or any(_subscribes(one.capabilities) for one in catalogues)):
        offered["resources"]["subscribe"] = True
    for name in ("completions", "logging"):
        if unread or any(name in catalogue.capabilities for catalogue in catalogues):
            offered[name] = {}
    # A server without anything is a server with an empty list of tools.
    return offered or {"tools": {"listChanged": True}}


def _subscribes(offered: Mapping[str, Any]) -> bool:
    resources = offered.get("resources")
    return isinstance(resources, dict) and bool(resources.get("subscribe"))


def server_info(server: ServerFacts) -> dict[str, str]:
    """Name and version that clients are told."""
    return {"name": f"{server.tenant_slug}/{server.slug}", "title": server.name, "version": settings.VERSION}


def instructions(arrangement: Arrangement, names: Mapping[str, str], unconnected: Sequence[str]) -> str:
    """What a model is told about the whole: members by name, what is not connected, and their own instructions.

    `names` are the members' names by alias, in order; without an alias there is one member, which speaks for itself.
    """
    parts = []
    if list(names) != [""]:
        listed = ", ".join(f"{name} ({alias}__…)" if alias else name for alias, name in names.items())
        parts.append(f"One address for: {listed}.")
    if unconnected:
        page = f"{settings.PUBLIC_URL}{reverse('my-connections')}"
        parts.append(f"Not connected yet: {', '.join(unconnected)}. The user can connect them at {page}")
    for member in arrangement.members:
        said = arrangement.catalogues[member.id].instructions.strip()
        if said and member.alias in names:
            heading = f"{names[member.alias]}:\n" if len(names) > 1 else ""
            parts.append(heading + said[:_MOST_INSTRUCTIONS])
    return "\n\n".join(parts)


def initialized(server: ServerFacts, version: str, offered: Mapping[str, Any], said: str) -> dict[str, Any]:
    """The result of `initialize`."""
    found = {"protocolVersion": version, "capabilities": offered, "serverInfo": server_info(server)}
    return {**found, "instructions": said} if said else found


def discovered(server: ServerFacts, offered: Mapping[str, Any], said: str) -> dict[str, Any]:
    """The result of `server/discover`. Older versions are not among the supported: they are opened otherwise."""
    found: dict[str, Any] = {
        "resultType": "complete",
        "supportedVersions": [MODERN_VERSION],
        "capabilities": offered,
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": {SERVER_INFO_KEY: server_info(server)},
    }
    return {**found, "instructions": said} if said else found
