"""A virtual server's list as one person would see it, and what is hidden from them and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from django.utils import timezone

from servers import access, registry
from servers.access import Allowed, Principal, Reason, decide_item
from servers.items import ItemKind
from servers.models import Role, Server
from servers.virtual.actors import Actor, principal_of
from servers.virtual.arrangement import Arrangement, Entry, arrangement_of
from servers.virtual.deciding import decide_entry
from servers.virtual.facts import MemberFacts

MANY_TOOLS: Final = 40
"""Above this models choose worse among them; some clients leave out the rest or refuse the list."""

REASONS: Final = {
    Reason.INACTIVE: "their account is switched off",
    Reason.OTHER_TENANT: "they do not belong to this tenant",
    Reason.KEY_LIMITED: "their key is for other servers",
    Reason.NO_RULE: "no rule lets them use it: make them, or a team of theirs, a collaborator",
    Reason.RULE_EXPIRED: "the rule that let them use it has expired",
    Reason.NOT_MANAGER: "they do not manage it",
    Reason.SERVER_DISABLED: "it is switched off",
    Reason.ITEM_NOT_SERVED: "the member's catalogue does not serve it: it is held, refused or disabled there",
    Reason.NO_ITEM_RULE: "the rules that let them use the member are about other items",
}
NOT_CHOSEN: Final = "this virtual server does not show it"
OTHER_ITEMS: Final = "the rules that let them use this virtual server are about other items"
SAME_NAME: Final = "an earlier item has the same name or address"
NOT_CONNECTED: Final = "the member is not connected, and this virtual server hides what is not"

Missing = Callable[[Any, Server], str]
_missing: list[Missing] = []


def register(missing: Missing) -> None:
    """`missing(person, server)` says what the person still has to do before the member can be called, or “”."""
    _missing.append(missing)


@dataclass(frozen=True, slots=True)
class Shown:
    """One line of the list."""

    entry: Entry
    member: str


@dataclass(frozen=True, slots=True)
class Hidden:
    """One item that the person does not see."""

    kind: ItemKind
    key: str
    member: str
    why: str


@dataclass(slots=True)
class MemberPreview:
    """How one member stands for the person."""

    name: str
    facts: MemberFacts
    why_not: str = ""
    """Why all of it is hidden; empty: it is not."""
    missing: str = ""
    """What the person has to do before they can call it."""
    shown: Counter[ItemKind] = field(default_factory=Counter)


@dataclass(slots=True)
class Preview:
    """The list, what is missing from it, and why."""

    why_not: str = ""
    """Why the person may not use the virtual server at all; empty: they may."""
    members: list[MemberPreview] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)

    @property
    def tools(self) -> int:
        """How many tools a model gets."""
        return sum(one.entry.item.kind == ItemKind.TOOL for one in self.shown)

    @property
    def too_many(self) -> bool:
        """Whether these are more than models handle well."""
        return self.tools > MANY_TOOLS


def preview(virtual: Server, person: Any, *, looker: Actor) -> Preview:
    """What `person` (or a virtual account's user) would get from this virtual server now.

    Of what it does not show, `looker` sees the items that they may have themselves, and those of members they manage.
    """
    principal, found = principal_of(person), Preview()
    here = _decide(principal, registry.facts_of(virtual))
    if not isinstance(here, Allowed):
        found.why_not = REASONS[here.reason]
        here = Allowed(Role.USER)  # what they would get with a right on it
    arranged = arrangement_of(virtual.pk, virtual=True)
    rows = {row.pk: row for row in Server.objects.filter(member_of__virtual=virtual).select_related("auth_config")}
    may: dict[Any, Allowed] = {}
    for member in arranged.members:
        server = registry.find_by_id(member.server_id)
        if server is None:
            continue
        line = MemberPreview(server.name, member)
        found.members.append(line)
        allowed = _decide(principal, server)
        if not isinstance(allowed, Allowed):
            line.why_not = REASONS[allowed.reason]
            continue
        line.missing = "" if member.credential else _what_is_missing(person, rows[member.server_id])
        if line.missing and not virtual.list_unconnected:
            line.why_not = NOT_CONNECTED
            continue
        may[member.id] = allowed
    _list(found, arranged, here, may)
    _list_what_is_not_shown(found, arranged, looker, rows)
    return found


def _decide(principal: Principal, server: registry.ServerFacts) -> access.Allowed | access.Denied:
    return access.decide(
        principal,
        server_id=server.id,
        tenant_id=server.tenant_id,
        enabled=server.enabled,
        rules=server.rules,
        now=timezone.now().timestamp(),
    )


def _what_is_missing(person: Any, server: Server) -> str:
    return next((sentence for one in _missing if (sentence := one(person, server))), "")


def _list(found: Preview, arranged: Arrangement, here: Allowed, may: dict[Any, Allowed]) -> None:
    lines = {line.facts.id: line for line in found.members}
    for kind in ItemKind:
        for entry in arranged.entries.get(kind, ()):
            line = lines.get(entry.member.id)
            if line is None:
                continue
            allowed = may.get(entry.member.id)
            if allowed is None:
                found.hidden.append(Hidden(kind, entry.item.key, line.name, line.why_not))
            elif decision := decide_entry(here, allowed, entry):
                line.shown[kind] += 1
                found.shown.append(Shown(entry, line.name))
            else:
                why = REASONS[decision.reason] if not decide_item(allowed, entry.item) else OTHER_ITEMS
                found.hidden.append(Hidden(kind, entry.item.key, line.name, why))
    for one in arranged.left_out:
        if (line := lines.get(one.entry.member.id)) is not None:
            found.hidden.append(Hidden(one.entry.item.kind, one.entry.item.key, line.name, SAME_NAME))


def _list_what_is_not_shown(found: Preview, arranged: Arrangement, looker: Actor, rows: Mapping[UUID, Server]) -> None:
    tenant = next((row.tenant_id for row in rows.values()), None)
    usable = looker.usable(tenant, among=set(rows)) if tenant is not None else {}
    for line in found.members:
        server_id = line.facts.server_id
        manages = looker.scope.manages_server(rows[server_id])
        for (kind, key), item in arranged.catalogues[line.facts.id].items.items():
            if not item.served:
                if manages or (kind, key) in line.facts.selections:
                    found.hidden.append(Hidden(kind, key, line.name, REASONS[Reason.ITEM_NOT_SERVED]))
            elif not line.facts.shows(kind, key) and server_id in usable and usable[server_id].rights.allow(item):
                found.hidden.append(Hidden(kind, key, line.name, NOT_CHOSEN))
