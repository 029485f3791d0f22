"""What else ends when a server goes. Packages above this one say it by registering a function here."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from servers.models import Server

Describe = Callable[[Iterable[Server]], list[str]]
_describers: list[Describe] = []


def register(describe: Describe) -> Describe:
    """Ask `describe(servers)` for a line each of what their deletion ends."""
    _describers.append(describe)
    return describe


def ends_with(servers: Iterable[Server]) -> list[str]:
    """All lines, for the confirmation page."""
    found = list(servers)
    return [line for describe in _describers for line in describe(found)]
