"""What changed between two definitions, as a page shows it: field by field, with the changed words marked."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any, Final

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from servers.catalogue.differences import MOST, differences
from servers.catalogue.texts import visible

_PIECES: Final = re.compile(r"\s+|\w+|[^\w\s]")
# Comparing word by word takes time with the square of their number; so many are compared on one page.
_MOST_PIECES: Final = 3_000


@dataclass(frozen=True, slots=True)
class Changed:
    """One field that is not as it was."""

    sentence: SafeString
    field: SafeString
    before: SafeString
    after: SafeString


def changed_fields(before: Any, after: Any) -> tuple[list[Changed], bool]:
    """The fields that differ, and whether there are more than are shown."""
    found, left = [], _MOST_PIECES
    told = differences(before, after)
    for one in told:
        before_text, after_text = _text(one.before), _text(one.after)
        old, new = _PIECES.findall(before_text), _PIECES.findall(after_text)
        if old and new and len(old) + len(new) <= left:
            left -= len(old) + len(new)
            marked = _marked(old, new)
        else:
            marked = _whole(before_text, "del"), _whole(after_text, "ins")
        found.append(Changed(visible(one.sentence), visible(one.field), *marked))
    return found, len(told) == MOST


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _marked(old: list[str], new: list[str]) -> tuple[SafeString, SafeString]:
    before, after = [], []
    for tag, a, b, c, d in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        kept = tag == "equal"
        before.append(visible("".join(old[a:b])) if kept else _whole("".join(old[a:b]), "del"))
        after.append(visible("".join(new[c:d])) if kept else _whole("".join(new[c:d]), "ins"))
    return _joined(before), _joined(after)


def _joined(parts: list[SafeString]) -> SafeString:
    return format_html_join("", "{}", ((part,) for part in parts))


def _whole(text: str, element: str) -> SafeString:
    if not text:
        return visible("")
    return format_html("<{0}>{1}</{0}>", element, visible(text))
