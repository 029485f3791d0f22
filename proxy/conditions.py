"""How a server fares, as real calls show it (F-109). Pure.

Three failures in a row make it worse, three successes in a row better again, so that one call decides nothing. Slow
is a server of whose last ten calls more than half took longer than the threshold until it began to answer: the median.
"""

from __future__ import annotations

from typing import Final

from servers.models import Server

Health = Server.Health
IN_A_ROW: Final = 3
_WINDOW: Final = 10
_MASK: Final = (1 << _WINDOW) - 1


class Condition:
    """What calls of this process say of one server."""

    __slots__ = ("_row", "_slow", "state", "words")

    def __init__(self) -> None:
        self.state: Server.Health | None = None
        """None until enough was seen."""
        self.words = ""
        """What failed, for the sentence."""
        self._row = 0
        """Successes in a row, or failures as a negative number."""
        self._slow = 0
        """The last ten calls, a bit each: whether it was slow."""

    @property
    def steady(self) -> bool:
        """All is well and was so for a while: a quick success changes nothing."""
        return self.state is Health.OK and self._row >= 0 and not self._slow

    def succeeded(self, *, slow: bool) -> bool:
        """The server answered as an MCP server; returns whether the state changed."""
        self._slow = (self._slow << 1 | slow) & _MASK
        self._row = max(self._row, 0) + 1
        if self._slow.bit_count() * 2 > _WINDOW:
            return self._turn(Health.SLOW, "")
        if self.state is None or (self.state is not Health.OK and self._row >= IN_A_ROW):
            return self._turn(Health.OK, "")
        return False

    def failed(self, kind: Server.Health, words: str) -> bool:
        """A call did not get through; returns whether the state changed."""
        self._row = min(self._row, 0) - 1
        if self._row <= -IN_A_ROW:
            return self._turn(kind, words)
        return False

    def too_slow(self, words: str) -> bool:
        """The server did not begin to answer in time; returns whether the state changed."""
        self._slow = (self._slow << 1 | 1) & _MASK
        return self.failed(Health.SLOW, words)

    def asked_anew(self) -> None:
        """Somebody else may have written the row: what is seen next is written again."""
        self.state = None

    def _turn(self, state: Server.Health, words: str) -> bool:
        if self.state is state:
            return False
        self.state, self.words = state, words
        return True
