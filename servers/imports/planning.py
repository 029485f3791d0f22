"""What an import would do, one line an entry: the decision that the preview shows and the import follows. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from servers.imports.entries import Entry, Remote, Unusable
from servers.models import AuthConfig
from servers.presets.preset import Preset

Method = AuthConfig.Method
_LONGEST_SLUG: Final = 63


class Outcome(StrEnum):
    """What becomes of an entry, as its chip says it."""

    NEW = "new"
    NEEDS = "needs"
    EXISTS = "exists"
    UNUSABLE = "unusable"


WORDS: Final = {
    Outcome.NEW: "Will be added",
    Outcome.NEEDS: "Needs a value",
    Outcome.EXISTS: "Exists already",
    Outcome.UNUSABLE: "Cannot be added",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One entry of the preview."""

    number: int
    name: str
    outcome: Outcome
    sentence: str
    slug: str = ""
    remote: Remote | None = field(default=None, repr=False)
    enabled: bool = True
    problem: str = ""
    """Why it was not added after all; set when an import was tried."""

    @property
    def words(self) -> str:
        """The chip."""
        return WORDS[self.outcome]

    @property
    def can_be_chosen(self) -> bool:
        """Whether the preview has a box for it."""
        return self.remote is not None and self.outcome in (Outcome.NEW, Outcome.NEEDS)

    @property
    def preset(self) -> Preset | None:
        """The preset whose endpoint it is."""
        return self.remote.preset if self.remote is not None else None


def plan(entries: Iterable[Entry], *, slugs: Iterable[str], present: Mapping[str, str]) -> list[Line]:
    """The lines. `slugs` are taken in the tenant; `present` are names of servers that the person sees, by `same`."""
    taken, seen = set(slugs), dict(present)
    lines = []
    for number, entry in enumerate(entries):
        line = _line(number, entry, taken, seen)
        if line.can_be_chosen and line.remote is not None:
            taken.add(line.slug)
            seen[same(line.remote.url)] = f"“{line.name}” further up"
        lines.append(line)
    return lines


def _line(number: int, entry: Entry, taken: set[str], seen: Mapping[str, str]) -> Line:
    if isinstance(entry, Unusable):
        return Line(number, entry.name, Outcome.UNUSABLE, entry.why)
    if (known := seen.get(same(entry.url))) is not None:
        return Line(number, entry.name, Outcome.EXISTS, f"Its URL is that of {known}.", remote=entry)
    slug, enabled = free_slug(entry.name, taken), not _waits_for_sign_in(entry)
    outcome = Outcome.NEEDS if entry.missing else Outcome.NEW
    return Line(number, entry.name, outcome, _sentence(entry), slug, entry, enabled)


def _sentence(entry: Remote) -> str:
    count = len(entry.headers)
    headers = "its header" if count == 1 else f"its {count} headers"
    if entry.missing:
        each = " Leave it empty, and each person enters one." if entry.can_be_own else ""
        return f"The file leaves a value open.{each}"
    if entry.headers:
        return f"With Header Auth: {headers} in the secret store, the same for all callers."
    if _waits_for_sign_in(entry):
        return "Switched off, until its sign-in is set up in its form: the preset says how."
    if entry.preset is not None:
        return "With No Auth, which is what its provider asks for."
    return "With No Auth. If it wants people to sign in, open its form, choose OAuth2 and press Discover."


def _waits_for_sign_in(entry: Remote) -> bool:
    preset = entry.preset
    return not entry.headers and preset is not None and preset.ways[0].method != Method.NONE


def same(url: str) -> str:
    """What two spellings of one endpoint share."""
    parts = urlsplit(url)
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}{parts.path.rstrip('/')}?{parts.query}"


def free_slug(name: str, taken: Iterable[str]) -> str:
    """A slug from a name, with a number behind it where it is taken."""
    used = set(taken)
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_LONGEST_SLUG].rstrip("-") or "server"
    number, slug = 1, words
    while slug in used:
        number += 1
        tail = f"-{number}"
        slug = words[: _LONGEST_SLUG - len(tail)].rstrip("-") + tail
    return slug
