"""Links on a server's page to what other packages keep for it: each registers a function of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from servers.models import Server


@dataclass(frozen=True, slots=True)
class Link:
    """Where to, and what stands there in words, a count perhaps."""

    url: str
    text: str


Finder = Callable[[Server], Link | None]
_finders: list[Finder] = []


def register(finder: Finder) -> Finder:
    """Ask `finder` for a link whenever the page of a saved server (with its auth_config) is shown."""
    _finders.append(finder)
    return finder


def links_of(server: Server) -> list[Link]:
    """The links for this server."""
    found = (finder(server) for finder in _finders)
    return [link for link in found if link is not None]
