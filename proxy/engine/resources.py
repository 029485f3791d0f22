"""Whose an item is for one caller: the same decision for calling, reading, completing and hearing of changes (T46)."""

from __future__ import annotations

from typing import Final

from proxy import threads
from proxy.engine import wire
from proxy.engine.engaged import Engaged
from proxy.engine.entering import may_use, remembered
from proxy.messages import INVALID_PARAMS
from servers import changes
from servers.access import Allowed, Denied, Reason
from servers.items import ItemKind
from servers.registry import find_by_id
from servers.virtual.arrangement import Arrangement, Entry
from servers.virtual.deciding import decide_entry, decide_resource, resource_entry, takes_long

_TOOL: Final = "tool"
_MOST_KEPT: Final = 1_000
_NOUNS: Final = {ItemKind.TOOL: "tool", ItemKind.PROMPT: "prompt"}


class Hidden(wire.Refusal):
    """There is no such item for the caller: unknown and hidden look alike. The reason is for the record."""

    def __init__(self, kind: ItemKind, name: str, reason: Reason) -> None:
        super().__init__(INVALID_PARAMS, f"Unknown {_NOUNS.get(kind, 'resource')}: {name[:200]}")
        self.name, self.reason = name, reason


async def owner_of(engaged: Engaged, uri: str) -> Entry | None:
    """The resource as the caller has it; None when there is none, which looks like one that is not theirs."""
    found = await _found(engaged, ItemKind.RESOURCE, uri)
    return found if isinstance(found, Entry) else None


async def item_of(engaged: Engaged, kind: ItemKind, name: str) -> Entry:
    """The entry of that name or URI, which the caller may have. Raises Hidden.

    A template is also found by a URI that it stands for.
    """
    virtual, arrangement = engaged.virtual, engaged.arrangement
    known: tuple[Arrangement, Allowed, Entry] | None = virtual.kept.get((_TOOL, name))
    if known is not None:
        # Decided before. It depends on nothing but the arrangement, and what the caller may have of the member.
        of, allowed, entry = known
        of_member = remembered(virtual, entry.member) if of is arrangement and kind is ItemKind.TOOL else None
        if of_member is not None and of_member.allowed is allowed:
            return entry
    found = await _found(engaged, kind, name)
    if isinstance(found, Reason):
        raise Hidden(kind, name, found)
    if kind is ItemKind.TOOL and (of_member := remembered(virtual, found.member)) is not None:
        if len(virtual.kept) >= _MOST_KEPT:
            virtual.kept.clear()
        virtual.kept[_TOOL, name] = (arrangement, of_member.allowed, found)
    return found


async def _found(engaged: Engaged, kind: ItemKind, name: str) -> Entry | Reason:
    try:
        return _find(engaged, kind, name, may_load=False)
    except changes.NotCached:
        return await threads.run_or_give_up(_find_loading, engaged, kind, name)


def _find_loading(engaged: Engaged, kind: ItemKind, name: str) -> Entry | Reason:
    return _find(engaged, kind, name, may_load=True)


def _find(engaged: Engaged, kind: ItemKind, name: str, *, may_load: bool) -> Entry | Reason:
    arrangement, here = engaged.arrangement, engaged.virtual.allowed
    listed = arrangement.find(kind, name) if kind is not ItemKind.RESOURCE else None
    is_uri = listed is None and kind in (ItemKind.RESOURCE, ItemKind.TEMPLATE)
    if is_uri and not may_load and takes_long(here, arrangement):
        raise changes.NotCached
    entry = resource_entry(arrangement, name) if is_uri else listed
    if entry is None:
        return Reason.ITEM_NOT_SERVED
    there = may_use(engaged.virtual, entry.member, may_load=may_load)
    member = find_by_id(entry.member.server_id, may_load=may_load)
    if there is None or member is None:
        return Reason.NO_RULE
    if is_uri:
        decision = decide_resource(here, there, arrangement, entry, uri=name, restricted=member.restricted)
    else:
        decision = decide_entry(here, there, entry)
    return decision.reason if isinstance(decision, Denied) else entry
