"""A server that fails again and again is left alone for a while, and calls to it fail at once (F-109). Pure.

By server and kind of credential. What counts: no address, no connection, TLS, no answer in time, 5xx. A 4xx says that
the server works; a person's refused credential is never the business of others. Closed, it costs nothing; open, calls
are refused; then one call at a time tries whether the server is back.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from proxy.upstream import Phase, UpstreamError

BUSY: Final = "busy"
"""The cause when the server itself asked to be left alone (429 or 503 with Retry-After)."""
SERVER_ERROR: Final = "error"
TIMEOUT_CONNECT: Final = "timeout_connect"
TIMEOUT_RESPONSE: Final = "timeout_response"
_BEFORE_SENDING: Final = frozenset((Phase.ADDRESS, Phase.CONNECT, Phase.TLS, TIMEOUT_CONNECT))


@dataclass(frozen=True, slots=True)
class Limits:
    """When a breaker opens and for how long; seconds."""

    failures: int = 5
    window: float = 30.0
    """The failures have to come within so long, with no success between."""
    open_for: float = 10.0
    longest: float = 60.0
    """Each failed trial doubles the time, up to this; a server's own Retry-After is bounded by it too."""


class BreakerOpen(UpstreamError):
    """The call was not sent. `cause` is a phase, or one of the words above; times in seconds."""

    def __init__(self, cause: str, *, lasting: float, next_try: float) -> None:
        super().__init__(Phase.CONNECT, f"not tried: {cause}", sent=False)
        self.cause = cause
        self.lasting = lasting
        self.next_try = next_try


class Breaker:
    """One breaker. `now` is monotonic everywhere."""

    __slots__ = ("_first_at", "_limits", "_open_for", "_resting", "_trial_at", "_until", "cause", "failures")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.failures = 0
        """In a row, since the last success."""
        self.cause = ""
        self._first_at = self._until = 0.0
        self._open_for = limits.open_for
        self._resting = False
        self._trial_at: float | None = None

    @property
    def closed(self) -> bool:
        """Whether calls go through without being looked at."""
        return not self._until

    def admit(self, now: float) -> None:
        """Let a call through, or raise BreakerOpen. Whoever is let through says how it went."""
        if not self._until:
            return
        if now >= self._until:
            if self._resting:
                self._reset()
                return
            if self._trial_at is None or now - self._trial_at >= self._limits.open_for:
                self._trial_at = now
                return
        raise BreakerOpen(self.cause, lasting=now - self._first_at, next_try=max(self._until - now, 1.0))

    def connected(self, now: float) -> None:
        """A connection was made: what could not be reached can be."""
        if self._until and now >= self._until and self.cause in _BEFORE_SENDING:
            self._reset()

    def succeeded(self, now: float) -> None:
        """The server answered."""
        if not self._until or (now >= self._until and not self._resting):
            self._reset()

    def failed(self, cause: str, now: float) -> None:
        """The server could not be reached or did not answer as it should."""
        if self._until:
            if now < self._until or self._resting:
                return  # sent before it opened
            self._open_for = min(self._open_for * 2, self._limits.longest)
            self._open(cause, now)
            return
        if not self.failures or now - self._first_at > self._limits.window:
            self.failures, self._first_at = 0, now
        self.failures += 1
        if self.failures >= self._limits.failures:
            self._open_for = self._limits.open_for
            self._open(cause, now)

    def rest(self, seconds: float, now: float) -> None:
        """The server asks to be left alone for so long."""
        if self._until and not self._resting:
            return
        self._resting = True
        if not self._until:
            self._first_at = now
        self.cause = BUSY
        self._until = max(self._until, now + min(seconds, self._limits.longest))

    def forgive(self, causes: Collection[str]) -> None:
        """What stood behind these causes has changed: begin anew."""
        if self.cause in causes:
            self._reset()

    def nothing_learned(self) -> None:
        """A call that was let through ended without a sign from the server: the next one may try."""
        self._trial_at = None

    def _open(self, cause: str, now: float) -> None:
        self.cause = cause
        self._until = now + self._open_for
        self._trial_at = None

    def _reset(self) -> None:
        self.failures = 0
        self._first_at = self._until = 0.0
        self._open_for = self._limits.open_for
        self._resting = False
        self._trial_at = None
