"""What differs between two definitions, for people. Pure.

Walks no deeper than definitions are allowed to be (`checks.MOST_LEVELS`) and never follows a reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from servers.catalogue.digests import canonical

MOST: Final = 200
"""So many differences are told; after that many it is another definition."""
_NAMED: Final = {
    "description": "The description",
    "title": "The title",
    "inputSchema": "The input schema",
    "outputSchema": "The output schema",
    "annotations": "The hints",
    "arguments": "The arguments",
    "icons": "The icons",
    "mimeType": "The type of its content",
    "size": "The size",
    "name": "The name",
}
_HINTS: Final = {
    "readOnlyHint": ("only reads", "may change something"),
    "destructiveHint": ("may destroy something", "destroys nothing"),
    "idempotentHint": ("does no more when it is called again", "does more each time when it is called again"),
    "openWorldHint": ("deals with the outside world", "keeps to a closed world"),
}
_SCHEMAS: Final = {"inputSchema": "input", "outputSchema": "output"}
_AS_SETS: Final = ("required", "enum")


class How(StrEnum):
    """What happened to a field."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that is not as it was; of what was added or removed the other value is None."""

    path: tuple[str, ...]
    """Names that lead to it, for example `("inputSchema", "properties", "query", "type")`."""
    how: How
    before: Any
    after: Any
    sentence: str

    @property
    def field(self) -> str:
        """The path as one text."""
        return ".".join(self.path)

    @property
    def before_text(self) -> str:
        """The old value as it is shown: texts as they are, the rest as JSON, nothing as an empty text."""
        return _shown(self.before)

    @property
    def after_text(self) -> str:
        """The new value as it is shown."""
        return _shown(self.after)


def differences(before: Any, after: Any) -> list[Difference]:
    """What is different in `after`, field by field, in the order of `after`; equal definitions have none.

    The order of members does not count, nor that of names that are required or of values to choose from.
    """
    found: list[Difference] = []
    _compare((), before, after, found)
    return found[:MOST]


def _compare(path: tuple[str, ...], before: Any, after: Any, found: list[Difference]) -> None:
    if len(found) >= MOST:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in [*after, *(name for name in before if name not in after)]:
            if name not in before:
                found.append(_difference((*path, name), How.ADDED, None, after[name]))
            elif name not in after:
                found.append(_difference((*path, name), How.REMOVED, before[name], None))
            else:
                _compare((*path, name), before[name], after[name], found)
    elif path and path[-1] in _AS_SETS and _are_texts(before) and _are_texts(after):
        found += [_difference((*path, one), How.ADDED, None, one) for one in after if one not in before]
        found += [_difference((*path, one), How.REMOVED, one, None) for one in before if one not in after]
    elif type(before) is not type(after) or canonical(before) != canonical(after):
        found.append(_difference(path, How.CHANGED, before, after))


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _difference(path: tuple[str, ...], how: How, before: Any, after: Any) -> Difference:
    return Difference(path, how, before, after, _sentence(path, how, before, after))


def _sentence(path: tuple[str, ...], how: How, before: Any, after: Any) -> str:
    if path[:1] == ("annotations",) and len(path) == 2 and path[1] in _HINTS:
        return _of_hint(path[1], after)
    if path and path[0] in _SCHEMAS and len(path) > 1:
        return _of_schema(path, how, before, after)
    called = _NAMED.get(path[0], f"“{_cut('.'.join(path))}”") if path else "The definition"
    if len(path) > 1:
        called = f"“{_cut('.'.join(path))}”"
    return f"{called} {_verb(how, plural=called in ('The hints', 'The arguments', 'The icons'))}."


def _verb(how: How, *, plural: bool = False) -> str:
    return "changed" if how is How.CHANGED else f"{'were' if plural else 'was'} {how}"


def _of_hint(name: str, after: Any) -> str:
    holds, does_not = _HINTS[name]
    if after is None:
        return f"It does not say any more whether it {holds}."
    return f"It says now that it {holds if after is True else does_not}."


def _of_schema(path: tuple[str, ...], how: How, before: Any, after: Any) -> str:
    called, rest, names = _SCHEMAS[path[0]], list(path[1:]), []
    while len(rest) >= 2 and rest[0] == "properties":
        names.append(rest[1])
        rest = rest[2:]
    where = f"The {called} “{_cut('.'.join(names))}”" if names else f"The {called} schema"
    match rest:
        case []:
            return f"{where} {_verb(how)}."
        case ["required", name]:
            inner = _cut(".".join([*names, name]))
            return f"The {called} “{inner}” is {'now' if how is How.ADDED else 'no longer'} required."
        case ["type"] if how is How.CHANGED:
            return f"{where} is of the type {_cut(_shown(after))} now, not {_cut(_shown(before))}."
        case ["enum", value]:
            return f"{where} {'allows' if how is How.ADDED else 'no longer allows'} “{_cut(value)}”."
        case ["description"]:
            return f"The description of {where[0].lower()}{where[1:]} {_verb(how)}."
        case _:
            return f"{where} {_verb(How.CHANGED)}: “{_cut('.'.join(rest))}” {_verb(how)}."


def _cut(text: str) -> str:
    printable = "".join(c if c.isprintable() else "\ufffd" for c in text[:81])
    return printable if len(text) <= 80 else f"{printable[:80]}…"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else canonical(value)
