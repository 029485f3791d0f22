"""Texts with values that the file leaves open: `Bearer ${GITHUB_TOKEN}`, `${input:key}`, `<your key>`. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from typing import Final

_OPEN: Final = re.compile(
    # A default ends before the next ${: thousands that are never closed cost one pass, not one each.
    r"\$\{(?:env:|input:)?(?P<braced>[A-Za-z_][\w.-]*)(?::-(?P<default>(?:[^}$]|\$(?!\{))*+))?\}"
    r"|\{env:(?P<opencode>[A-Za-z_]\w*)\}"
    r"|\{\{\s*(?P<double>[A-Za-z_]\w*)\s*\}\}"
    r"|<(?P<angle>[A-Za-z][A-Za-z0-9 _-]{1,60})>"
    r"|\$(?P<shell>[A-Z][A-Z0-9_]{2,60})\b"
    r"|\b(?P<shouted>YOUR[_-][A-Z0-9_-]{2,60})\b"
)
_REGISTRY: Final = re.compile(r"\{(?P<variable>[A-Za-z_][\w.-]*)\}")
_SCHEMES: Final = re.compile(r"(?:Bearer|Basic|Token|token|ApiKey|Api-Key|Key) +")
_MOST_CHARACTERS: Final = 8192


class BadEntry(ValueError):
    """One entry cannot be used; the message says why and holds no value of it."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A value that somebody has to enter: its name in the file, and what it is."""

    name: str
    label: str = ""

    @property
    def placeholder(self) -> str:
        """The name as our own templates may hold it."""
        word = re.sub(r"[^A-Za-z0-9_]+", "_", self.name).strip("_")[:50]
        return word if word[:1].isalpha() else f"V_{word}"[:50]


@dataclass(frozen=True, slots=True)
class Text:
    """Literal texts and missing values in turn. A literal may be a secret, so none is in the representation."""

    parts: tuple[str | Missing, ...] = field(repr=False)

    @property
    def missing(self) -> tuple[Missing, ...]:
        """What has to be entered, each once."""
        return tuple(dict.fromkeys(part for part in self.parts if isinstance(part, Missing)))

    @property
    def can_be_own(self) -> bool:
        """Whether people can enter what is missing themselves: beside it stands no more than a scheme."""
        return all(isinstance(part, Missing) or not part or _SCHEMES.fullmatch(part) for part in self.parts)

    def filled(self, values: Mapping[str, str]) -> str:
        """With the values by name; raises KeyError for one that is not there."""
        return "".join(part if isinstance(part, str) else values[part.name] for part in self.parts)

    def template(self) -> str:
        """As a template of our own, with {{PLACEHOLDERS}}."""
        return "".join(part if isinstance(part, str) else f"{{{{{part.placeholder}}}}}" for part in self.parts)


def parse(text: str, *, known: Mapping[str, str] | None = None, labels: Mapping[str, str] | None = None) -> Text:
    """A client's text; `known` are values that the file itself has, `labels` what it says of the others.

    Raises BadEntry for one that no request could carry.
    """
    known, labels = known or {}, labels or {}
    is_open = cache(_OPEN.search)
    parts: list[str | Missing] = []
    position = 0
    for match in _OPEN.finditer(text):
        parts.append(text[position : match.start()])
        position = match.end()
        name = next(value for key, value in match.groupdict().items() if key != "default" and value)
        given = known.get(name, match["default"])
        # A longer one stands for itself, and is refused below without a look into it for each time it is named.
        if given and (len(given) > _MOST_CHARACTERS or not is_open(given)):
            parts.append(given)
        else:
            parts.append(Missing(name, labels.get(name, "")))
    parts.append(text[position:])
    return Text(_joined(parts))


def parse_registry(text: str, variables: Mapping[str, Missing | str]) -> Text:
    """A registry's text, whose {variables} are described beside it: by a value, or by what lacks. Raises BadEntry."""
    parts: list[str | Missing] = []
    position = 0
    for match in _REGISTRY.finditer(text):
        if (found := variables.get(match["variable"])) is not None:
            parts += [text[position : match.start()], found]
            position = match.end()
    parts.append(text[position:])
    return Text(_joined(parts))


def _joined(parts: list[str | Missing]) -> tuple[str | Missing, ...]:
    # A long value that is named often would grow without end.
    if sum(len(part) for part in parts if isinstance(part, str)) > _MOST_CHARACTERS:
        raise BadEntry(f"It has a value of more than {_MOST_CHARACTERS:,} characters.")
    joined: list[str | Missing] = []
    for is_text, group in groupby(parts, key=lambda part: isinstance(part, str)):
        some = list(group)
        joined += ["".join(str(part) for part in some)] if is_text else some
    return tuple(part for part in joined if part)
