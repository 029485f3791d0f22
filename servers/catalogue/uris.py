"""Which item of a catalogue a resource URI belongs to, and so who may read it. Pure.

A URI that is listed is that resource. Any other belongs to the template that fits it closest: the one with the most
text outside of its variables. Whoever may not have that one may not have the URI, even where a wider template of
theirs fits it too; otherwise what an admin took away under a narrow template could be had through a wide one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from servers.access import Allowed, Denied, Reason, decide_item
from servers.items import Item, ItemKind
from servers.uri_templates import BadTemplate, UriTemplate, folded, is_plain, matching


@dataclass(frozen=True, slots=True)
class Uris:
    """The resources and templates of one catalogue, by what URIs they stand for."""

    listed: Mapping[str, Item] = field(default_factory=dict)
    templates: Mapping[UriTemplate, Item] = field(default_factory=dict)
    alike: Mapping[str, tuple[Item, ...]] = field(default_factory=dict)
    """Resources by their URI as a careless server may read it."""
    templates_alike: Mapping[UriTemplate, tuple[Item, ...]] = field(default_factory=dict)

    def decide(self, allowed: Allowed, uri: str) -> Allowed | Denied:
        """May somebody with these rights have the resource at `uri`?"""
        item = self.listed.get(uri)
        if item is not None:
            return decide_item(allowed, item)
        item = self.template_of(uri)
        if item is None or not is_plain(uri):
            return Denied(Reason.ITEM_NOT_SERVED)
        concerned = [item, *self._others_of(uri, item)]
        return next((no for one in concerned if isinstance(no := decide_item(allowed, one), Denied)), allowed)

    def are_about(self, uri: str) -> bool:
        """Whether a resource or template, served or not, stands for `uri` or for what a server may take it for."""
        spelled = folded(uri)
        if uri in self.listed or spelled in self.alike:
            return True
        return bool(matching(self.templates, uri) or matching(self.templates_alike, spelled))

    def template_of(self, uri: str) -> Item | None:
        """The template that fits `uri` closest, the first of several; None where none does."""
        found = matching(self.templates, uri)
        return self.templates[max(found, key=_closeness)] if found else None

    def _others_of(self, uri: str, item: Item) -> Iterable[Item]:
        """What else must be theirs: other templates as close, and what the server may take the URI for."""
        found = matching(self.templates, uri)
        closest = max(map(_closeness, found))
        yield from (self.templates[one] for one in found if one.closeness == closest)
        spelled = folded(uri)
        yield from self.alike.get(spelled, ())
        for one in matching(self.templates_alike, spelled):
            if one.closeness > closest:
                yield from self.templates_alike[one]


def uris_of(items: Iterable[Item]) -> Uris:
    """The URIs of these items, served or not. A template that cannot be read stands for nothing."""
    listed: dict[str, Item] = {}
    templates: dict[UriTemplate, Item] = {}
    alike: dict[str, tuple[Item, ...]] = defaultdict(tuple)
    templates_alike: dict[UriTemplate, tuple[Item, ...]] = defaultdict(tuple)
    for item in items:
        if item.kind is ItemKind.RESOURCE:
            listed[item.key] = item
            alike[folded(item.key)] += (item,)
        elif item.kind is ItemKind.TEMPLATE:
            with suppress(BadTemplate):
                templates[UriTemplate.parse(item.key)] = item
                templates_alike[UriTemplate.parse(folded(item.key))] += (item,)
    return Uris(listed, templates, dict(alike), dict(templates_alike))


def _closeness(template: UriTemplate) -> int:
    return template.closeness
