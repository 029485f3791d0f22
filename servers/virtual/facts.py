"""The read side of virtual servers: their members and what each shows, kept in memory until it changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from servers import changes
from servers.items import ItemKey, ItemKind
from servers.models.virtual import VirtualMember

Show = VirtualMember.Show


@dataclass(frozen=True, slots=True)
class Selection:
    """What the manager said about one item; empty texts: nothing."""

    chosen: bool = True
    name: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class MemberFacts:
    """One member as the engine sees it. A bridge is a single one without alias that shows everything."""

    id: UUID
    server_id: UUID
    alias: str = ""
    all_of: frozenset[ItemKind] = frozenset(ItemKind)
    """The kinds of which it shows everything, also what comes later; of the others only what is chosen."""
    selections: Mapping[ItemKey, Selection] = field(default_factory=dict)
    credential: tuple[tuple[str, str], ...] = ()
    """Header templates with secret references for all callers, in place of the member's own method."""
    credential_epoch: int = 0

    def shows(self, kind: ItemKind, key: str) -> bool:
        """Whether the manager let this item in."""
        selection = self.selections.get((kind, key))
        if kind in self.all_of:
            return selection is None or selection.chosen
        return selection is not None and selection.chosen


_of_server: changes.Cache[UUID, tuple[MemberFacts, ...]] = changes.Cache(limit=5_000)


def members_of(virtual_id: UUID, *, may_load: bool = True) -> tuple[MemberFacts, ...]:
    """The members of a virtual server in its order; raises changes.NotCached."""
    found = _of_server.get(virtual_id, lambda: _load(virtual_id), may_load=may_load)
    assert found is not None  # noqa: S101  (`_load` always returns something)
    return found


def only_member(server_id: UUID) -> tuple[MemberFacts, ...]:
    """A server of its own, seen as a virtual server with itself as the one member: a bridge."""
    return (MemberFacts(server_id, server_id),)


def _load(virtual_id: UUID) -> tuple[MemberFacts, ...]:
    rows = VirtualMember.objects.filter(virtual_id=virtual_id).prefetch_related("selections")
    return tuple(_facts(row) for row in rows)


def _facts(row: VirtualMember) -> MemberFacts:
    shows = {
        ItemKind.TOOL: row.tools,
        ItemKind.PROMPT: row.prompts,
        ItemKind.RESOURCE: row.resources,
        ItemKind.TEMPLATE: row.resources,
    }
    return MemberFacts(
        row.pk,
        row.server_id,
        row.alias,
        frozenset(kind for kind, show in shows.items() if show == Show.ALL),
        {
            (ItemKind(one.kind), one.key): Selection(one.chosen, one.name, one.description)
            for one in row.selections.all()
        },
        tuple(row.header_templates()),
        row.credential_epoch,
    )


def _on_change(kind: str, key: str) -> None:
    if kind == "server":
        _of_server.evict(UUID(key))


changes.listen(_on_change)
