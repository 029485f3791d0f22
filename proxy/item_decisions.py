"""Which items a message is about, and whether its sender may have them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from jiter import from_json

from proxy.item_references import listened, member, referred
from proxy.messages import Kind, Message
from servers.access import Allowed, Denied, Reason, decide_item
from servers.catalogue.facts import CatalogueFacts
from servers.items import ITEM_METHODS, ItemKind

COMPLETION: Final = "completion/complete"
LISTEN: Final = "subscriptions/listen"
_NOUNS: Final = {ItemKind.TOOL: "tool", ItemKind.PROMPT: "prompt"}


@dataclass(frozen=True, slots=True)
class Hidden:
    """What of a message its sender may not have. `name` is their own text."""

    kind: ItemKind
    name: str
    reason: Reason

    @property
    def sentence(self) -> str:
        """For the caller: the same whether the item is hidden or was never there."""
        return f"Unknown {_NOUNS.get(self.kind, 'resource')}: {self.name[:200]}"


def hidden_in(allowed: Allowed, catalogue: CatalogueFacts, message: Message, body: bytes) -> Hidden | None:
    """The first item that a message, or an element of a batch, may not have. Raises Unreadable."""
    for kind, name in _items_in(message, body):
        decision = _decision(allowed, catalogue, kind, name)
        if isinstance(decision, Denied):
            return Hidden(kind, name, decision.reason)
    return None


def _decision(allowed: Allowed, catalogue: CatalogueFacts, kind: ItemKind, name: str) -> Allowed | Denied:
    if kind is ItemKind.RESOURCE:
        return catalogue.uris.decide(allowed, name)
    item = catalogue.item(kind, name)
    if kind is ItemKind.TEMPLATE and (kind, name) not in catalogue.items:
        return catalogue.uris.decide(allowed, name)
    return decide_item(allowed, item)


def _items_in(message: Message, body: bytes) -> Iterator[tuple[ItemKind, str]]:
    """Every item that a message is about. What it says besides its name is read only where that is needed."""
    parsed: Any = None
    batch = message.kind is Kind.BATCH
    for number, element in enumerate(message.elements if batch else (message,)):
        if (kind := ITEM_METHODS.get(element.method)) is not None:
            yield kind, element.item
        elif element.method in (COMPLETION, LISTEN):
            parsed = parsed if parsed is not None else from_json(body)
            parameters = member((parsed[number] if batch else parsed), "params")
            if element.method == COMPLETION:
                yield referred(parameters)
            else:
                yield from ((ItemKind.RESOURCE, uri) for uri in listened(parameters))


def lost(allowed: Allowed, catalogue: CatalogueFacts, message: Message) -> bool:
    """Whether a call under way is for an item that its caller may not have any more, as far as its name says."""
    elements = message.elements if message.kind is Kind.BATCH else (message,)
    return any(
        isinstance(_decision(allowed, catalogue, kind, element.item), Denied)
        for element in elements
        if (kind := ITEM_METHODS.get(element.method)) is not None
    )
