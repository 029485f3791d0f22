"""What of a virtual server somebody may have: their rights there and on the member, for each item. Pure (T35, T46)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final

from servers.access import Allowed, Denied, Reason, decide_item
from servers.catalogue.uris import Uris, uris_of
from servers.items import Item, ItemKind
from servers.uri_templates import BadTemplate, UriTemplate, is_plain, matching
from servers.virtual.arrangement import Arrangement, Entry
from servers.virtual.facts import MemberFacts

_MANY: Final = 200
"""Templates, or resources that nothing was made of yet."""
_SHOWN: Final = "uris"


def decide_entry(here: Allowed, there: Allowed, entry: Entry) -> Allowed | Denied:
    """May somebody with these rights on the virtual server and on the member have the entry?

    Rules on the member are about its own names, rules on the virtual server about those that it shows.
    """
    decision = decide_item(there, entry.item)
    if isinstance(decision, Denied) or here.rights.unlimited:
        return decision
    return decide_item(here, replace(entry.item, key=entry.name))


def resource_entry(arrangement: Arrangement, uri: str) -> Entry | None:
    """Whose resource this is: a listed one, one of a listed template, or of the only member that could have it."""
    found = arrangement.find(ItemKind.RESOURCE, uri)
    if found is not None:
        return found
    if not is_plain(uri):
        return None
    templates = _templates(arrangement)
    if fitting := matching(templates, uri):
        return templates[max(fitting, key=lambda template: template.closeness)]
    holders = [one for one in arrangement.members if "resources" in arrangement.catalogues[one.id].capabilities]
    if len(holders) == 1 and ItemKind.RESOURCE in holders[0].all_of:
        return Entry(holders[0], Item(ItemKind.RESOURCE, uri), uri, "")
    return None


def takes_long(here: Allowed, arrangement: Arrangement) -> bool:
    """Whether `resource_entry` and `decide_resource` may take more than a moment: too long for an event loop."""
    catalogues, kept = arrangement.catalogues, arrangement.kept
    if sum(len(catalogue.uris.templates) for catalogue in catalogues.values()) > _MANY:
        return True
    listed = {member: len(catalogue.uris.listed) for member, catalogue in catalogues.items()}
    if not here.rights.unlimited and _SHOWN not in kept and sum(listed.values()) > _MANY:
        return True
    return any(count > _MANY and (_SHOWN, member) not in kept for member, count in listed.items())


def decide_resource(
    here: Allowed, there: Allowed, arrangement: Arrangement, entry: Entry, *, uri: str, restricted: bool
) -> Allowed | Denied:
    """As `decide_entry`, for a URI of which `resource_entry` found the entry. `restricted`: the member is.

    What the member hides is not reached through a template of it that fits the URI too, nor because the URI is not
    listed. One that nothing in the catalogue is about is only for who has no limits, on a member without limits.
    """
    of_member = _uris_of_member(arrangement, entry.member)
    if not entry.text and not of_member.are_about(uri):
        unlimited = here.rights.unlimited and there.rights.unlimited and not restricted
        return there if unlimited else Denied(Reason.ITEM_NOT_SERVED)
    decision = of_member.decide(there, uri)
    if isinstance(decision, Denied) or here.rights.unlimited:
        return decision
    return _uris_shown(arrangement).decide(here, uri)


def _templates(arrangement: Arrangement) -> Mapping[UriTemplate, Entry]:
    found: dict[UriTemplate, Entry] | None = arrangement.kept.get("templates")
    if found is None:
        found = arrangement.kept["templates"] = {}
        for entry in arrangement.entries.get(ItemKind.TEMPLATE, ()):
            with suppress(BadTemplate):
                found.setdefault(UriTemplate.parse(entry.name), entry)
    return found


def _uris_of_member(arrangement: Arrangement, member: MemberFacts) -> Uris:
    """Those of the member's catalogue, as far as it shows them here."""
    key = (_SHOWN, member.id)
    found: Uris | None = arrangement.kept.get(key)
    if found is None and _shows_all(member):
        found = arrangement.kept[key] = arrangement.catalogues[member.id].uris
    if found is None:
        items = arrangement.catalogues[member.id].items.values()
        found = arrangement.kept[key] = uris_of(
            item if member.shows(item.kind, item.key) else replace(item, served=False)
            for item in items
            if item.kind in (ItemKind.RESOURCE, ItemKind.TEMPLATE)
        )
    return found


def _shows_all(member: MemberFacts) -> bool:
    kinds = (ItemKind.RESOURCE, ItemKind.TEMPLATE)
    return member.all_of.issuperset(kinds) and not any(kind in kinds for kind, _ in member.selections)


def _uris_shown(arrangement: Arrangement) -> Uris:
    """Those that the virtual server lists."""
    found: Uris | None = arrangement.kept.get(_SHOWN)
    if found is None:
        kinds = (ItemKind.RESOURCE, ItemKind.TEMPLATE)
        entries = [entry for kind in kinds for entry in arrangement.entries.get(kind, ())]
        found = arrangement.kept[_SHOWN] = uris_of(replace(entry.item, key=entry.name) for entry in entries)
    return found
