"""What of an offered definition cannot be served, and what is left out of one that can. Pure.

A list is one answer: a single definition that a strict client cannot read costs it all the others. So what breaks
the protocol is kept out with a sentence for the manager, and members that are only for show are left out where they
are not what they should be.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from servers.catalogue.digests import compact
from servers.catalogue.readings import JsonText
from servers.catalogue.schemas import bad_header_annotation, is_deeper_than, reference_outside
from servers.items import ItemKind
from servers.models.catalogue import LONGEST_KEY

MOST_BYTES: Final = 256 * 1024
MOST_LEVELS: Final = 100
"""Of objects and lists inside each other in one definition."""
KEY_MEMBERS: Final[Mapping[ItemKind, str]] = {
    ItemKind.TOOL: "name",
    ItemKind.PROMPT: "name",
    ItemKind.RESOURCE: "uri",
    ItemKind.TEMPLATE: "uriTemplate",
}
_LONGEST_PROBLEM: Final = 300
_MOST_NOTES: Final = 50
# Controls, formats (they turn or hide what is read), halves of characters, and separators of lines and paragraphs.
_UNSEEN: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_OBJECT: Final = "object"
_HINTS: Final = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
_TASK_SUPPORT: Final = ("forbidden", "optional", "required")
_THEMES: Final = ("light", "dark")
_ROLES: Final = ("user", "assistant")
_INSTANT: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2})")


@dataclass(frozen=True, slots=True)
class Checked:
    """One definition as it is stored. With a problem its key is for people, and its text may stand for another one."""

    kind: ItemKind
    key: str
    text: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class CheckedAll:
    """A whole reading, each kind in the server's order; `notes` says what was left out altogether."""

    items: tuple[Checked, ...]
    notes: tuple[str, ...] = ()


class _Problem(Exception):
    """The definition cannot be served; the text says why."""


def check_all(offered: Mapping[ItemKind, Iterable[Any]]) -> CheckedAll:
    """Check what one reading found. Of several with the same name the first counts."""
    found: dict[tuple[ItemKind, str], Checked] = {}
    notes: list[str] = []
    for kind, definitions in offered.items():
        for place, definition in enumerate(definitions, start=1):
            one = check(kind, definition, place=place)
            if (kind, one.key) in found:
                notes.append(f"“{one.key[:100]}” ({kind.label.lower()}) is offered more than once; the first counts.")
            else:
                found[kind, one.key] = one
    if len(notes) > _MOST_NOTES:
        notes = [*notes[:_MOST_NOTES], f"and {len(notes) - _MOST_NOTES} more that are offered more than once."]
    return CheckedAll(tuple(found.values()), tuple(notes))


def check(kind: ItemKind, definition: Any, *, place: int = 1) -> Checked:
    """Check one definition, the `place`-th of its list. Never raises."""
    key = f"(entry {place})"
    if isinstance(definition, JsonText):
        definition = json.loads(definition)
    try:
        if not isinstance(definition, dict):
            raise _Problem("It is not an object.")
        member = KEY_MEMBERS[kind]
        name = definition.get(member)
        if not isinstance(name, str) or not name:
            raise _Problem(f"It has no {member}." if name in (None, "") else f"Its {member} is not a text.")
        key = _for_people(name)
        _check_key(name, member)
        # Before anything that recurses.
        if is_deeper_than(definition, MOST_LEVELS):
            raise _Problem(f"It is nested more than {MOST_LEVELS} levels deep.")
        served = _without_nothing(definition)
        _leave_out_what_is_for_show(served, kind)
        _check_members(served, kind)
        text = _text_of(served)
    except _Problem as problem:
        return Checked(kind, key, _kept_text(kind, key, definition), str(problem)[:_LONGEST_PROBLEM])
    return Checked(kind, key, text)


def _text_of(definition: Any) -> str:
    try:
        text = compact(definition)
    except ValueError as error:
        raise _Problem("It holds numbers or characters that JSON cannot carry.") from error
    if len(text.encode()) > MOST_BYTES:
        raise _Problem(f"It is larger than {MOST_BYTES // 1024} KiB.")
    return text


def _kept_text(kind: ItemKind, key: str, definition: Any) -> str:
    """What is stored of what cannot be served, for people to look at: itself, or an object that only names it."""
    if isinstance(definition, dict) and not is_deeper_than(definition, MOST_LEVELS):
        try:
            return _text_of(definition)
        except _Problem:
            pass
    return compact({KEY_MEMBERS[kind]: key})


def _for_people(name: str) -> str:
    """A key that can be stored and shown: itself, or with what cannot be seen spelt out, and cut."""
    shown = "".join(f"\\u{ord(c):04x}" if unicodedata.category(c) in _UNSEEN else c for c in name[: LONGEST_KEY + 1])
    if shown == name and len(name) <= LONGEST_KEY:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return shown if len(shown) <= LONGEST_KEY and len(name) <= LONGEST_KEY else f"{shown[: LONGEST_KEY - 9]}_{digest}"


def _check_key(name: str, member: str) -> None:
    if len(name) > LONGEST_KEY:
        raise _Problem(f"Its {member} is longer than {LONGEST_KEY} characters.")
    if any(unicodedata.category(c) in _UNSEEN for c in name):
        raise _Problem(f"Its {member} has control characters or others that cannot be seen.")


def _without_nothing(definition: dict[str, Any]) -> dict[str, Any]:
    """Without members that are null: strict clients take an absent one, not that."""
    return {key: value for key, value in definition.items() if value is not None}


# What breaks the protocol


def _check_members(definition: dict[str, Any], kind: ItemKind) -> None:
    _expect(definition, str, "a text", "title", "description")
    if kind in (ItemKind.RESOURCE, ItemKind.TEMPLATE):
        if not isinstance(definition.get("name"), str):
            raise _Problem("It has no name.")
        _expect(definition, str, "a text", "mimeType")
    elif kind is ItemKind.PROMPT:
        _check_arguments(definition)
    else:
        _check_tool(definition)


def _expect(definition: dict[str, Any], wanted: type, called: str, *members: str) -> None:
    for member in members:
        if member in definition and not isinstance(definition[member], wanted):
            raise _Problem(f"Its {member} is not {called}.")


def _check_arguments(prompt: dict[str, Any]) -> None:
    _expect(prompt, list, "a list", "arguments")
    if "arguments" not in prompt:
        return
    arguments = []
    for one in prompt["arguments"]:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise _Problem("One of its arguments has no name.")
        argument = _without_nothing(one)
        if not all(isinstance(argument.get(member, ""), str) for member in ("title", "description")):
            raise _Problem(f"Title or description of its argument {_for_people(one['name'])[:60]} is not a text.")
        if not isinstance(argument.get("required", False), bool):
            raise _Problem(f"Whether its argument {_for_people(one['name'])[:60]} is required is not said.")
        arguments.append(argument)
    prompt["arguments"] = arguments


def _check_tool(tool: dict[str, Any]) -> None:
    _check_schema(tool, "inputSchema", "input schema")
    if "inputSchema" not in tool:
        raise _Problem("It has no input schema.")
    _expect(tool, dict, "an object", "outputSchema")
    # Any schema is allowed by now; clients of older revisions read only those of objects.
    if tool.get("outputSchema", {}).get("type") != _OBJECT:
        tool.pop("outputSchema", None)
    _check_schema(tool, "outputSchema", "output schema")
    _expect(tool, dict, "an object", "annotations")
    if "annotations" in tool:
        tool["annotations"] = annotations = _without_nothing(tool["annotations"])
        _expect(annotations, bool, "true or false", *_HINTS)
        _expect(annotations, str, "a text", "title")
    if tool.get("execution", {}).get("taskSupport") == "required":
        raise _Problem("It runs only as a task, which the gateway does not offer.")
    wrong = bad_header_annotation(tool["inputSchema"])
    if wrong is not None:
        raise _Problem(f"Its {_printable(wrong)}.")


def _check_schema(tool: dict[str, Any], member: str, called: str) -> None:
    schema = tool.get(member)
    if member not in tool:
        return
    if not isinstance(schema, dict) or schema.get("type") != _OBJECT:
        raise _Problem(f"Its {called} is not the schema of an object.")
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, dict) or not all(isinstance(one, dict | bool) for one in properties.values()):
        raise _Problem(f"The properties in its {called} are not schemas.")
    if not isinstance(required, list) or not all(isinstance(one, str) for one in required):
        raise _Problem(f"What its {called} requires is not a list of names.")
    reference = reference_outside(schema)
    if reference is not None:
        raise _Problem(f"Its {called} refers to another place, which is never followed: {_printable(reference)}")
    if any(isinstance(one, bool) for one in properties.values()):
        as_objects = {
            name: one if isinstance(one, dict) else {} if one else {"not": {}} for name, one in properties.items()
        }
        tool[member] = {**schema, "properties": as_objects}


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "\ufffd" for c in text[:200])


# What is only for show


def _leave_out_what_is_for_show(definition: dict[str, Any], kind: ItemKind) -> None:
    """Take out optional members that are not what they should be; icons only where a page could show them (CL-29)."""
    if "icons" in definition:
        icons = definition["icons"] if isinstance(definition["icons"], list) else []
        definition["icons"] = [_without_nothing(icon) for icon in icons if _is_icon(icon)]
        if not definition["icons"]:
            del definition["icons"]
    if not isinstance(definition.get("_meta", {}), dict):
        del definition["_meta"]
    execution = definition.get("execution", {})
    if not isinstance(execution, dict) or execution.get("taskSupport", "optional") not in _TASK_SUPPORT:
        del definition["execution"]
    size = definition.get("size", 0)
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        del definition["size"]
    if kind in (ItemKind.RESOURCE, ItemKind.TEMPLATE) and "annotations" in definition:
        definition["annotations"] = _annotations(definition["annotations"])
        if not definition["annotations"]:
            del definition["annotations"]


def _is_icon(icon: Any) -> bool:
    if not isinstance(icon, dict):
        return False
    source, sizes = icon.get("src"), icon.get("sizes") or []
    return (
        isinstance(source, str)
        and source.lower().startswith(("https://", "data:image/"))
        and source.isprintable()
        and isinstance(icon.get("mimeType") or "", str)
        and isinstance(sizes, list)
        and all(isinstance(one, str) for one in sizes)
        and icon.get("theme") in (None, *_THEMES)
    )


def _annotations(said: Any) -> dict[str, Any]:
    """Those of a resource that mean something; whatever else stands there stays."""
    kept = _without_nothing(said) if isinstance(said, dict) else {}
    audience, priority, modified = kept.get("audience", []), kept.get("priority", 0), kept.get("lastModified")
    if not isinstance(audience, list) or not all(one in _ROLES for one in audience):
        del kept["audience"]
    if isinstance(priority, bool) or not isinstance(priority, int | float) or not 0 <= priority <= 1:
        del kept["priority"]
    if modified is not None and not (isinstance(modified, str) and _INSTANT.fullmatch(modified)):
        del kept["lastModified"]
    return kept
