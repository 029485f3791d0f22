"""From a virtual server to one of its members: may the caller use it, and with whose credential?"""

from __future__ import annotations

from functools import partial
from time import time
from typing import Any

from proxy import threads
from proxy.admissions import holds_until
from proxy.in_flight import ActiveCall, changes_seen
from proxy.pipeline import Knock, NotAllowed, Outcome, Prepared, TokenDue, UnknownServer, member_again, prepare_member
from proxy.runtime import Runtime
from servers import changes
from servers.access import Allowed, decide
from servers.registry import find_by_id
from servers.virtual.facts import MemberFacts


async def enter(call: ActiveCall, runtime: Runtime, virtual: Prepared, member: MemberFacts) -> Outcome:
    """What a call to this member comes to. When it is free, the call is the member's from then on.

    Everything behind this then concerns the member: time limits, refusals, what a person has to connect, and whether
    the call may go on after a change.
    """
    if member.server_id == virtual.server.id:
        return virtual
    known = remembered(virtual, member)
    if known is not None:
        call.prepared = known
        return known
    again, now, seen = partial(_again, virtual, member, call.knock), time(), changes_seen()
    try:
        outcome = prepare_member(virtual.principal, member, call.knock, now=now, may_load=False)
    except changes.NotCached:
        outcome = await threads.run_or_give_up(_loading, virtual, member, call)
    else:
        if isinstance(outcome, Prepared) and outcome.credential.remembered:
            virtual.kept[member.id] = (outcome, holds_until(outcome, now), seen)
    if isinstance(outcome, TokenDue):
        outcome = await runtime.obtaining.settled(outcome, call.knock, again=again)
    if isinstance(outcome, Prepared):
        outcome.again = again
        call.prepared = outcome
    return outcome


def remembered(virtual: Prepared, member: MemberFacts) -> Prepared | None:
    """What the last call to the member came to: until anything changes or something runs out, as in `admissions.py`.

    Of a bridge, which is its own member, what this call came to at the door.
    """
    if not virtual.server.virtual:
        return virtual
    found: tuple[Prepared, float, int] | None = virtual.kept.get(member.id)
    if found is None:
        return None
    prepared, until, seen = found
    return prepared if seen == changes_seen() and time() < until else None


def _loading(virtual: Prepared, member: MemberFacts, call: ActiveCall) -> Outcome:
    return prepare_member(virtual.principal, member, call.knock, now=time(), may_load=True)


def _again(virtual: Prepared, member: MemberFacts, knock: Knock, **when: Any) -> Outcome:
    outcome = member_again(virtual, member, knock, **when)
    if isinstance(outcome, Prepared):
        outcome.again = partial(_again, virtual, member, knock)
    return outcome


def may_use(virtual: Prepared, member: MemberFacts, *, may_load: bool) -> Allowed | None:
    """What of a member the caller may have, whatever they have connected; raises changes.NotCached."""
    known = remembered(virtual, member)
    if known is not None:
        return known.allowed
    server = find_by_id(member.server_id, may_load=may_load)
    if server is None:
        return None
    principal = virtual.principal
    decision = decide(
        principal,
        # A key for the virtual server reaches its members.
        server_id=virtual.server.id if principal.limited_to is not None else server.id,
        tenant_id=server.tenant_id,
        enabled=server.enabled,
        rules=server.rules,
        now=time(),
    )
    return decision if isinstance(decision, Allowed) else None


def denied(outcome: Outcome) -> bool:
    """Whether the member is none of the caller's business: it looks as if it were not there (T46)."""
    return isinstance(outcome, NotAllowed | UnknownServer)
