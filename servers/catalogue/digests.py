"""Definitions as text: compact as they are stored and listed, canonical to be compared. Pure."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def compact(value: Any) -> str:
    """JSON without blanks, members in the order in which the server wrote them.

    Raises ValueError for what has no JSON form that every reader takes: numbers without end, halves of characters.
    """
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    text.encode()
    return text


def canonical(value: Any) -> str:
    """The same with the members in order, so that equal definitions have equal texts. Raises ValueError."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False, sort_keys=True)


def digest(text: str) -> str:
    """SHA-256 of a definition, whatever the order of its members; an empty text for none."""
    return hashlib.sha256(canonical(json.loads(text)).encode()).hexdigest() if text else ""


def same(one: str, other: str) -> bool:
    """Whether two stored texts are one definition."""
    if one == other or not one or not other:
        return one == other
    # Another order keeps the length; nothing else that makes no difference comes from the same reader.
    return len(one) == len(other) and canonical(json.loads(one)) == canonical(json.loads(other))
