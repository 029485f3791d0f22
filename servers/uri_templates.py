"""Whether a URI is one that a URI template stands for (RFC 6570, its first three levels and `*`). Pure.

RFC 6570 says how templates become URIs; this is the way back. The whole URI has to fit. All ways to read it are
followed at once, as bits of one number, so that no template and no URI takes longer than the product of their
lengths: both come from strangers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from string import ascii_letters, digits
from typing import Final
from urllib.parse import unquote

LONGEST_URI: Final = 4096
MOST_VARIABLES: Final = 32
_LONGEST_TEMPLATE: Final = 1000
_VARIABLE: Final = re.compile(r"[A-Za-z0-9_.%]+(?::[0-9]{1,4}|\*)?")
_OPERATORS: Final = "+#./;?&"
# Values stand in a URI percent-encoded, but clients put in what they have: only what ends a value is left out.
_NEVER: Final = frozenset(map(chr, (*range(33), 127))) | {"\\"}
_BETWEEN: Final = _NEVER | frozenset("/?#")
_UNRESERVED: Final = frozenset(ascii_letters + digits + "-._~")

Positions = int
"""A set of places in a URI: bit n is set when what was read so far may end before its n-th character."""


class BadTemplate(ValueError):
    """What looks like a template and is none."""


class _Subject:
    """A URI, and where in it which characters stand."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._of_character: dict[str, Positions] = {}
        self._without: dict[frozenset[str], Positions] = {}

    def literal(self, found: Positions, text: str) -> Positions:
        """After `text`."""
        for character in text:
            if not found:
                return 0
            found = (found & self._where(character)) << 1
        return found

    def run(self, found: Positions, stops: frozenset[str]) -> Positions:
        """After any number of characters that are not among `stops`."""
        among = self._without.get(stops)
        if among is None:
            among = self._without[stops] = self._mask(lambda character: character not in stops)
        # The carry of the addition runs through each run of set bits to its end.
        return (((found & among) + among) ^ among) | found

    def _where(self, wanted: str) -> Positions:
        found = self._of_character.get(wanted)
        if found is None:
            found = self._of_character[wanted] = self._mask(lambda character: character == wanted)
        return found

    def _mask(self, holds: Callable[[str], bool]) -> Positions:
        bits = "".join("1" if holds(character) else "0" for character in reversed(self.uri))
        return int(bits, 2) if bits else 0


@dataclass(frozen=True, slots=True)
class _Literal:
    text: str

    def after(self, subject: _Subject, found: Positions) -> Positions:
        return subject.literal(found, self.text)


@dataclass(frozen=True, slots=True)
class _Expression:
    operator: str
    names: tuple[str, ...]
    explodes: bool

    def after(self, subject: _Subject, found: Positions) -> Positions:
        match self.operator:
            case "":
                return subject.run(found, _BETWEEN if self.explodes or len(self.names) > 1 else _VALUE)
            case "+":
                return subject.run(found, _NEVER)
            case "#":
                return found | subject.run(subject.literal(found, "#"), _NEVER)
            case "." | "/":
                return self._segments(subject, found)
            case ";":
                return self._parameters(subject, found)
            case _:
                return self._query(subject, found)

    def _segments(self, subject: _Subject, found: Positions) -> Positions:
        if self.explodes:
            # The first character is the operator's, and then any number of it.
            stops = _NEVER | frozenset("?#") if self.operator == "/" else _BETWEEN
            return found | subject.run(subject.literal(found, self.operator), stops)
        # Values that are not defined leave nothing behind, so that there may be fewer than names.
        reached = found
        for _ in self.names:
            found = subject.run(subject.literal(found, self.operator), _VALUE)
            reached |= found
        return reached

    def _parameters(self, subject: _Subject, found: Positions) -> Positions:
        if self.explodes:
            return found | subject.run(subject.literal(found, ";"), _BETWEEN)
        for name in self.names:
            named = subject.literal(found, f";{name}")
            found |= named | subject.run(subject.literal(named, "="), _PARAMETER)
        return found

    def _query(self, subject: _Subject, found: Positions) -> Positions:
        if self.explodes:
            return found | subject.run(subject.literal(found, self.operator), _NEVER | {"#"})
        # Expansion keeps the order of the names; servers do not ask for it, and clients do not keep it.
        reached = found
        found = subject.literal(found, self.operator)
        for _ in self.names:
            ends = 0
            for name in self.names:
                ends |= subject.run(subject.literal(found, f"{name}="), _PAIR)
            if not ends:
                break
            reached |= ends
            found = subject.literal(ends, "&")
        return reached


_VALUE: Final = _BETWEEN | frozenset(",&")
_PARAMETER: Final = _BETWEEN | {";"}
_PAIR: Final = _NEVER | frozenset("#&")


@dataclass(frozen=True, slots=True)
class UriTemplate:
    """A template that was parsed. `closeness` counts its characters outside of expressions."""

    text: str
    parts: tuple[_Literal | _Expression, ...] = field(repr=False, compare=False)
    closeness: int = field(default=0, compare=False)
    begins: str = field(default="", compare=False)

    @classmethod
    def parse(cls, text: str) -> UriTemplate:
        """Raises BadTemplate."""
        if len(text) > _LONGEST_TEMPLATE:
            raise BadTemplate("It is too long.")
        parts = tuple(_parts(text))
        if sum(len(part.names) for part in parts if isinstance(part, _Expression)) > MOST_VARIABLES:
            raise BadTemplate(f"It has more than {MOST_VARIABLES} variables.")
        literals = [part.text for part in parts if isinstance(part, _Literal)]
        begins = parts[0].text if parts and isinstance(parts[0], _Literal) else ""
        return cls(text, parts, sum(map(len, literals)), begins)

    def matches(self, uri: str) -> bool:
        """Whether `uri` is one of those that the template stands for."""
        if not uri.startswith(self.begins) or len(uri) > LONGEST_URI:
            return False
        return self._matches(_Subject(uri))

    def _matches(self, subject: _Subject) -> bool:
        found: Positions = 1
        for part in self.parts:
            found = part.after(subject, found)
            if not found:
                return False
        return bool(found >> len(subject.uri) & 1)


def _parts(text: str) -> Iterator[_Literal | _Expression]:
    at = 0
    while at < len(text):
        begins = text.find("{", at)
        literal = text[at:] if begins < 0 else text[at:begins]
        if "}" in literal:
            raise BadTemplate("A brace is closed that was not opened.")
        if literal:
            yield _Literal(literal)
        if begins < 0:
            return
        ends = text.find("}", begins)
        if ends < 0:
            raise BadTemplate("A brace is not closed.")
        yield _expression(text[begins + 1 : ends])
        at = ends + 1


def _expression(text: str) -> _Expression:
    operator = text[:1] if text[:1] and text[:1] in _OPERATORS else ""
    variables = text.removeprefix(operator).split(",")
    if not all(_VARIABLE.fullmatch(variable) for variable in variables):
        raise BadTemplate("An expression is not one of names.")
    names = tuple(variable.rstrip("*").partition(":")[0] for variable in variables)
    return _Expression(operator, names, any(variable.endswith("*") for variable in variables))


def matches(template: str, uri: str) -> bool:
    """Whether `uri` is one of those that this text stands for; nothing is where it is no template."""
    try:
        return _parsed(template).matches(uri)
    except BadTemplate:
        return False


@lru_cache(maxsize=4096)
def _parsed(text: str) -> UriTemplate:
    return UriTemplate.parse(text)


def matching(templates: Iterable[UriTemplate], uri: str) -> list[UriTemplate]:
    """Those of `templates` that stand for `uri`, in their order."""
    if len(uri) > LONGEST_URI:
        return []
    subject = _Subject(uri)
    return [one for one in templates if uri.startswith(one.begins) and one._matches(subject)]


def is_plain(uri: str) -> bool:
    """Whether nothing in it is spelled in a roundabout way: dot segments, or escapes of what needs none.

    Such a URI may mean another one to a server, which then is not the one that was decided about.
    """
    segments = re.split(r"[/?#]", uri.replace("\\", "/"))
    if "." in segments or ".." in segments:
        return False
    if "%" not in uri:
        return True
    if any(segment in (".", "..") for segment in re.split(r"[/\\]", unquote(uri))):
        return False
    return not any(chr(int(two, 16)) in _UNRESERVED for two in re.findall(r"%([0-9A-Fa-f]{2})", uri))


def folded(uri: str) -> str:
    """The URI as a careless server may read it: unescaped and in one case. To compare with, not to send."""
    return unquote(uri).casefold()
