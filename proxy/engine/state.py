"""What one event loop knows of calls and sessions of the engine while they last."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from proxy.engine.answers import Answers
from proxy.engine.bells import Bell
from proxy.engine.cancels import Cancelling, PassedOn
from proxy.engine.hearings import Hearings


@dataclass(slots=True)
class EngineState:
    """Nothing here has to survive its process: what has to stands in rows (`proxy/member_sessions.py`)."""

    running: dict[tuple[str, Any], Callable[[], None]] = field(default_factory=dict)
    """How to cancel a call under way, by session key and the client's request id."""
    answers: Answers = field(default_factory=Answers)
    """Questions to clients that wait for an answer."""
    bell: Bell = field(default_factory=Bell)
    hearings: Hearings = field(default_factory=Hearings)
    listening: set[Any] = field(default_factory=set)
    """Open listening requests (`listens.py`)."""
    streams: dict[str, list[Any]] = field(default_factory=dict)
    """Open GET streams (`streams.py`), by session key; the newest is the last."""
    passed_on: PassedOn = field(default_factory=PassedOn)
    pooled: Any = None
    """Sessions at members that no session of a client stands behind (`pooled_sessions.py`), once there are any."""
    cancelling: Cancelling = field(init=False)
    _prefix: str = field(default_factory=lambda: f"gw-{secrets.token_urlsafe(6)}-")
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        self.cancelling = Cancelling(self.running)

    def next_id(self) -> str:
        """Id of a request to a member: unique for whoever sees several of them, and not to be guessed."""
        return f"{self._prefix}{next(self._numbers):x}"
