"""Reads the JSON of answers that may be large or nested without end, piece by piece.

One call of `json.loads` on ten megabytes keeps every other thread of the process waiting, the event loop too; and one
item nested a thousand levels deep fails it as a whole. So the outer levels are walked here and each item is read by
itself; one that is too deep comes back cut off, deep enough for whoever checks it to refuse it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final

_SMALL: Final = 64 * 1024
_OUTER_LEVELS: Final = 3
"""The message, its result, the list in it."""
DEEPEST: Final = 400
"""What is nested deeper in one item is null."""
_BLANKS: Final = re.compile(r"[ \t\n\r]*")
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*+"|[\[\]{}]')
_decoder: Final = json.JSONDecoder()


def load(data: bytes, *, item: Callable[[Any], Any] = lambda value: value) -> Any:
    """The value; raises ValueError when it is not JSON.

    In a large one `item(value)` stands for each object in a list of the result.
    """
    if len(data) <= _SMALL:
        try:
            return json.loads(data)
        except RecursionError:
            pass
    text = data.decode("utf-8-sig")
    value, end = _read(text, _after_blanks(text, 0), _OUTER_LEVELS, item)
    if _after_blanks(text, end) != len(text):
        raise ValueError("more than one value")
    return value


def _read(text: str, at: int, levels: int, item: Callable[[Any], Any]) -> tuple[Any, int]:
    """The value that begins at `at`, and where it ends; so many levels are walked here."""
    first = text[at : at + 1]
    if levels and first == "{":
        return _read_object(text, at + 1, levels - 1, item)
    if levels and first == "[":
        return _read_list(text, at + 1, levels - 1, item)
    try:
        return _decoder.raw_decode(text, at)
    except RecursionError:
        return _read_deep(text, at)


def _read_object(text: str, at: int, levels: int, item: Callable[[Any], Any]) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    at = _after_blanks(text, at)
    if text[at : at + 1] == "}":
        return found, at + 1
    while True:
        if text[at : at + 1] != '"':
            raise ValueError("a member without a name")
        name, at = _decoder.raw_decode(text, at)
        at = _after_blanks(text, at)
        if text[at : at + 1] != ":":
            raise ValueError("a name without a value")
        found[name], at = _read(text, _after_blanks(text, at + 1), levels, item)
        at, is_last = _after_comma(text, at, "}")
        if is_last:
            return found, at


def _read_list(text: str, at: int, levels: int, item: Callable[[Any], Any]) -> tuple[list[Any], int]:
    found: list[Any] = []
    at = _after_blanks(text, at)
    if text[at : at + 1] == "]":
        return found, at + 1
    while True:
        value, at = _read(text, at, levels, item)
        found.append(item(value) if not levels and isinstance(value, dict) else value)
        at, is_last = _after_comma(text, at, "]")
        if is_last:
            return found, at


def _after_comma(text: str, at: int, closing: str) -> tuple[int, bool]:
    at = _after_blanks(text, at)
    sign = text[at : at + 1]
    if sign not in (",", closing) or not sign:
        raise ValueError("neither more nor an end")
    return (at + 1, True) if sign == closing else (_after_blanks(text, at + 1), False)


def _after_blanks(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    return match.end() if match else at


def _read_deep(text: str, at: int) -> tuple[Any, int]:
    """As `_read`, with null in place of whatever is nested too deep."""
    pieces: list[str] = []
    depth, kept_to, end = 0, at, None
    for token in _TOKEN.finditer(text, at):
        sign = token.group()
        if sign in "[{":
            depth += 1
            if depth == DEEPEST + 1:
                pieces.append(text[kept_to : token.start()])
        elif sign in "]}":
            depth -= 1
            if depth == DEEPEST:
                pieces.append("null")
                kept_to = token.end()
            if depth == 0:
                end = token.end()
                break
    if end is None:
        raise ValueError("no end")
    pieces.append(text[kept_to:end])
    return json.loads("".join(pieces)), end
