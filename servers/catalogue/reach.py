"""Which collaborators one item reaches, and switching it off or on for one of them (F-502)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from servers import audit
from servers.catalogue.decisions import Undecided
from servers.forms.item_filter import MOST_NAMES
from servers.items import Item, ItemFilter, ItemKind
from servers.models.access import AccessRule, Hints, Items, Role
from servers.models.catalogue import CatalogueItem
from servers.models.servers import Server
from servers.people import person_label
from servers.registry import filter_of
from servers.scope import scope_of

MOST_RULES: Final = 200
"""So many collaborators are looked at for one page."""


@dataclass(frozen=True, slots=True)
class Reach:
    """One collaborator's rule, and whether it opens one item."""

    rule: AccessRule
    who: str
    opens: bool
    why: str
    switchable: bool
    """Whether `switch` can turn it."""


def item_of(row: CatalogueItem) -> Item:
    """The row as rules see it, with the hints that hold."""
    return Item(
        ItemKind(row.kind),
        row.key,
        read_only=row.says_read_only if row.read_only is None else row.read_only,
        destructive=row.says_destructive if row.destructive is None else row.destructive,
    )


def reach_of(row: CatalogueItem) -> list[Reach]:
    """The rules on the item's server and on its group, teams first, with what they make of the item."""
    server, item = row.catalogue.server, item_of(row)
    where = Q(server=server)
    if server.group_id is not None:
        where |= Q(group_id=server.group_id)
    rules = AccessRule.objects.filter(where).select_related("user", "team", "server", "group")
    return [_reach(rule, item) for rule in rules.order_by("team__name", "user__username")[:MOST_RULES]]


def _reach(rule: AccessRule, item: Item) -> Reach:
    who = f"{rule.team} (team)" if rule.team is not None else person_label(rule.user)
    if rule.expires_at is not None and rule.expires_at <= timezone.now():
        return Reach(rule, who, False, "The rule has ended.", False)
    if rule.role == Role.MANAGER:
        return Reach(rule, who, True, "A Manager has everything of the server.", False)
    opens = filter_of(rule).matches(item)
    if not ItemFilter(hints=Hints(rule.hints)).matches(item):
        wanted = Hints(rule.hints).label
        return Reach(rule, who, False, f"The rule is about “{wanted}”, and this is none of them.", False)
    if rule.group_id is not None:
        return Reach(rule, who, opens, f"The rule is on the group {rule.group}, for all of its servers.", False)
    why = {
        Items.ALL: "The rule opens everything.",
        Items.ONLY: "The rule names it." if opens else "The rule opens only others, by name.",
        Items.EXCEPT: "The rule leaves out only others." if opens else "The rule leaves it out.",
    }[Items(rule.items)]
    return Reach(rule, who, opens, why, True)


def switch(row: CatalogueItem, *, rule_id: UUID, on: bool, person: Any) -> bool:
    """Open the item by one rule on its server, or close it; returns whether that changed anything.

    Raises PermissionDenied when the person does not manage the server, Undecided for a rule that cannot be switched
    by name. Other rules go on opening it to whom they name.
    """
    server: Server = row.catalogue.server
    if not scope_of(person).manages_server(server):
        raise PermissionDenied
    with transaction.atomic():
        rule = AccessRule.objects.select_for_update(of=("self",)).filter(pk=rule_id, server=server).first()
        if rule is None:
            raise Undecided("This collaborator has no rule on this server any more. Nothing was changed.")
        reach, item = _reach(rule, item_of(row)), item_of(row)
        if reach.opens is on:
            return False
        if not reach.switchable:
            raise Undecided(f"{reach.who}: {reach.why} Change the rule on the server's page.")
        _rewrite(rule, str(item), on=on)
        if len(rule.item_names) > MOST_NAMES:
            raise Undecided(f"A rule names {MOST_NAMES} items at most. Limit it by hints, on the server's page.")
        rule.save(update_fields=["items", "item_names"])
        audit.record(
            audit.Action.COLLABORATOR_CHANGE,
            actor=str(person.get_username()),
            subject=rule,
            tenant=server.tenant,
            detail={"on": str(server), "role": str(rule.role), "fields": ["items"], "item": str(item), "opens": on},
        )
        return True


def _rewrite(rule: AccessRule, name: str, *, on: bool) -> None:
    names = [str(one) for one in rule.item_names] if rule.items != Items.ALL else []
    listed = on if rule.items == Items.ONLY else not on
    rule.item_names = [*names, name] if listed else [one for one in names if one != name]
    if rule.items == Items.ALL:
        rule.items = Items.EXCEPT
    elif rule.items == Items.EXCEPT and not rule.item_names:
        rule.items = Items.ALL
