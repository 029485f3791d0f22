"""What a virtual server shows, and whose it is: the table by which calls are routed (T35). `arrange` is pure."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from servers import changes
from servers.catalogue.facts import CHANGE, CatalogueFacts, catalogue_of
from servers.items import Item, ItemKind
from servers.turns import in_turns
from servers.virtual.facts import MemberFacts, Selection, members_of, only_member
from servers.virtual.names import shown_name

NAMED = (ItemKind.TOOL, ItemKind.PROMPT)
"""Kinds whose items get a name of the virtual server's. Resources and templates keep their URIs."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One item as the virtual server shows it."""

    member: MemberFacts
    item: Item
    """The member's own, which decides who may have it."""
    name: str
    """Its name here; of a resource or template its URI."""
    text: str
    """The definition as listed, in compact JSON."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An item that is not shown because an earlier one has the same name or URI."""

    entry: Entry
    keeps: Entry


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Everything that a virtual server shows, whoever asks. In the order of its members and their items."""

    members: tuple[MemberFacts, ...]
    entries: Mapping[ItemKind, tuple[Entry, ...]] = field(default_factory=dict)
    by_name: Mapping[tuple[ItemKind, str], Entry] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    catalogues: Mapping[UUID, CatalogueFacts] = field(default_factory=dict)
    """By id of the member."""
    version: str = ""
    """Equal for equal catalogues: what cursors belong to."""
    kept: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
    """What was made of it, for as long as it holds."""

    def find(self, kind: ItemKind, name: str) -> Entry | None:
        """Whose this tool, prompt, resource or template is."""
        return self.by_name.get((kind, name))


def arrange(members: Sequence[tuple[MemberFacts, CatalogueFacts]]) -> Arrangement:
    """Name and order the served items of these members, each with its catalogue."""
    entries: dict[ItemKind, list[Entry]] = defaultdict(list)
    by_name: dict[tuple[ItemKind, str], Entry] = {}
    left_out: list[LeftOut] = []
    for member, catalogue in members:
        for (kind, key), text in in_turns(catalogue.texts.items()):
            if not member.shows(kind, key):
                continue
            selection = member.selections.get((kind, key), _NOTHING)
            name = shown_name(member.alias, key, selection.name) if kind in NAMED else key
            entry = Entry(member, catalogue.items[kind, key], name, _shown(text, key, name, selection))
            keeps = by_name.get((kind, name))
            if keeps is None:
                by_name[kind, name] = entry
                entries[kind].append(entry)
            else:
                left_out.append(LeftOut(entry, keeps))
    return Arrangement(
        tuple(member for member, _ in members),
        {kind: tuple(found) for kind, found in entries.items()},
        by_name,
        tuple(left_out),
        {member.id: catalogue for member, catalogue in members},
        ".".join(str(catalogue.version) for _, catalogue in members),
    )


_NOTHING = Selection()


def _shown(text: str, key: str, name: str, selection: Selection) -> str:
    if name == key and not selection.description:
        return text
    begins = f'{{"name":{_quoted(key)}'
    if not selection.description and text.startswith(begins) and text[len(begins)] in ",}":
        # As most servers write them; the same as below in a tenth of the time.
        return f'{{"name":{_quoted(name)}{text[len(begins) :]}'
    definition = json.loads(text)
    if name != key:
        definition["name"] = name
    if selection.description:
        definition["description"] = selection.description
    return json.dumps(definition, separators=(",", ":"), ensure_ascii=False)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _tags(found: Arrangement) -> Iterable[tuple[str, str]]:
    for member in found.members:
        yield (CHANGE, str(member.server_id))
        yield ("server", str(member.server_id))


_arranged: changes.Cache[UUID, Arrangement] = changes.Cache(
    limit=2_000, tags=_tags, parts=lambda found: (found.by_name, found.by_name.values(), *found.entries.values())
)


def arrangement_of(server_id: UUID, *, virtual: bool, may_load: bool = True) -> Arrangement:
    """What the server shows; one that is not virtual is its own only member. Raises changes.NotCached."""
    found = _arranged.get(server_id, lambda: _load(server_id, virtual), may_load=may_load)
    assert found is not None  # noqa: S101  (`_load` always returns one)
    return found


def _load(server_id: UUID, virtual: bool) -> Arrangement:
    members = members_of(server_id) if virtual else only_member(server_id)
    return arrange([(member, catalogue_of(member.server_id)) for member in members])


def _on_change(kind: str, key: str) -> None:
    if kind in (CHANGE, "server"):
        _arranged.evict(UUID(key))
        _arranged.evict_tag((kind, key))


changes.listen(_on_change)
