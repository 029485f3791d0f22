"""The single items of a member, as its page lists them and as it is posted back: in pages, however many there are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from django.core.paginator import Page, Paginator
from django.utils.safestring import SafeString

from servers.catalogue.facts import CatalogueFacts
from servers.catalogue.texts import visible
from servers.items import Item, ItemKey, ItemKind, ItemRights
from servers.virtual.arrangement import NAMED
from servers.virtual.facts import Selection
from servers.virtual.names import shown_name
from servers.virtual.wanted import Wanted

PAGE_SIZE: Final = 200
"""Three fields for each stay under the thousand fields that a posted form may have."""
_DESCRIPTION_LETTERS: Final = 400


@dataclass(frozen=True, slots=True)
class Line:
    """One item with its fields."""

    token: str
    """Stands for kind and key in the names of fields, whatever characters they have."""
    kind: ItemKind
    key: SafeString
    description: SafeString
    served: bool
    shown: bool
    usual_name: str
    own_name: str
    own_description: str

    @property
    def named(self) -> bool:
        """Whether it can have a name of its own."""
        return self.kind in NAMED


@dataclass(frozen=True)
class Items:
    """The items of one member that somebody may see, narrowed to a kind and to words."""

    member: Wanted
    catalogue: CatalogueFacts
    rights: ItemRights
    kind: ItemKind | None = None
    words: str = ""
    typed: Mapping[str, Selection] = field(default_factory=dict)
    """By token: what was posted and could not be saved."""

    def _all(self) -> Iterator[Item]:
        for item in self.catalogue.items.values():
            # What is not served is listed only where this virtual server already says something about it.
            chosen = (item.kind, item.key) in self.member.selections
            if (item.served or chosen) and self.rights.allow(item):
                yield item
        for kind, key in self.member.selections:
            if (kind, key) not in self.catalogue.items:
                yield Item(ItemKind(kind), key, served=False)

    def counts(self) -> dict[ItemKind, int]:
        """How many there are of each kind that occurs."""
        found = dict.fromkeys(ItemKind, 0)
        for item in self._all():
            found[item.kind] += 1
        return {kind: number for kind, number in found.items() if number}

    def matching(self) -> list[Item]:
        """Those of the kind, with the words in their name, their description or their name here."""
        words = self.words.casefold().split()
        return [
            item
            for item in self._all()
            if (self.kind is None or item.kind is self.kind) and all(word in self._text(item) for word in words)
        ]

    def _text(self, item: Item) -> str:
        key = (item.kind, item.key)
        own = self.member.selections.get(key, Selection())
        described = description_of(self.catalogue.texts.get(key, "")) if self.words else ""
        return f"{item.key}\n{described}\n{own.name}\n{own.description}".casefold()

    def page(self, number: str | None) -> tuple[Page[Item], list[Line]]:
        """One page, and its lines."""
        page = Paginator(self.matching(), PAGE_SIZE).get_page(number)
        return page, [self._line(item) for item in page.object_list]

    def _line(self, item: Item) -> Line:
        key = (item.kind, item.key)
        token = token_of(key)
        own = self.typed.get(token) or self.selection(key)
        return Line(
            token,
            item.kind,
            visible(item.key),
            visible(description_of(self.catalogue.texts.get(key, ""))[:_DESCRIPTION_LETTERS]),
            item.served,
            own.chosen,
            shown_name(self.member.alias or "", item.key) if item.kind in NAMED else "",
            own.name,
            own.description,
        )

    def selection(self, key: ItemKey) -> Selection:
        """What is said about an item now, by a row of its own or by the setting for its kind."""
        return self.member.selections.get(key) or Selection(self.member.shows_all(ItemKind(key[0])))

    def posted(self, data: Mapping[str, Any]) -> dict[ItemKey, Selection]:
        """What a posted page says about the items that it listed; others are left alone."""
        found = {}
        for item in self._all():
            key = (item.kind, item.key)
            token = token_of(key)
            if f"about-{token}" in data:
                name = str(data.get(f"name-{token}", "")).strip()
                about = str(data[f"about-{token}"]).replace("\r\n", "\n").strip()
                found[key] = Selection(f"shown-{token}" in data, name, about)
        return found

    def with_all(self, shown: bool) -> dict[ItemKey, Selection]:
        """The matching items, all of them shown or none."""
        keys = [(item.kind, item.key) for item in self.matching()]
        return {key: replace(self.selection(key), chosen=shown) for key in keys}


def token_of(key: ItemKey) -> str:
    """What stands for an item in names of form fields."""
    return hashlib.sha256(f"{key[0]}:{key[1]}".encode()).hexdigest()[:24]


def description_of(text: str) -> str:
    """What a definition says about itself."""
    if not text:
        return ""
    definition = json.loads(text)
    return str(definition.get("description") or definition.get("title") or "")
