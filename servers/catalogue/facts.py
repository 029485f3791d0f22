"""The read side of catalogues: what lists are made of and decisions need, kept in memory until it changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from servers import changes
from servers.catalogue.uris import Uris, uris_of
from servers.items import Item, ItemKey, ItemKind
from servers.models.catalogue import Catalogue, CatalogueItem
from servers.turns import in_turns

CHANGE = "catalogue"
"""Kind of the `Change` rows; their key is the server's id."""
_ROWS_AT_A_TIME = 100


@dataclass(frozen=True, slots=True)
class CatalogueFacts:
    """One server's catalogue. Items stand in the order in which the server lists them."""

    server_id: UUID
    version: int
    taken: bool
    """Whether it was ever read; an empty one that was read is an answer too."""
    items: Mapping[ItemKey, Item] = field(default_factory=dict)
    texts: Mapping[ItemKey, str] = field(default_factory=dict)
    """Definitions of the served ones, as compact JSON."""
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    instructions: str = ""
    uris: Uris = field(default_factory=Uris)
    """By which a resource URI is decided, listed or not."""

    def item(self, kind: ItemKind, key: str) -> Item:
        """The item, or one that is not served when the catalogue has none of this name."""
        return self.items.get((kind, key)) or Item(kind, key, served=False)


_of_server: changes.Cache[UUID, CatalogueFacts] = changes.Cache(
    limit=5_000, parts=lambda found: (found.items, found.items.values(), found.texts, found.texts.values())
)


def catalogue_of(server_id: UUID, *, may_load: bool = True) -> CatalogueFacts:
    """The catalogue of a server, an empty one when it was never read; raises changes.NotCached."""
    found = _of_server.get(server_id, lambda: _load(server_id), may_load=may_load)
    assert found is not None  # noqa: S101  (`_load` always returns one)
    return found


def _load(server_id: UUID) -> CatalogueFacts:
    catalogue = Catalogue.objects.filter(server_id=server_id).first()
    if catalogue is None:
        return CatalogueFacts(server_id, 0, taken=False)
    rows = CatalogueItem.objects.filter(catalogue=catalogue).order_by("kind", "position", "key")
    columns = rows.values_list(
        "kind",
        "key",
        "approved",
        "served",
        "state",
        "enabled",
        "problem",
        "says_read_only",
        "says_destructive",
        "read_only",
        "destructive",
    )
    items: dict[ItemKey, Item] = {}
    texts: dict[ItemKey, str] = {}
    for (
        kind,
        key,
        approved,
        served,
        state,
        enabled,
        problem,
        says_read,
        says_destroy,
        read,
        destroy,
    ) in in_turns(columns.iterator(chunk_size=_ROWS_AT_A_TIME)):
        # Of what is held or refused the problem is about what is offered, not about what was approved.
        blocked = bool(problem) and state == CatalogueItem.State.APPROVED
        is_served = bool(approved) and enabled and not blocked and state != CatalogueItem.State.GONE
        item = Item(
            ItemKind(kind),
            key,
            is_served,
            says_read if read is None else read,
            says_destroy if destroy is None else destroy,
        )
        items[item.kind, key] = item
        if is_served:
            texts[item.kind, key] = served or approved
    return CatalogueFacts(
        server_id,
        catalogue.version,
        catalogue.taken_at is not None,
        items,
        texts,
        catalogue.capabilities,
        catalogue.instructions,
        uris_of(in_turns(items.values())),
    )


def _on_change(kind: str, key: str) -> None:
    if kind in (CHANGE, "server"):
        _of_server.evict(UUID(key))


changes.listen(_on_change)
