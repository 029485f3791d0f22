"""Trying a credential at its server before it is kept.

The gateway's own connection test lives a layer above and registers itself here when the application starts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from servers.models import Server

Header = tuple[str, str]


class Outcome(StrEnum):
    """What a test says of the credential."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    NO_ANSWER = "no_answer"
    """Nothing: the server was not reached, or has a trouble that does not come from the credential."""


@dataclass(frozen=True, slots=True)
class Tested:
    """The outcome, and a stable word for where it failed."""

    outcome: Outcome
    step: str = ""


Tester = Callable[[Server, tuple[Header, ...]], Tested]
_testers: list[Tester] = []


def register(tester: Tester) -> None:
    """Use `tester` from now on: it makes a harmless request and blocks for some seconds at most."""
    _testers[:] = [tester]


def test(server: Server, headers: tuple[Header, ...]) -> Tested:
    """Ask the server with these headers. Never raises for what the other side does."""
    if not _testers:
        return Tested(Outcome.NO_ANSWER, "no_tester")
    return _testers[0](server, headers)
