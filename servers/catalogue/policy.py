"""What becomes of a change under each policy. Pure.

Harmless is what cannot mislead a model and opens nothing to anybody: what is only for show, and what a caller may
leave aside. Every new text that a model reads is not, wherever it stands in the definition (tool poisoning, T34), nor
is a hint that access rules go by, in whichever direction: one that claims less danger lets more people in.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, Final

from servers.catalogue.differences import MOST, Difference, How, differences
from servers.models.catalogue import Catalogue

Policy = Catalogue.Policy
_FOR_SHOW: Final = frozenset({"icons", "size"})
_OF_CONTENT: Final = frozenset({"lastModified", "priority", "audience"})
# Keywords whose values are no prose.
_PLAIN: Final = frozenset(
    {
        "type",
        "format",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "uniqueItems",
    }
)
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,40}")
_PLAIN_WORD: Final = re.compile(r"[A-Za-z0-9_.+/-]{1,40}")
_LONGEST_TITLE: Final = 100


class Outcome(StrEnum):
    """What becomes of a change."""

    ACCEPT = "accept"
    HOLD = "hold"


def outcome(policy: Policy, before: Any, after: Any) -> Outcome:
    """What the policy makes of a definition that is another one than was approved (None: none was)."""
    if policy is Policy.ACCEPT_ALL:
        return Outcome.ACCEPT
    if policy is Policy.ACCEPT_HARMLESS and before is not None and is_harmless(before, after):
        return Outcome.ACCEPT
    return Outcome.HOLD


def is_harmless(before: Any, after: Any) -> bool:
    """Whether nobody needs to look at the change. One with more differences than are told is not."""
    found = differences(before, after)
    return len(found) < MOST and all(_harmless(one, after) for one in found)


def _harmless(difference: Difference, after: Any) -> bool:
    match difference.path:
        case ("title",) | ("annotations", "title"):
            return difference.how is How.REMOVED or _is_title(difference.after)
        case (first, *_) if first in _FOR_SHOW:
            return True
        case ("annotations", name) if name in _OF_CONTENT:
            return True
        case ("annotations", "idempotentHint"):
            return difference.after is True
        case ("annotations", "openWorldHint"):
            return difference.after is False
        case ("outputSchema", *_):
            return difference.how is How.ADDED and _is_plain(difference.after)
        case ("inputSchema", *rest) if _leads_to_property(rest):
            name = rest[-1]
            return (
                difference.how is How.ADDED
                and _PLAIN_NAME.fullmatch(name) is not None
                and _is_plain(difference.after)
                and not _is_required(after, difference.path)
            )
    return False


def _leads_to_property(rest: list[str]) -> bool:
    return bool(rest) and len(rest) % 2 == 0 and all(word == "properties" for word in rest[::2])


def _is_required(definition: Any, path: tuple[str, ...]) -> bool:
    # A change of `required` is a difference of its own; this is about a new object that requires its own.
    node = definition
    for name in path[:-2]:
        node = node[name]
    return path[-1] in node.get("required", ())


def _is_title(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_TITLE and value.isprintable()


def _is_plain(schema: Any) -> bool:
    """Whether a schema says nothing in prose: only types, bounds, and plain names and values."""
    if isinstance(schema, str):
        return _PLAIN_WORD.fullmatch(schema) is not None
    if not isinstance(schema, dict):
        return schema is None or isinstance(schema, bool | int | float)
    for keyword, value in schema.items():
        if keyword == "title":
            plain = _is_title(value)
        elif keyword in ("enum", "required", "type") and isinstance(value, list):
            plain = all(_is_plain(one) and not isinstance(one, dict) for one in value)
        elif keyword == "properties" and isinstance(value, dict):
            plain = all(_PLAIN_NAME.fullmatch(name) and _is_plain(one) for name, one in value.items())
        elif keyword in ("items", "additionalProperties"):
            plain = isinstance(value, dict | bool) and _is_plain(value)
        else:
            plain = keyword in _PLAIN and not isinstance(value, dict) and _is_plain(value)
        if not plain:
            return False
    return True
