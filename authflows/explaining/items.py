"""The right to one tool, prompt or resource: of a server itself, or of a member of a virtual server."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from authflows.explaining.rules import asked, managers_of
from authflows.explaining.steps import Fix, Look, Reader, Step, failed, noted, passed
from servers import registry
from servers.access import Allowed, Denied, Reason, decide_item
from servers.catalogue.facts import CatalogueFacts, catalogue_of
from servers.items import ItemKey, ItemKind
from servers.links import admin_url
from servers.models import Server
from servers.models.catalogue import CatalogueItem
from servers.virtual.arrangement import Arrangement, Entry, arrangement_of
from servers.virtual.deciding import decide_entry, decide_resource, resource_entry

_NOUNS: Final = {
    ItemKind.TOOL: "tool",
    ItemKind.PROMPT: "prompt",
    ItemKind.RESOURCE: "resource",
    ItemKind.TEMPLATE: "resource template",
}
_STATES: Final = {
    CatalogueItem.State.HELD: "It is held until somebody approves it.",
    CatalogueItem.State.REFUSED: "It was refused.",
    CatalogueItem.State.GONE: "The server no longer offers it.",
}


def item_step(server: Server, allowed: Allowed, item: ItemKey, reader: Reader, *, now: datetime) -> Step:
    """May the person have this item of a server that is not virtual? As the way of every call decides."""
    kind, name = item
    catalogue = catalogue_of(server.pk)
    listed = (kind, name) in catalogue.texts
    if not server.restricted and allowed.rights.unlimited:
        if listed:
            return passed(Look.ITEM, "The catalogue has it, and a rule opens everything of the server.")
        return noted(
            Look.ITEM,
            f"The catalogue does not have a {_NOUNS[kind]} of this name. Nothing is limited here, so the call is "
            "passed on, and the server says whether it has one.",
            fix=_spelling(reader),
        )
    if not catalogue.taken:
        return _never_read(server, reader, now=now)
    decision = decide_in(catalogue, allowed, item)
    if isinstance(decision, Allowed):
        return passed(Look.ITEM, "The catalogue serves it, and a rule opens it.")
    return refused(server, item, decision.reason, reader, now=now)


def decide_in(catalogue: CatalogueFacts, allowed: Allowed, item: ItemKey) -> Allowed | Denied:
    """What the proxy decides about one item of one catalogue (`proxy/item_decisions.py`)."""
    kind, name = item
    if kind is ItemKind.RESOURCE or (kind is ItemKind.TEMPLATE and item not in catalogue.items):
        return catalogue.uris.decide(allowed, name)
    return decide_item(allowed, catalogue.item(kind, name))


@dataclass(frozen=True, slots=True)
class Found:
    """Whose item it is, behind a virtual server."""

    arrangement: Arrangement
    entry: Entry


def entry_of(virtual: Server, item: ItemKey) -> Found | None:
    """The entry of a virtual server's list that the item names, as the engine finds it."""
    kind, name = item
    arrangement = arrangement_of(virtual.pk, virtual=True)
    entry = arrangement.find(kind, name) if kind is not ItemKind.RESOURCE else None
    if entry is None and kind in (ItemKind.RESOURCE, ItemKind.TEMPLATE):
        entry = resource_entry(arrangement, name)
    return Found(arrangement, entry) if entry is not None else None


def not_shown(virtual: Server, item: ItemKey, reader: Reader, *, now: datetime) -> Step:
    """The virtual server shows nothing of this name."""
    if not reader.manages(virtual):
        return _hidden(virtual, item, reader, Reason.ITEM_NOT_SERVED, now=now)
    fix = Fix(
        "Choose it on the page of its member; the preview shows what people get.", admin_url(virtual), "The server"
    )
    sentence = (
        f"{virtual.name} shows no {_NOUNS[item[0]]} of this name: not chosen, not served by its member, or renamed."
    )
    return failed(Look.ITEM, Reason.ITEM_NOT_SERVED, sentence, fix=fix)


def entry_step(
    virtual: Server, member: Server, here: Allowed, there: Allowed, found: Found, item: ItemKey, reader: Reader, *,
    now: datetime,
) -> Step:  # fmt: skip
    """May the person have this entry of a virtual server, by their rights there and on its member?"""
    entry, server = found.entry, registry.facts_of(member)
    listed = found.arrangement.find(*item) is entry
    if item[0] is ItemKind.RESOURCE or (item[0] is ItemKind.TEMPLATE and not listed):
        decision = decide_resource(here, there, found.arrangement, entry, uri=item[1], restricted=server.restricted)
    else:
        decision = decide_entry(here, there, entry)
    if isinstance(decision, Allowed):
        same = entry.name == entry.item.key
        return passed(Look.ITEM, f"It is {member.name}'s{'' if same else f' “{entry.item.key}”'}, and a rule opens it.")
    about_member = isinstance(decide_item(there, entry.item), Denied)
    on, named = (member, (entry.item.kind, entry.item.key)) if about_member else (virtual, item)
    return refused(on, named, decision.reason, reader, now=now)


def refused(server: Server, item: ItemKey, reason: Reason, reader: Reader, *, now: datetime) -> Step:
    """The step that refuses an item. Only who manages the server is told whether there is one (T46)."""
    if not reader.manages(server):
        return _hidden(server, item, reader, reason, now=now)
    if reason is Reason.NO_ITEM_RULE:
        fix = Fix("Change what their rule opens, under Collaborators.", admin_url(server), "The server")
        return failed(Look.ITEM, reason, "The rules that let them in are about other items.", fix=fix)
    row = CatalogueItem.objects.filter(catalogue__server=server, kind=item[0], key=item[1]).first()
    if row is None:
        sentence = f"The catalogue of {server.name} has no {_NOUNS[item[0]]} of this name."
        return failed(Look.ITEM, reason, sentence, fix=_spelling(reader, server))
    why = [_STATES[CatalogueItem.State(row.state)]] if row.state in _STATES else []
    if not row.enabled:
        why.append("It is disabled.")
    if row.problem:
        why.append("It cannot be served; its page says why.")
    fix = Fix("Look at it, approve or enable it.", admin_url(row), "The catalogue item")
    return failed(Look.ITEM, reason, *(why or ["The catalogue does not serve it."]), fix=fix)


def _hidden(server: Server, item: ItemKey, reader: Reader, reason: Reason, *, now: datetime) -> Step:
    # The same sentence and code whatever the reason: what a list hides stays hidden.
    whom = asked(managers_of(server, now=now))
    sentence = f"{server.name} has no {_NOUNS[item[0]]} of this name, or it is not open to {_object(reader)}."
    fix = Fix(f"Check the name in the list of tools; if it should be there, ask {whom}.")
    code = Reason.ITEM_NOT_SERVED if reader.themselves else reason
    return failed(Look.ITEM, code, sentence, fix=fix)


def _never_read(server: Server, reader: Reader, *, now: datetime) -> Step:
    sentence = (
        f"Only some of {server.name} is open, and what it offers was never read. The next call reads it first; if that "
        "fails, the call is refused."
    )
    if reader.manages(server):
        return noted(Look.ITEM, sentence, fix=Fix("Read its catalogue now.", admin_url(server), "The server"))
    return noted(Look.ITEM, sentence, fix=Fix(f"If it lasts, ask {asked(managers_of(server, now=now))}."))


def _object(reader: Reader) -> str:
    return "you" if reader.themselves else "them"


def _spelling(reader: Reader, server: Server | None = None) -> Fix:
    if server is not None and reader.manages(server):
        return Fix("Check the spelling, or read the catalogue again.", admin_url(server), "The server")
    return Fix("Check the spelling against the list of tools.")
