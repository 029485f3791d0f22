"""What a rule opens, in words: the same on every page that shows rules. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from servers.items import ItemFilter, ItemKind, ItemRights
from servers.models.access import AccessRule, Hints, Items, Role
from servers.registry import filter_of

_NOUNS: Final = {
    ItemKind.TOOL: ("tool", "tools"),
    ItemKind.PROMPT: ("prompt", "prompts"),
    ItemKind.RESOURCE: ("resource", "resources"),
    ItemKind.TEMPLATE: ("resource template", "resource templates"),
}
_HINTS: Final = {
    Hints.READ_ONLY: "of tools only those that only read",
    Hints.NOT_DESTRUCTIVE: "of tools only those that destroy nothing",
}


def role_text(rule: AccessRule) -> str:
    """The rule's role with what it opens, for example "User of 3 tools"; plain where it opens everything."""
    role = str(Role(rule.role).label)
    if rule.role == Role.MANAGER:
        return role
    limits = filter_text(filter_of(rule))
    return f"{role} of {limits}" if limits else role


def filter_text(opened: ItemFilter) -> str:
    """What a rule opens, to stand after "of"; empty where it is everything."""
    parts = []
    if opened.items is Items.ONLY:
        parts.append(_counted(opened.names))
    elif opened.items is Items.EXCEPT and opened.names:
        parts.append(f"everything but {_counted(opened.names)}")
    if opened.hints in _HINTS:
        parts.append(_HINTS[opened.hints])
        if len(parts) == 1:
            parts.insert(0, "everything")
    return ", ".join(parts)


def rights_text(rights: ItemRights) -> str:
    """The same for all of somebody's rules together; empty where one of them opens everything."""
    if rights.unlimited:
        return ""
    return "; besides ".join(sorted(filter_text(one) for one in rights.filters)) or "nothing"


def _counted(names: Iterable[str]) -> str:
    counts = Counter(name.partition(":")[0] for name in names)
    found = [
        f"{counts[kind]} {many if counts[kind] != 1 else one}" for kind, (one, many) in _NOUNS.items() if counts[kind]
    ]
    if not found:
        return "nothing"
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"
