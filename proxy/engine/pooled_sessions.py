"""Sessions at older members that no session of a client stands behind: ended when nobody has used them for a while."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

from django.conf import settings

from proxy import member_sessions, threads
from proxy.engine.beside import at_rest
from proxy.engine.engaged import Engaged
from proxy.engine.open_sessions import TROUBLE, inside, tell
from proxy.member_sessions import Member as Session
from servers.virtual.facts import MemberFacts


def used(engaged: Engaged, member: MemberFacts, name: str, session: Session) -> None:
    """A request went to this member in this session."""
    engine = engaged.runtime.engine
    if engine.pooled is None:
        engine.pooled = PooledSessions(engine.hearings.__contains__)
    engine.pooled.used(engaged, member, name, session)


@dataclass(slots=True)
class _Use:
    engaged: Engaged
    member: MemberFacts
    session: Session
    used_at: float
    noted_at: float


class PooledSessions:
    """Those that this event loop has used."""

    def __init__(self, is_heard: Callable[[str], bool]) -> None:
        self._uses: dict[str, _Use] = {}
        self._is_heard = is_heard
        self._looks = False

    def used(self, engaged: Engaged, member: MemberFacts, name: str, session: Session) -> None:
        """A request went to this member in this session."""
        now, idle = monotonic(), settings.MEMBER_SESSION_IDLE_SECONDS
        known = self._uses.get(name)
        if known is None or known.session != session:
            self._uses[name] = _Use(at_rest(engaged), member, session, now, now)
        else:
            known.used_at = now
            if now - known.noted_at > idle / 2:
                # Another process may think that nobody uses it.
                known.noted_at = now
                engaged.runtime.spawn(threads.run(member_sessions.used, name))
        if not self._looks:
            self._looks = True
            engaged.runtime.loop.call_later(idle / 4, self._look)

    def _look(self) -> None:
        now, idle = monotonic(), settings.MEMBER_SESSION_IDLE_SECONDS
        loop = None
        for name, use in tuple(self._uses.items()):
            loop = use.engaged.runtime.loop
            if self._is_heard(name):
                use.used_at = now
            elif now - use.used_at > idle:
                del self._uses[name]
                use.engaged.runtime.spawn(_end(name, use, idle))
        self._looks = bool(self._uses)
        if self._uses and loop is not None:
            loop.call_later(idle / 4, self._look)


async def _end(name: str, use: _Use, idle: float) -> None:
    runtime = use.engaged.runtime
    runtime.member_sessions.forget(name)
    if not await threads.run(member_sessions.end_unused, name, idle):
        return
    with suppress(*TROUBLE):
        async with inside(use.engaged, use.member, use.session) as work:
            await tell(work, use.session, {}, http_method="DELETE")
