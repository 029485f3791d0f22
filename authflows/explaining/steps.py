"""What an explanation consists of, and for whom it is written. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from django.utils.timezone import localtime

from servers.access import Principal
from servers.models import Server
from servers.scope import Scope


class State(StrEnum):
    """How one step stands."""

    PASSED = "passed"
    NOTED = "noted"
    """It does not refuse the call, and somebody should know of it."""
    FAILED = "failed"
    NOT_REACHED = "not_reached"


class Look(StrEnum):
    """What a step looks at, in the order of a call. Stable words: the API and the command print them."""

    ACCOUNT = "account"
    WAY_IN = "way_in"
    TENANT = "tenant"
    KEY = "key"
    RULE = "rule"
    SERVER = "server"
    MEMBER = "member"
    ITEM = "item"
    CREDENTIAL = "credential"
    HEALTH = "health"


TITLES: Final = {
    Look.ACCOUNT: "The account",
    Look.WAY_IN: "The way in: client or key",
    Look.TENANT: "The tenant",
    Look.KEY: "What the key is for",
    Look.RULE: "The right to use the server",
    Look.SERVER: "The server is switched on",
    Look.MEMBER: "The servers behind it",
    Look.ITEM: "The right to what was asked for",
    Look.CREDENTIAL: "The credential for the server",
    Look.HEALTH: "The server answers",
}


@dataclass(frozen=True, slots=True)
class Fix:
    """What to do, and the page where it is done, if whoever reads this has one."""

    sentence: str
    url: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the decision. `code` is the outcome that a call's record gets where the step refuses it."""

    look: Look
    state: State
    found: tuple[str, ...] = ()
    fix: Fix | None = None
    code: str = ""

    @property
    def title(self) -> str:
        """What is looked at, in words."""
        return TITLES[self.look]

    @property
    def state_text(self) -> str:
        """The state in words."""
        return {
            State.PASSED: "Passed",
            State.NOTED: "Look here",
            State.FAILED: "Stops here",
            State.NOT_REACHED: "Not reached",
        }[self.state]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Every step of one decision, in order. After the step that refuses nothing is looked at."""

    person: str
    about: str
    """The server's name; what the person typed where there is none for them."""
    steps: tuple[Step, ...]

    @property
    def allowed(self) -> bool:
        """Whether nothing refuses the call before the server itself is asked."""
        return self.stopped_at is None

    @property
    def stopped_at(self) -> Step | None:
        """The step that refuses the call."""
        return next((step for step in self.steps if step.state is State.FAILED), None)

    @property
    def noted(self) -> tuple[Step, ...]:
        """Steps that refuse nothing and are worth a look."""
        return tuple(step for step in self.steps if step.state is State.NOTED)

    def step(self, look: Look) -> Step | None:
        """The step that looks at this; None where it does not apply."""
        return next((step for step in self.steps if step.look is look), None)


@dataclass(frozen=True, slots=True)
class Reader:
    """For whom an explanation is written: the person themselves, or somebody who administers."""

    scope: Scope | None = None
    """What the reader administers; None: the reader is the person."""
    limited: bool = False
    """They read with a credential for some servers only, which tells nothing of their other ways in."""

    @property
    def themselves(self) -> bool:
        """Whether the person reads about themselves."""
        return self.scope is None

    def manages(self, server: Server) -> bool:
        """Whether the reader may change this server, and so may know why it refuses."""
        return self.scope is not None and self.scope.manages_server(server)

    def knows_keys_of(self, principal: Principal, *, superuser: bool) -> bool:
        """Whether the reader may know which keys this person has, as the list of keys in the admin (`keys_of`)."""
        if self.limited:
            return False
        if self.scope is None or self.scope.superuser:
            return True
        # Keys have no tenant: those of somebody who belongs to others too may be for servers there.
        return bool(principal.tenants) and principal.tenants <= self.scope.tenants and not superuser

    @property
    def knows_clients_of_the_api(self) -> bool:
        """Whether the reader may know which clients the person let in to the Gateway API, which has no tenant."""
        return not self.limited and (self.scope is None or self.scope.superuser)


THEMSELVES: Final = Reader()
OPERATOR: Final = Reader(Scope(superuser=True))


@dataclass(slots=True)
class Walk:
    """Steps in order: once one has failed, no further one is taken."""

    steps: list[Step] = field(default_factory=list)
    stopped: bool = False

    def take(self, look: Look, found: Callable[[], Step | None]) -> None:
        """Take the step unless one before it failed; a step that does not apply is left out."""
        if self.stopped:
            self.steps.append(Step(look, State.NOT_REACHED))
            return
        step = found()
        if step is not None:
            self.steps.append(step)
            self.stopped = step.state is State.FAILED


def passed(look: Look, *found: str) -> Step:
    """A step that lets the call on."""
    return Step(look, State.PASSED, found)


def noted(look: Look, *found: str, fix: Fix | None = None) -> Step:
    """A step that lets the call on, with something to know."""
    return Step(look, State.NOTED, found, fix)


def failed(look: Look, code: str, *found: str, fix: Fix | None = None) -> Step:
    """The step that refuses."""
    return Step(look, State.FAILED, found, fix, code)


def at(when: datetime) -> str:
    """A moment in words, in UTC."""
    return f"{localtime(when):%Y-%m-%d %H:%M} UTC"
