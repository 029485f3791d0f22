"""A pasted or uploaded text to JSON, with what is wrong by line and column. Pure.

Editors write their files with comments and trailing commas; both are read as if they were not there.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

MOST_CHARACTERS: Final = 256 * 1024
# Each alternative matches once begun, closed or not: a text that never closes what it opens costs one pass, not many.
_STRING: Final = r'"(?:[^"\\\n]|\\.)*+"?'
_COMMENT: Final = re.compile(rf"{_STRING}|//[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)
_TRAILING_COMMA: Final = re.compile(rf"{_STRING}|,(?=\s*+[\]}}])")


class BadDocument(ValueError):
    """A text that cannot be read; the message says where and why, and repeats nothing of it."""


def read(text: str) -> Any:
    """The JSON value of the text. Raises BadDocument."""
    text = text.removeprefix("\ufeff")
    if len(text) > MOST_CHARACTERS:
        raise BadDocument(f"This is longer than {MOST_CHARACTERS // 1024} KiB. Import a part of it at a time.")
    if not text.strip():
        raise BadDocument("Paste a client's configuration or a registry entry, or choose a file.")
    try:
        return json.loads(_TRAILING_COMMA.sub(_plain, _COMMENT.sub(_plain, text)), parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise BadDocument(f"Line {error.lineno}, column {error.colno}: this is not JSON ({error.msg}).") from error
    except RecursionError as error:
        raise BadDocument("This is nested too deeply to be read.") from error
    except ValueError as error:
        raise BadDocument("This holds a number that JSON does not have.") from error


def _plain(match: re.Match[str]) -> str:
    # As long as what it stands for, so that lines and columns stay those of the text.
    found = match.group()
    return found if found.startswith('"') else re.sub(r"[^\n]", " ", found)


def _refuse(name: str) -> Any:
    raise ValueError(name)
