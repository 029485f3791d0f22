"""What of a server's tools, prompts and resources is mine, as its page in the portal lists it (F-602, F-502)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from django.utils.safestring import SafeString
from django.utils.text import Truncator

from authflows.inbound.my_servers import MyServer
from authflows.outbound.my_connections import MyConnection
from authflows.outbound.my_members import Tally
from authflows.outbound.my_own_keys import MyOwnKey
from servers import access
from servers.access import Allowed
from servers.catalogue.texts import Property, arguments_of, properties_of, visible
from servers.chips import Chip
from servers.items import ItemKind
from servers.models import Server
from servers.virtual.arrangement import Arrangement, Entry, arrangement_of
from servers.virtual.deciding import decide_entry

MOST_ROWS: Final = 12
"""Parameters of one item on the page; the form in the playground has all of them."""
_LONGEST_TEXT: Final = 500
_LONGEST_CELL: Final = 160
_DEEPEST: Final = 14
_MOST_VALUES: Final = 100
KINDS: Final = {
    ItemKind.TOOL: "Tools",
    ItemKind.PROMPT: "Prompts",
    ItemKind.RESOURCE: "Resources",
    ItemKind.TEMPLATE: "Resource templates",
}


class Known(StrEnum):
    """Whether there is a list to show."""

    LISTED = "listed"
    UNREAD = "unread"
    """The gateway never read what the server offers."""
    UNCONNECTED = "unconnected"
    """The person has to connect or to enter something first, as their clients are told too."""
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Mine:
    """One entry that the person may have."""

    entry: Entry
    member: Server | None = None
    """Of a virtual server: whose it is."""
    connect_first: bool = False
    """The person has to connect the member before it can be called."""


@dataclass(frozen=True, slots=True)
class MyItems:
    """Everything of a server that is the person's, in the order in which clients get it."""

    known: Known
    items: Mapping[ItemKind, Sequence[Mine]] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many of all kinds."""
        return sum(len(found) for found in self.items.values())


@dataclass(frozen=True, slots=True)
class Shown:
    """One entry in words. Texts are the server's: escaped, with marks for what a person would not see."""

    mine: Mine
    name: str
    """For links."""
    label: SafeString
    title: SafeString
    description: SafeString
    hints: Sequence[tuple[str, str]]
    """Words and a look of `portal.css`."""
    parameters: Sequence[Property]
    more: bool
    """Whether there are parameters that are not listed."""
    content_type: SafeString


def items_for(item: MyServer, *, mine: MyConnection | MyOwnKey | None, tally: Tally | None) -> MyItems:
    """What of this server the person may have now. `mine` and `tally`: what they have for it. Queries: catalogues."""
    if item.allowed is None:
        return MyItems(Known.OFF)
    if mine is not None and mine.missing is not None:
        return MyItems(Known.UNCONNECTED)
    server = item.server
    arranged = arrangement_of(server.pk, virtual=server.is_virtual)
    if not any(catalogue.taken for catalogue in arranged.catalogues.values()):
        return MyItems(Known.UNREAD)
    if not server.is_virtual:
        own: dict[UUID, tuple[Allowed, Server | None]] = {one.id: (item.allowed, None) for one in arranged.members}
        # On a server of its own rules are about its own names, so they are asked once.
        return MyItems(Known.LISTED, _mine(arranged, access.USER, own, unconnected=frozenset()))
    mine_of = {member.server.pk: member for member in tally.members} if tally is not None else {}
    unconnected = frozenset(member.server.pk for member in tally.missing) if tally is not None else frozenset()
    members: dict[UUID, tuple[Allowed, Server | None]] = {}
    for facts in arranged.members:
        member = mine_of.get(facts.server_id)
        if member is None or member.allowed is None:
            continue
        if server.list_unconnected or facts.server_id not in unconnected:
            members[facts.id] = (member.allowed, member.server)
    return MyItems(Known.LISTED, _mine(arranged, item.allowed, members, unconnected=unconnected))


def _mine(
    arranged: Arrangement,
    here: Allowed,
    members: Mapping[UUID, tuple[Allowed, Server | None]],
    *,
    unconnected: frozenset[UUID],
) -> dict[ItemKind, list[Mine]]:
    found: dict[ItemKind, list[Mine]] = {}
    for kind in KINDS:
        for entry in arranged.entries.get(kind, ()):
            if entry.member.id not in members:
                continue
            there, member = members[entry.member.id]
            if decide_entry(here, there, entry):
                one = Mine(entry, member, member is not None and member.pk in unconnected)
                found.setdefault(kind, []).append(one)
    return found


# Choosing and showing: pure


def kind_chips(found: MyItems, chosen: str) -> list[Chip]:
    """One for each kind that there is something of; the first where another than these is chosen."""
    kinds = [kind for kind in KINDS if found.items.get(kind)]
    kept = ItemKind(chosen) if chosen in kinds else next(iter(kinds), None)
    return [Chip(kind, KINDS[kind], len(found.items[kind]), kind == kept) for kind in kinds]


def with_words(items: Sequence[Mine], words: str) -> list[Mine]:
    """Those that have the words in their name, description or parameters."""
    wanted = words.casefold()
    return [one for one in items if wanted in one.entry.name.casefold() or wanted in one.entry.text.casefold()]


def shown(mine: Mine) -> Shown:
    """One entry for the page."""
    entry = mine.entry
    about = _parsed(entry.text)
    kind = entry.item.kind
    if kind is ItemKind.TOOL:
        parameters, more = properties_of(_shortened(about.get("inputSchema")))
    else:
        parameters, more = arguments_of(_shortened(about.get("arguments"))), False
    title = about.get("title") or _of(about.get("annotations")).get("title")
    if not title and kind in (ItemKind.RESOURCE, ItemKind.TEMPLATE):
        title = about.get("name")
    return Shown(
        mine,
        entry.name,
        visible(entry.name),
        visible(_cut(title, _LONGEST_CELL)) if title != entry.name else visible(""),
        visible(_cut(about.get("description"), _LONGEST_TEXT)),
        _hints(entry),
        parameters[:MOST_ROWS],
        more or len(parameters) > MOST_ROWS,
        visible(_cut(about.get("mimeType"), _LONGEST_CELL)),
    )


def _hints(entry: Entry) -> list[tuple[str, str]]:
    if entry.item.kind is not ItemKind.TOOL:
        return []
    if entry.item.read_only:
        return [("Only reads", "ok")]
    return (
        [("May change or destroy", "warning")] if entry.item.destructive else [("Changes, destroys nothing", "quiet")]
    )


def _shortened(value: Any, depth: int = 0) -> Any:
    """The same with texts that a table has room for; what no table shows any more is left out."""
    if isinstance(value, str):
        return _cut(value, _LONGEST_CELL)
    if depth == _DEEPEST:
        return None
    if isinstance(value, dict):
        return {name: _shortened(inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, list):
        return [_shortened(inner, depth + 1) for inner in value[:_MOST_VALUES]]
    return value


def _parsed(text: str) -> dict[str, Any]:
    return _of(json.loads(text)) if text else {}


def _of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _cut(value: Any, most: int) -> str:
    return Truncator(value).chars(most) if isinstance(value, str) else ""
