"""What one entry of a file comes to: a server that can be called, or why not. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError

from servers.egress import parse_destination
from servers.errors import DestinationRefused
from servers.header_names import check_header_name, check_header_value
from servers.imports.values import BadEntry, Missing, Text
from servers.own_header import MOST_HEADERS
from servers.presets.library import of_url
from servers.presets.preset import Preset

_LONGEST_NAME: Final = 200
OLD_TRANSPORT: Final = (
    "It is at the older transport (SSE), which the gateway does not speak. Providers mostly have an address that "
    "ends in /mcp beside it: look in the provider's documentation and add that."
)


@dataclass(frozen=True, slots=True)
class Remote:
    """A server at a URL. Header values may be secrets."""

    name: str
    url: str
    headers: tuple[tuple[str, Text], ...] = field(default=(), repr=False)
    description: str = ""
    notes: tuple[str, ...] = ()

    @property
    def missing(self) -> tuple[Missing, ...]:
        """The values that the file leaves open, each once."""
        return tuple(dict.fromkeys(one for _, text in self.headers for one in text.missing))

    @property
    def can_be_own(self) -> bool:
        """Whether people can enter the missing values themselves."""
        return all(text.can_be_own for _, text in self.headers if text.missing)

    @property
    def preset(self) -> Preset | None:
        """The preset of this very endpoint."""
        return of_url(self.url)

    @property
    def shown_url(self) -> str:
        """The URL without its query, which may hold a key."""
        plain, question, _ = self.url.partition("?")
        return f"{plain}?…" if question else plain


@dataclass(frozen=True, slots=True)
class Unusable:
    """An entry that cannot be added, and why in a sentence."""

    name: str
    why: str


Entry = Remote | Unusable


def remote(
    name: str, url: object, headers: Mapping[str, Text], *, description: str = "", notes: tuple[str, ...] = ()
) -> Remote:
    """The checked entry. Raises BadEntry."""
    address, said = _address(url)
    kept: list[tuple[str, Text]] = []
    for header, text in headers.items():
        try:
            check_header_name(header)
        except ValidationError as error:
            if error.code != "header_reserved":
                raise BadEntry(f"The header {shown(header)} has a name that no request can carry.") from error
            said = (*said, f"The header {header} is left out: the gateway sets it itself.")
            continue
        _check_value(header, text)
        kept.append((header, text))
    if len(kept) > MOST_HEADERS:
        raise BadEntry(f"It has more than {MOST_HEADERS} headers.")
    if len({header.lower() for header, _ in kept}) != len(kept):
        raise BadEntry("A header stands in it twice.")
    return Remote(shown(name), address, tuple(kept), _line(description, 500), (*notes, *said))


def _address(url: object) -> tuple[str, tuple[str, ...]]:
    if not isinstance(url, str) or not url.strip():
        raise BadEntry("It has no URL.")
    address = url.strip()
    if re.search(r"\$\{|\{|<|\bYOUR[_-]", address):
        raise BadEntry(
            "Its URL has a part that is yours to fill in. Replace it in the file, or add the server by hand."
        )
    said: tuple[str, ...] = ()
    if urlsplit(address).path.rstrip("/").endswith("/sse"):
        newer = address.rstrip("/").removesuffix("/sse") + "/mcp"
        if of_url(newer) is None:
            raise BadEntry(OLD_TRANSPORT)
        address, said = newer, ("The file has the older transport's URL; the provider's newer one is taken.",)
    try:
        parse_destination(address)
    except DestinationRefused as error:
        raise BadEntry(error.public_message) from error
    if "?" in address:
        said = (*said, "Its URL has a query. Every manager of the server can read it: no keys there.")
    return address, said


def _check_value(header: str, text: Text) -> None:
    filled = text.filled({one.name: "x" for one in text.missing})
    if "://" in filled and re.search(r"\b(?:secret|tfy-secret|env|file)://", filled):
        raise BadEntry(f"The header {header} names a stored secret. Add the server by hand to use a reference.")
    try:
        check_header_value(filled)
    except ValidationError as error:
        raise BadEntry(f"The header {header}: {' '.join(error.messages)}") from error


def shown(name: Any) -> str:
    """A name from a file on one line, without what would disturb a page."""
    return _line(name, _LONGEST_NAME) or "Without a name"


def _line(text: Any, longest: int) -> str:
    words = "".join(c if c.isprintable() else " " for c in str(text)).split()
    line = " ".join(words)
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
