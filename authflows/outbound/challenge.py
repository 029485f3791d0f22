"""The challenge of a server that refuses: `WWW-Authenticate`, parsed strictly (RFC 9110, 11.6.1). Pure.

What stands in it leads us to other hosts, so nothing is guessed: a field that is not well formed is no challenge.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_LONGEST: Final = 8192
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  (of the grammar)
_QUOTED: Final = r'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_PARAMETER: Final = re.compile(rf"({_TOKEN})[ \t]*=[ \t]*({_TOKEN}|{_QUOTED})")
_TOKEN68: Final = re.compile(r"[0-9A-Za-z._~+/-]+=*(?=[ \t]*(?:,|$))")
_SCHEME: Final = re.compile(_TOKEN)
_SPACE: Final = re.compile(r"[ \t]*")
_COMMAS: Final = re.compile(r"[ \t]*(?:,[ \t]*)+")


class BadChallenge(ValueError):
    """The field is not what the standard allows."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge: its scheme and its parameters, all names in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse(field: str) -> tuple[Challenge, ...]:
    """All challenges of a field value (several fields joined by commas); raises BadChallenge.

    A parameter that stands twice in one challenge makes the field malformed.
    """
    if len(field) > _LONGEST:
        raise BadChallenge("too long")
    found: list[Challenge] = []
    position = _after(_COMMAS, field, _after(_SPACE, field, 0))
    while position < len(field):
        scheme = _SCHEME.match(field, position)
        if scheme is None:
            raise BadChallenge("no scheme")
        parameters, position = _parameters(field, scheme.end())
        found.append(Challenge(scheme.group().lower(), parameters))
    return tuple(found)


def bearer(field: str) -> Mapping[str, str] | None:
    """The parameters of the Bearer challenge, where there is one that names its metadata, that one; else None.

    A malformed field counts as none at all.
    """
    try:
        found = [challenge.parameters for challenge in parse(field) if challenge.scheme == "bearer"]
    except BadChallenge:
        return None
    return next((parameters for parameters in found if "resource_metadata" in parameters), found[0] if found else None)


def _after(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def _parameters(field: str, position: int) -> tuple[dict[str, str], int]:
    """What stands behind a scheme, and where the next challenge begins."""
    found: dict[str, str] = {}
    begin = _after(_SPACE, field, position)
    if begin == len(field):
        return found, begin
    if field[begin] == ",":
        return found, _after(_COMMAS, field, begin)
    if begin == position:
        raise BadChallenge("no space behind the scheme")
    position = begin
    if not _PARAMETER.match(field, position) and (token := _TOKEN68.match(field, position)):
        position = _after(_SPACE, field, token.end())
        return found, _after(_COMMAS, field, position)
    while match := _PARAMETER.match(field, position):
        name, value = match[1].lower(), match[2]
        if name in found:
            raise BadChallenge(f"{name} stands twice")
        found[name] = re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
        position = _after(_SPACE, field, match.end())
        if position == len(field):
            return found, position
        if field[position] != ",":
            raise BadChallenge("no comma behind a parameter")
        position = _after(_COMMAS, field, position)
    if not found:
        raise BadChallenge("neither parameters nor a token")
    return found, position
