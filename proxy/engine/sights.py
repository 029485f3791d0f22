"""What a caller sees through a virtual server: its arrangement, and of each member what is theirs."""

from __future__ import annotations

from time import time

from proxy import threads
from proxy.engine.entering import may_use
from proxy.engine.handshake import instructions
from proxy.engine.lists import Sight, Sights
from proxy.in_flight import changes_seen
from proxy.pipeline import Knock, NotConnected, Prepared, prepare_member
from servers import changes
from servers.registry import find_by_id
from servers.virtual.arrangement import Arrangement, arrangement_of
from servers.virtual.facts import MemberFacts


async def arranged(virtual: Prepared) -> Arrangement:
    """Everything that the server shows, whoever asks."""
    server = virtual.server
    try:
        return arrangement_of(server.id, virtual=server.virtual, may_load=False)
    except changes.NotCached:
        # Once for all who ask for it just now; a long one takes a while. Who comes after a change begins anew.
        key = (arranged_loading, server.id, changes_seen())
        return await threads.shared(key, arranged_loading, virtual)


def arranged_loading(virtual: Prepared) -> Arrangement:
    """As `arranged`, in a thread that may wait for the database."""
    return arrangement_of(virtual.server.id, virtual=virtual.server.virtual)


async def sights_of(virtual: Prepared, arrangement: Arrangement, knock: Knock) -> Sights:
    """What the caller sees of each member, in order."""
    try:
        return sights_now(virtual, arrangement, knock, may_load=False)
    except changes.NotCached:
        return await threads.run_or_give_up(_sights_loading, virtual, arrangement, knock)


def _sights_loading(virtual: Prepared, arrangement: Arrangement, knock: Knock) -> Sights:
    return sights_now(virtual, arrangement, knock, may_load=True)


def sights_now(virtual: Prepared, arrangement: Arrangement, knock: Knock, *, may_load: bool) -> Sights:
    """As `sights_of`; raises changes.NotCached when something is not in memory and `may_load` is False."""
    sights = []
    for member in arrangement.members:
        allowed = may_use(virtual, member, may_load=may_load)
        if allowed is None:
            continue
        name = _unconnected(virtual, member, knock, may_load=may_load)
        if name and not virtual.server.list_unconnected:
            continue
        marked = f"[Connect {name} to use this.] " if name else ""
        sights.append(Sight(member.id, allowed, marked, virtual.allowed))
    return tuple(sights)


def _unconnected(virtual: Prepared, member: MemberFacts, knock: Knock, *, may_load: bool) -> str:
    """The member's name, if the person has to connect it first."""
    if not virtual.server.virtual:
        return ""
    outcome = prepare_member(virtual.principal, member, knock, now=time(), may_load=may_load)
    return outcome.server.name if isinstance(outcome, NotConnected) else ""


async def instructions_of(virtual: Prepared, arrangement: Arrangement, knock: Knock) -> str:
    """What the caller's model is told about the whole."""
    return await threads.run_or_give_up(_instructions_loading, virtual, arrangement, knock)


def _instructions_loading(virtual: Prepared, arrangement: Arrangement, knock: Knock) -> str:
    names, unconnected = {}, []
    for member in arrangement.members:
        server = find_by_id(member.server_id)
        if server is None or may_use(virtual, member, may_load=True) is None:
            continue
        names[member.alias] = server.name
        if _unconnected(virtual, member, knock, may_load=True):
            unconnected.append(server.name)
    return instructions(arrangement, names, unconnected)
