"""Texts that servers wrote, shown so that nothing in them hides: control characters and schemas."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe

MOST_ROWS: Final = 200
"""Rows of one property table; the rest is in the JSON."""
_DEEPEST: Final = 4
_MOST_CHARACTERS: Final = 100_000
# Categories of characters that are not seen, or that change how others are: controls, formats, private use,
# surrogates, line and paragraph separators, and the blanks that look like nothing.
_UNSEEN: Final = frozenset(("Cc", "Cf", "Co", "Cs", "Zl", "Zp"))
_UNSEEN_LETTERS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
_SEEN: Final = frozenset("\n\t")
_WORDS: Final = {"\x1b": "ESC", "\x00": "NUL", "\x08": "BS", "\r": "CR", "\x7f": "DEL"}
_MAYBE_UNSEEN: Final = re.compile("[^\t\n -~\u00a1-\u00ac\u00ae-\u02ff]")


def visible(text: str) -> SafeString:
    """The text, escaped; what a person would not see in it stands there as a mark, for example `U+202E`."""
    text, rest = text[:_MOST_CHARACTERS], len(text) - _MOST_CHARACTERS
    shown = conditional_escape(text) if not has_unseen(text) else mark_safe("".join(_marked(text)))  # noqa: S308
    return format_html("{} … and {} characters more", shown, rest) if rest > 0 else shown


def plain(text: str) -> str:
    """The same where no mark can stand, in a title or the name of a control; not escaped."""
    return _MAYBE_UNSEEN.sub(lambda one: f"[{_word(one.group())}]" if _is_unseen(one.group()) else one.group(), text)


def _word(character: str) -> str:
    return _WORDS.get(character, f"U+{ord(character):04X}")


def has_unseen(text: str) -> bool:
    """Whether the text holds characters that a person would not see."""
    return any(_is_unseen(found.group()) for found in _MAYBE_UNSEEN.finditer(text))


def _is_unseen(character: str) -> bool:
    if character in _SEEN:
        return False
    return unicodedata.category(character) in _UNSEEN or character in _UNSEEN_LETTERS


def _marked(text: str) -> Iterator[str]:
    plain = 0
    for found in _MAYBE_UNSEEN.finditer(text):
        character = found.group()
        if not _is_unseen(character):
            continue
        yield str(conditional_escape(text[plain : found.start()]))
        name = unicodedata.name(character, "control character").lower()
        yield str(format_html('<mark class="gh-unseen" title="{}">{}</mark>', name, _word(character)))
        plain = found.end()
    yield str(conditional_escape(text[plain:]))


def as_json(value: Any) -> SafeString:
    """A definition as indented JSON."""
    return visible(json.dumps(value, indent=2, ensure_ascii=False))


@dataclass(frozen=True, slots=True)
class Property:
    """One row of a property table: a property of a schema, or an argument of a prompt."""

    name: SafeString
    type: SafeString
    required: bool
    description: SafeString
    limits: SafeString
    depth: int = 0


def properties_of(schema: Any) -> tuple[list[Property], bool]:
    """A JSON schema as rows, nested properties below their parent; and whether some are left out."""
    rows: list[Property] = []
    for row in _rows(schema, 0):
        if len(rows) == MOST_ROWS:
            return rows, True
        rows.append(row)
    return rows, False


def arguments_of(arguments: Any) -> list[Property]:
    """The arguments of a prompt as rows."""
    listed = arguments if isinstance(arguments, list) else []
    return [
        Property(
            visible(str(one.get("name", ""))),
            visible("text"),
            one.get("required") is True,
            visible(str(one.get("description", ""))),
            visible(""),
        )
        for one in listed[:MOST_ROWS]
        if isinstance(one, dict)
    ]


def _rows(schema: Any, depth: int) -> Iterator[Property]:
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict) or depth == _DEEPEST:
        return
    required = schema.get("required")
    needed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    for name, inner in properties.items():
        about = inner if isinstance(inner, dict) else {}
        yield Property(
            visible(str(name)),
            visible(_type_of(about)),
            name in needed,
            visible(str(about.get("description") or about.get("title") or "")),
            visible(_limits_of(about)),
            depth,
        )
        yield from _rows(about, depth + 1)
        yield from _rows(about.get("items"), depth + 1)


def _type_of(about: dict[str, Any]) -> str:
    found = about.get("type")
    if isinstance(found, list):
        return " or ".join(str(one) for one in found)
    if found == "array" and isinstance(about.get("items"), dict):
        return f"array of {_type_of(about['items'])}"
    if found:
        return str(found)
    for word in ("anyOf", "oneOf", "allOf"):
        choices = about.get(word)
        if isinstance(choices, list):
            names = [_type_of(one) for one in choices[:6] if isinstance(one, dict)]
            return (" and " if word == "allOf" else " or ").join(names) or word
    if "enum" in about or "const" in about:
        return "value"
    return str(about.get("$ref", "anything"))


# Words of JSON Schema that narrow a value, each with what stands before it.
_LIMITS: Final = {
    "const": "always", "default": "default", "format": "format", "pattern": "pattern", "minimum": "at least",
    "exclusiveMinimum": "more than", "maximum": "at most", "exclusiveMaximum": "less than",
    "minLength": "characters at least", "maxLength": "characters at most", "minItems": "items at least",
    "maxItems": "items at most", "x-mcp-header": "also in the header",
}  # fmt: skip


def _limits_of(about: dict[str, Any]) -> str:
    parts = []
    choices = about.get("enum")
    if isinstance(choices, list):
        shown = [json.dumps(one, ensure_ascii=False) for one in choices[:12]]
        parts.append("one of " + ", ".join(shown) + (", …" if len(choices) > 12 else ""))
    for name, words in _LIMITS.items():
        if name in about:
            parts.append(f"{words} {json.dumps(about[name], ensure_ascii=False)}"[:200])
    return "; ".join(parts)
