"""Whose credentials at a server end when it is changed or deleted (F-315, T29). Packages above this one register.

What people authorized was for one address, one method, one provider and one client of ours. With another of these it
would go to somebody whom they never saw, so it ends; who changes it is shown whose, and asked.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from servers.models import Server


class Reason(StrEnum):
    """What changes, in words for people."""

    ADDRESS = "the endpoint's host"
    METHOD = "the authentication type"
    PROVIDER = "the provider"
    CLIENT = "the app"
    DELETED = "the server is deleted"


@dataclass(frozen=True, slots=True)
class Ending:
    """One credential that ends: whose, and what it is."""

    user_id: Any
    text: str


Find = Callable[[Server, Collection[Reason]], list[Ending]]
End = Callable[..., int]
_registered: list[tuple[Find, End]] = []


def register(find: Find, end: End) -> None:
    """`find(server, reasons)` lists what would end; `end(server, reasons, actor=…)` ends it and returns how many."""
    _registered.append((find, end))


def would_end(server: Server, reasons: Collection[Reason]) -> list[Ending]:
    """What ends with a change for these reasons, by person."""
    if not reasons:
        return []
    return [ending for find, _ in _registered for ending in find(server, reasons)]


def end(server: Server, reasons: Collection[Reason], *, actor: str) -> int:
    """End it in the present transaction; returns how many."""
    return sum(end(server, reasons, actor=actor) for _, end in _registered) if reasons else 0
