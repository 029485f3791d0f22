"""For whom a member's notice about a resource is."""

from __future__ import annotations

from proxy.engine.engaged import Engaged
from proxy.engine.resources import owner_of
from servers.virtual.facts import MemberFacts


async def concerns(engaged: Engaged, member: MemberFacts, uri: str, watched: frozenset[str]) -> bool:
    """Whether it is for somebody who watches these resources of the member: about one of them, or a part of one."""
    if uri in watched:
        return True
    if not watched or not uri.startswith(tuple(watched)):
        return False
    owner = await owner_of(engaged, uri)
    return owner is not None and owner.member.id == member.id
