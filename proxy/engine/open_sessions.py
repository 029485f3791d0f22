"""The sessions that an older client's session has open at members, and what is told to all of them. It opens none."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from proxy import member_sessions, threads
from proxy.engine.beside import NotReady, Stopped, beside
from proxy.engine.engaged import Engaged
from proxy.engine.legacy_sessions import session_headers
from proxy.engine.member_call import Failed
from proxy.engine.requests import request_bytes
from proxy.engine.sse import EventTooLarge
from proxy.engine.wire import encoded
from proxy.member_sessions import Member as Session
from proxy.upstream import UpstreamError
from proxy.upstream_refusal import Refused
from servers.errors import DestinationRefused, GatewayError
from servers.virtual.facts import MemberFacts

log = logging.getLogger(__name__)

_SECONDS: Final = 10.0
"""Given to one member for something that has no answer."""
TROUBLE: Final = (
    UpstreamError,
    Failed,
    Refused,
    EventTooLarge,
    Stopped,
    NotReady,
    DestinationRefused,
    GatewayError,
    TimeoutError,
)
"""What can go wrong at a member in work beside the calls; it never concerns anybody but that member."""


def own_name(session: str, member: MemberFacts) -> str:
    """Under which name the session of an older client's session at this member is kept."""
    return f"{session}:{member.id}"


async def open_at(engaged: Engaged) -> list[tuple[MemberFacts, Session]]:
    """The members at which the client's session has one open, in whichever process it was opened."""
    session, members = engaged.client.session, engaged.arrangement.members
    names = {own_name(session, member): member for member in members}
    found = await threads.run_or_give_up(member_sessions.load_all, tuple(names))
    return [(member, found[name]) for name, member in names.items() if name in found]


@asynccontextmanager
async def inside(engaged: Engaged, member: MemberFacts, session: Session) -> AsyncIterator[Engaged]:
    """Work in an open session of a member. Raises Stopped and NotReady, also when it belongs to another credential."""
    async with beside(engaged, member) as work:
        prepared = work.call.prepared
        if prepared is None or prepared.credential.epoch != session.epoch:
            raise NotReady
        yield work


async def tell(work: Engaged, session: Session, message: Mapping[str, Any], *, http_method: str = "POST") -> int:
    """Send something that has no answer to the member that was entered; returns the HTTP status. Raises `TROUBLE`."""
    assert work.call.prepared is not None  # noqa: S101
    plan = work.runtime.plan_for(work.call.prepared)
    body = encoded(message) if http_method == "POST" else b""
    async with asyncio.timeout(_SECONDS):
        connection = plan.pool.take_idle() or await plan.pool.connect()
        response = connection.send(request_bytes(plan, work.head, session_headers(session), body, method=http_method))
        try:
            await response.head()
        finally:
            if not response.complete:
                response.close()
    return response.status


async def everywhere(
    engaged: Engaged,
    found: list[tuple[MemberFacts, Session]],
    do: Callable[[Engaged, MemberFacts, Session], Awaitable[None]],
) -> None:
    """Do something in each of these sessions, at the same time; what goes wrong at one concerns no other."""

    async def each(member: MemberFacts, session: Session) -> None:
        with suppress(*TROUBLE):
            async with inside(engaged, member, session) as work:
                await do(work, member, session)

    await asyncio.gather(*(each(member, session) for member, session in found))


def declares(engaged: Engaged, member: MemberFacts, *path: str) -> bool:
    """Whether the member's catalogue says that it has this capability; one that was never read could have any."""
    catalogue = engaged.arrangement.catalogues.get(member.id)
    if catalogue is None or not catalogue.taken:
        return True
    found: Any = catalogue.capabilities
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found is not None and found is not False
