"""Tools, prompts, resources and templates as a decision sees them, and which of them a person may have. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from servers.models.access import Hints, Items
from servers.models.catalogue import CatalogueItem

ItemKind = CatalogueItem.Kind
ItemKey = tuple[ItemKind, str]
"""Kind and key, for example `(ItemKind.TOOL, "search")`."""

# What each method acts on: its kind of item. What has none is open to whoever may use the server.
ITEM_METHODS: Final = {
    "tools/call": ItemKind.TOOL,
    "prompts/get": ItemKind.PROMPT,
    "resources/read": ItemKind.RESOURCE,
    "resources/subscribe": ItemKind.RESOURCE,
    "resources/unsubscribe": ItemKind.RESOURCE,
}


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a server offers, with the hints that hold after an admin's corrections."""

    kind: ItemKind
    key: str
    """Tool or prompt name, resource URI or URI template: the server's own, not a virtual server's."""
    served: bool = True
    """It is approved and enabled: in the lists of whoever has a right to it."""
    read_only: bool = False
    destructive: bool = True
    """As MCP has it, what does not say otherwise may destroy."""

    def __str__(self) -> str:
        return f"{self.kind}:{self.key}"


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """What of a server one rule opens. Equal filters are one in a set, so that equal rights are equal values."""

    items: Items = Items.ALL
    names: frozenset[str] = frozenset()
    """`kind:key`, as `str(item)`."""
    hints: Hints = Hints.ANY

    def matches(self, item: Item) -> bool:
        """Whether the rule opens this item."""
        if self.items is Items.ONLY and str(item) not in self.names:
            return False
        if self.items is Items.EXCEPT and str(item) in self.names:
            return False
        if item.kind != ItemKind.TOOL or self.hints is Hints.ANY:
            return True
        if self.hints is Hints.READ_ONLY:
            return item.read_only
        return item.read_only or not item.destructive


EVERYTHING: Final = ItemFilter()


@dataclass(frozen=True, slots=True)
class ItemRights:
    """What of a server somebody may have: what any of their rules opens. Hashable, part of the keys of kept lists."""

    filters: frozenset[ItemFilter]

    @property
    def unlimited(self) -> bool:
        """Whether no rule limits them."""
        return EVERYTHING in self.filters

    def allow(self, item: Item) -> bool:
        """Whether they may see and use this item, if it is served."""
        return any(one.matches(item) for one in self.filters)


UNLIMITED: Final = ItemRights(frozenset((EVERYTHING,)))
