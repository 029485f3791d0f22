"""`notifications/cancelled` of older clients, for a call that another process may be serving."""

from __future__ import annotations

import hashlib
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from django.db import transaction

from proxy import threads
from servers import changes

if TYPE_CHECKING:
    from proxy.engine.engaged import Engaged

CHANGE: Final = "engine_cancel"
"""Kind of the `Change` rows; their key is the digest of session and request."""
_MOST: Final = 20
_WITHIN_SECONDS: Final = 10.0


async def cancel(engaged: Engaged) -> None:
    """Cancel the session's call with this id, wherever it runs; one that is over already is none."""
    session, asked = engaged.client.session, engaged.params.get("requestId")
    if not session or isinstance(asked, bool) or not isinstance(asked, str | int):
        return
    engine = engaged.runtime.engine
    found = engine.running.get((session, asked))
    if found is not None:
        return found()
    if engine.passed_on.may(engaged.virtual.principal.user_id):
        await threads.run_or_give_up(_pass_on, digest_of(session, asked))


def digest_of(session: str, asked: Any) -> str:
    """The key of the change that cancels one call."""
    return hashlib.sha256(f"cancel:{session}:{asked!r}".encode()).hexdigest()


def _pass_on(digest: str) -> None:
    with transaction.atomic():
        changes.record(CHANGE, digest)


class PassedOn:
    """How many cancellations people have passed on to other processes lately: each costs a row."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._since = 0.0

    def may(self, user_id: int) -> bool:
        """Count one more; False when that is too many."""
        now = monotonic()
        if now - self._since > _WITHIN_SECONDS:
            self._counts.clear()
            self._since = now
        self._counts[user_id] = count = self._counts.get(user_id, 0) + 1
        return count <= _MOST


class Cancelling:
    """Listens for cancellations that came to other processes."""

    def __init__(self, running: dict[tuple[str, Any], Any]) -> None:
        self._running = running

    def changed(self, kind: str, key: str) -> None:
        """Something changed somewhere."""
        if kind != CHANGE:
            return
        for (session, asked), stop in tuple(self._running.items()):
            if digest_of(session, asked) == key:
                stop()
