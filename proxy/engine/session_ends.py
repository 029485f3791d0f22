"""The end of an older client's session, and what it says to all members at once: its log level, its roots."""

from __future__ import annotations

from typing import Any

from proxy import errors, member_sessions, threads
from proxy.engine import session_notes
from proxy.engine.beside import at_rest
from proxy.engine.engaged import Engaged
from proxy.engine.log_levels import LEVELS
from proxy.engine.open_sessions import declares, everywhere, open_at, own_name, tell
from proxy.engine.session_notes import Owner
from proxy.engine.wire import Refusal
from proxy.member_sessions import Member as Session
from proxy.messages import INVALID_PARAMS
from servers.virtual.facts import MemberFacts

Open = list[tuple[MemberFacts, Session]]


async def end_session(engaged: Engaged) -> None:
    """DELETE: the session is over in every process, and members are told as far as they can be reached (SE-10)."""
    if not engaged.client.session:
        return await engaged.call.answer(*errors.render(errors.method_not_allowed("DELETE"), None))
    found = await open_at(engaged)
    names = [own_name(engaged.client.session, member) for member in engaged.arrangement.members]
    await threads.run_or_give_up(_end, _owner(engaged), names)
    for name in names:
        engaged.runtime.member_sessions.forget(name)
    if found:
        engaged.runtime.spawn(everywhere(at_rest(engaged), found, _delete))
    await engaged.call.answer(204, [], b"")


def _owner(engaged: Engaged) -> Owner:
    return Owner(engaged.client.session, engaged.virtual.principal.user_id, engaged.server.id)


def _end(owner: Owner, names: list[str]) -> None:
    session_notes.end(owner)
    for name in names:
        member_sessions.end(name)


async def _delete(work: Engaged, member: MemberFacts, session: Session) -> None:
    if session.upstream_id:
        await tell(work, session, {}, http_method="DELETE")


async def set_level(engaged: Engaged) -> dict[str, Any]:
    """`logging/setLevel`: noted for the session, for members that are open now and for those that will be."""
    level = engaged.params.get("level")
    if level not in LEVELS:
        raise Refusal(INVALID_PARAMS, f"`level` must be one of {', '.join(LEVELS)}.")
    if engaged.client.session:
        await threads.run_or_give_up(session_notes.set_level, _owner(engaged), level)
        engaged.runtime.spawn(_tell_level(at_rest(engaged), level))
    return {}


async def _tell_level(engaged: Engaged, level: str) -> None:
    async def told(work: Engaged, member: MemberFacts, session: Session) -> None:
        number = engaged.runtime.engine.next_id()
        await tell(
            work, session, {"jsonrpc": "2.0", "id": number, "method": "logging/setLevel", "params": {"level": level}}
        )

    found = [(member, session) for member, session in await open_at(engaged) if declares(engaged, member, "logging")]
    await everywhere(engaged, found, told)


def roots_changed(engaged: Engaged) -> None:
    """`notifications/roots/list_changed`: for members that were told of roots when their sessions were opened."""
    if engaged.client.session and "roots" in engaged.client.capabilities:
        engaged.runtime.spawn(_tell_roots(at_rest(engaged)))


async def _tell_roots(engaged: Engaged) -> None:
    async def told(work: Engaged, member: MemberFacts, session: Session) -> None:
        await tell(work, session, {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"})

    await everywhere(engaged, await open_at(engaged), told)
