"""Lists of catalogue items on admin pages: filtered, searched, a hundred on a page, however many there are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from django.core.paginator import Page, Paginator
from django.db.models import Case, Count, IntegerField, Q, QuerySet, Value, When
from django.http import QueryDict
from django.utils.functional import cached_property
from django.utils.safestring import SafeString

from servers.catalogue import settling
from servers.catalogue.differences import differences
from servers.catalogue.digests import digest
from servers.catalogue.texts import plain, visible
from servers.links import admin_url
from servers.models.catalogue import CatalogueItem
from servers.people import person_label

State, Kind = CatalogueItem.State, CatalogueItem.Kind
ROWS_ON_A_PAGE: Final = 100
_LONGEST_SEARCH: Final = 200
_LONGEST_DESCRIPTION: Final = 280
_MOST_SENTENCES: Final = 4

HELD: Final = Q(state=State.HELD)
CHANGED: Final = Q(state__in=(State.HELD, State.REFUSED)) & ~Q(approved="")
NEW: Final = Q(state=State.HELD, approved="")
PROBLEMS: Final = ~Q(problem="") & ~Q(state=State.GONE)


@dataclass(frozen=True, slots=True)
class Filter:
    """One chip above the list. `empty` says what to do where it finds nothing."""

    name: str
    label: str
    condition: Q
    empty: str


OF_SERVER: Final = (
    Filter("all", "All", Q(pk__isnull=False), ""),
    Filter("held", "Held", HELD, "Nothing is held. Changes that the policy holds wait here for your decision."),
    Filter("changed", "Changed", CHANGED, "Callers have every definition as the server offers it."),
    Filter("disabled", "Disabled", Q(enabled=False), "Nothing is disabled. Choose rows under All to disable them."),
    Filter("problems", "Problems", PROBLEMS, "Nothing here has a problem that keeps it from callers."),
    Filter("gone", "Gone", Q(state=State.GONE), "The server still offers everything that it ever did."),
)
OF_ALL: Final = (
    Filter("all", "All", HELD, "Nothing is held on your servers. Where a policy holds changes, they wait here."),
    Filter("changed", "Changed", HELD & CHANGED, "No approved definition waits for a decision about its change."),
    Filter("new", "New", NEW, "Nothing new waits for a decision."),
    Filter("problems", "Problems", HELD & PROBLEMS, "Nothing that is held has a problem."),
)
# Tools first: they are what most people come for.
_BY_KIND: Final = Case(
    *(When(kind=kind, then=Value(place)) for place, kind in enumerate((Kind.TOOL, Kind.PROMPT, Kind.RESOURCE))),
    default=Value(9),
    output_field=IntegerField(),
)


@dataclass(frozen=True, slots=True)
class Chip:
    """A filter as a link, with how many it finds."""

    label: str
    count: int
    query: str
    chosen: bool


class Row:
    """One item as the list shows it."""

    def __init__(self, item: CatalogueItem) -> None:
        self.item = item
        self.id: UUID = item.pk
        self.url = admin_url(item)

    @cached_property
    def definition(self) -> dict[str, Any]:
        """What callers have, or would have."""
        return parsed(self.item.approved or self.item.offered)

    @property
    def name(self) -> SafeString:
        return visible(self.item.key)

    @property
    def label(self) -> str:
        """The name where no markup can stand."""
        return plain(self.item.key)

    @property
    def title(self) -> SafeString:
        annotations = self.definition.get("annotations")
        found = self.definition.get("title") or (annotations.get("title") if isinstance(annotations, dict) else "")
        return visible(str(found or ""))

    @property
    def description(self) -> SafeString:
        text = str(self.definition.get("description") or "")
        return visible(text if len(text) <= _LONGEST_DESCRIPTION else f"{text[:_LONGEST_DESCRIPTION]}…")

    @property
    def seen(self) -> str:
        """The digest that a decision on this page sends along."""
        return digest(self.item.offered)

    @cached_property
    def changes(self) -> list[SafeString]:
        """What the server says otherwise than what was approved, in sentences."""
        item = self.item
        if not item.approved or item.state not in (State.HELD, State.REFUSED):
            return []
        found = differences(parsed(item.approved), parsed(item.offered))
        sentences = [visible(one.sentence) for one in found[:_MOST_SENTENCES]]
        rest = len(found) - len(sentences)
        return [*sentences, visible(f"And {rest} more.")] if rest > 0 else sentences

    @property
    def problem(self) -> SafeString:
        return visible(self.item.problem)

    @property
    def states(self) -> list[tuple[str, str]]:
        """Words about its state, each with the class that colours it."""
        return states_of(self.item)

    @property
    def hints(self) -> list[tuple[str, str]]:
        return hints_of(self.item)

    @property
    def decided(self) -> str:
        return decided_by(self.item)

    @property
    def decided_at(self) -> datetime | None:
        return self.item.decided_at if self.decided not in ("", "the policy") else None


def parsed(text: str) -> dict[str, Any]:
    """A stored definition; an empty one for none."""
    found = json.loads(text) if text else {}
    return found if isinstance(found, dict) else {}


def states_of(item: CatalogueItem) -> list[tuple[str, str]]:
    """Words about an item's state, each with the class that colours it."""
    words = {
        State.APPROVED: ("Approved", "good"),
        State.HELD: ("Held: changed", "held") if item.approved else ("Held: new", "held"),
        State.REFUSED: ("Change refused", "bad") if item.approved else ("Refused", "bad"),
        State.GONE: ("Gone", "quiet"),
    }
    found = [words[State(item.state)]]
    if not item.enabled:
        found.append(("Disabled", "bad"))
    if item.problem:
        found.append(("Problem", "bad"))
    return found


def hints_of(item: CatalogueItem) -> list[tuple[str, str]]:
    """What a tool does, as it counts, and what the server says where an admin said something about it."""
    if item.kind != Kind.TOOL:
        return []
    read_only, destructive = said_hints(item)
    reads = _hint(read_only, item.read_only, "Only reads", "May change something")
    if read_only if item.read_only is None else item.read_only:
        return [reads]  # what only reads destroys nothing, whatever else it says
    return [reads, _hint(destructive, item.destructive, "May destroy", "Destroys nothing")]


def said_hints(item: CatalogueItem) -> tuple[bool, bool]:
    """What the server says of a tool: that it only reads, that it may destroy."""
    if item.approved:
        return item.says_read_only, item.says_destructive
    return settling.hints_of(parsed(item.offered))


def _hint(says: bool, corrected: bool | None, yes: str, no: str) -> tuple[str, str]:
    if corrected is None:
        return (yes if says else no), ""
    said = yes if says else no
    note = "confirmed here" if says is corrected else f"corrected; the server says: {said.lower()}"
    return (yes if corrected else no), note


def decided_by(item: CatalogueItem) -> str:
    """Who decided about an item as it is now; nothing where a decision is still to come."""
    if item.decided_at is None or (item.changed_at is not None and item.decided_at < item.changed_at):
        return "the policy" if item.state == State.APPROVED else ""
    return person_label(item.decided_by) if item.decided_by is not None else "Somebody who is gone"


class Listing:
    """One page of items under one filter. Costs four queries at most, whatever the number of items."""

    def __init__(
        self, items: QuerySet[CatalogueItem], query: QueryDict, *, filters: Sequence[Filter], several: bool = False
    ) -> None:
        self.filters = filters
        self.several_servers = several
        self._items = items
        self._chosen = next((one for one in filters if one.name == query.get("show")), filters[0])
        self.search = query.get("q", "").replace("\0", "").strip()[:_LONGEST_SEARCH]
        self.kind = query.get("kind", "") if query.get("kind") in Kind.values else ""
        self._number = query.get("page", "1")

    @property
    def show(self) -> str:
        return self._chosen.name

    @property
    def kinds(self) -> list[tuple[str, str]]:
        return [(str(value), str(label)) for value, label in Kind.choices]

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """How many items each filter finds."""
        wanted = {one.name: Count("pk", filter=one.condition) for one in self.filters}
        found: dict[str, int] = self._items.order_by().aggregate(**wanted)
        return found

    @property
    def chips(self) -> list[Chip]:
        return [
            Chip(one.label, self.counts[one.name], self._query(show=one.name), one is self._chosen)
            for one in self.filters
        ]

    @cached_property
    def page(self) -> Page[Any]:
        """Ids of the items on this page."""
        found = self._items.filter(self._chosen.condition)
        if self.kind:
            found = found.filter(kind=self.kind)
        if self.search:
            texts = Q(key__icontains=self.search) | Q(offered__icontains=self.search)
            found = found.filter(texts | Q(approved__icontains=self.search))
        place = ("catalogue__server__name", "catalogue_id") if self.several_servers else ()
        ids = found.order_by(*place, _BY_KIND, "position", "key").values_list("pk", flat=True)
        pages = Paginator(ids, ROWS_ON_A_PAGE)
        if not self.search and not self.kind:
            pages.count = self.counts[self.show]
        return pages.get_page(self._number)

    @cached_property
    def rows(self) -> list[Row]:
        """The items of this page; at most a hundred."""
        ids = list(self.page.object_list)
        found = CatalogueItem.objects.select_related("decided_by", "catalogue__server").in_bulk(ids)
        return [Row(found[pk]) for pk in ids if pk in found]

    @property
    def empty(self) -> str:
        """What to say where nothing is found."""
        if self.search or self.kind:
            return "Nothing matches. Search for another word, or choose another kind."
        return self._chosen.empty

    @property
    def previous_query(self) -> str:
        return self._query(page=self.page.previous_page_number()) if self.page.has_previous() else ""

    @property
    def next_query(self) -> str:
        return self._query(page=self.page.next_page_number()) if self.page.has_next() else ""

    @property
    def here(self) -> str:
        """The query of this very page."""
        return self._query(page=self.page.number)

    def _query(self, **values: Any) -> str:
        wanted = {"show": self.show, "kind": self.kind, "q": self.search, **values}
        return urlencode({name: value for name, value in wanted.items() if value})
