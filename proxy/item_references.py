"""Items that are named deeper in the parameters than a tool's name: completion references, listening requests. Pure.

What policy reads here must be what a server reads: keys that differ from the known ones only in case are refused, as
`messages.peek` does for the other methods (T38).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from servers.items import ItemKind

_EXACT: Final = frozenset(("params", "ref", "type", "name", "uri", "notifications", "resourceSubscriptions"))
_FOLDED: Final = frozenset(key.casefold() for key in _EXACT)


class Unreadable(Exception):
    """Parameters that name no item, or not in one way; the text is for the caller."""


def referred(parameters: Mapping[str, Any]) -> tuple[ItemKind, str]:
    """What a completion is for: a prompt, or a template (by its text, or by a URI). Raises Unreadable."""
    reference = member(parameters, "ref")
    match reference.get("type"):
        case "ref/prompt":
            kind, name = ItemKind.PROMPT, reference.get("name")
        case "ref/resource":
            kind, name = ItemKind.TEMPLATE, reference.get("uri")
        case _:
            name = None
    if not isinstance(name, str):
        raise Unreadable("`params.ref` must name a prompt or a resource.")
    return kind, name


def listened(parameters: Mapping[str, Any]) -> list[str]:
    """URIs of the resources that a listening request wants to hear of. Raises Unreadable."""
    found = member(parameters, "notifications").get("resourceSubscriptions") or []
    if not isinstance(found, list) or not all(isinstance(uri, str) for uri in found):
        raise Unreadable("`params.notifications.resourceSubscriptions` must be a list of URIs.")
    return found


def member(holder: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object inside another. Raises Unreadable."""
    found = holder.get(name)
    if not isinstance(found, dict):
        raise Unreadable(f"`{name}` must be an object.")
    if any(key not in _EXACT and key.casefold() in _FOLDED for key in (*holder, *found)):
        raise Unreadable("A key differs from a known one only in case.")
    return found
