"""Saving the members of a virtual server: all of them in one transaction, or nothing (F-605, T35)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import connection, transaction

from servers import audit, changes
from servers.catalogue.facts import catalogue_of
from servers.header_auth import HeaderChoice, named_secrets, uses_of_secrets
from servers.items import ItemKey, ItemKind
from servers.models import Server, StoredSecret
from servers.models.virtual import VirtualMember, VirtualSelection
from servers.secrets.store import set_secret
from servers.virtual.actors import Actor, Usable
from servers.virtual.facts import Selection
from servers.virtual.wanted import Problem, Wanted, default_alias, problems_of, warnings_of

_ROWS_AT_A_TIME = 500
_SETTINGS = ("alias", "tools", "prompts", "resources")


class NotSaved(ValidationError):
    """The members cannot be like this; nothing was saved. Its messages are the problems' texts."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__([problem.text for problem in problems])
        self.problems = tuple(problems)


@dataclass(slots=True)
class Saved:
    """What a save changed, by slugs of the members, and what the person should know."""

    members: list[str] = field(default_factory=list)
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    credentials: list[str] = field(default_factory=list)
    items: dict[str, int] = field(default_factory=dict)
    """How many single items were chosen, left out, named or described anew."""
    moved: bool = False
    """Whether a member stands at another place than before."""
    warnings: list[str] = field(default_factory=list)

    @property
    def anything(self) -> bool:
        """Whether there was something to save."""
        return bool(self.added or self.removed or self.changed or self.credentials or self.items or self.moved)


def save(virtual: Server, members: Iterable[Wanted], *, actor: Actor) -> Saved:
    """Make these the members of a virtual server, in this order; raises NotSaved.

    Members that the actor may not use stay as they are: they can be moved, given another prefix and removed.
    """
    return edit(virtual, lambda _: members, actor=actor)


def edit(virtual: Server, change: Callable[[tuple[Wanted, ...]], Iterable[Wanted]], *, actor: Actor) -> Saved:
    """Make of the present members what `change` makes of them, while nobody else changes them; raises NotSaved."""
    with transaction.atomic():
        row = Server.objects.select_for_update().select_related("tenant").get(pk=virtual.pk)
        if not row.is_virtual:
            raise NotSaved([Problem(f"{row.name} is not a virtual server, so it has no members.")])
        stored = {member.server_id: member for member in _rows(row)}
        before = {server_id: _wanted(member) for server_id, member in stored.items()}
        members = list(change(tuple(before.values())))
        usable = actor.usable(row.tenant_id, among={member.server_id for member in members})
        _refuse_what_is_not_theirs(members, before, usable)
        servers = {member.server_id: member.server for member in stored.values()}
        servers |= {server_id: found.server for server_id, found in usable.items()}
        members = _with_aliases(members, servers)
        names = {server_id: server.name for server_id, server in servers.items()}
        catalogues = {member.server_id: catalogue_of(member.server_id) for member in members}
        if problems := problems_of(members, names=names, catalogues=catalogues):
            raise NotSaved(problems)
        saved = _write(row, members, stored, servers, actor=actor)
        saved.warnings = warnings_of(members, names=names, catalogues=catalogues)
        if saved.anything:
            changes.record("server", row.pk)
            detail = {
                "members": saved.members,
                "added": saved.added,
                "removed": saved.removed,
                "changed": saved.changed,
                "credentials": saved.credentials,
                "items": saved.items,
            }
            audit.record(audit.Action.VIRTUAL_MEMBERS, actor=actor.name, subject=row, tenant=row.tenant, detail=detail)
        return saved


def present(virtual: Server) -> tuple[Wanted, ...]:
    """The members as they are, in order."""
    return tuple(_wanted(member) for member in _rows(virtual))


def _rows(virtual: Server) -> list[VirtualMember]:
    rows = VirtualMember.objects.filter(virtual=virtual).select_related("server__tenant")
    return list(rows.prefetch_related("selections"))


def _wanted(member: VirtualMember) -> Wanted:
    selections = {
        (ItemKind(one.kind), one.key): Selection(one.chosen, one.name, one.description)
        for one in member.selections.all()
    }
    return Wanted(member.server_id, member.alias, member.tools, member.prompts, member.resources, selections)


def _refuse_what_is_not_theirs(
    members: Sequence[Wanted], before: Mapping[UUID, Wanted], usable: Mapping[UUID, Usable]
) -> None:
    problems = []
    for member in members:
        if member.server_id in usable:
            continue
        stored = before.get(member.server_id)
        # One sentence for what does not exist, what is elsewhere and what is not theirs.
        if stored is None:
            problems.append(Problem("Choose members among the servers of this tenant that you may use yourself."))
        elif replace(member, alias=stored.alias) != stored:
            text = "You may not use this member yourself, so you can move and remove it, not change what it shows."
            problems.append(Problem(text, member.server_id))
    if problems:
        raise NotSaved(problems)


def _with_aliases(members: Sequence[Wanted], servers: Mapping[UUID, Server]) -> list[Wanted]:
    taken = {member.alias for member in members if member.alias is not None}
    found = []
    for member in members:
        if member.alias is None:
            alias = default_alias(servers[member.server_id].slug, taken=taken)
            member = replace(member, alias=alias)
            taken.add(alias)
        # What says nothing needs no row.
        kept = {key: one for key, one in member.selections.items() if one != Selection(member.shows_all(_kind(key)))}
        found.append(replace(member, selections=kept))
    return found


def _kind(key: ItemKey) -> ItemKind:
    return ItemKind(key[0])


def _write(
    virtual: Server,
    members: Sequence[Wanted],
    stored: Mapping[UUID, VirtualMember],
    servers: Mapping[UUID, Server],
    *,
    actor: Actor,
) -> Saved:
    saved = Saved()
    wanted = {member.server_id for member in members}
    for server_id, row in stored.items():
        if server_id not in wanted:
            saved.removed.append(row.server.slug)
            row.delete()
    _free_aliases(members, stored)
    for position, member in enumerate(members):
        found = stored.get(member.server_id)
        row = found or VirtualMember(virtual=virtual, server=servers[member.server_id])
        slug = servers[member.server_id].slug
        saved.members.append(slug)
        settings = {name: getattr(member, name) for name in _SETTINGS}
        differs = any(getattr(row, name) != value for name, value in settings.items())
        moved = found is not None and row.position != position
        for name, value in (settings | {"position": position}).items():
            setattr(row, name, value)
        credential = member.headers is not None and _set_credential(row, member.headers, actor=actor)
        if found is None or differs or moved or credential:
            row.save()
        saved.moved |= moved
        if found is None:
            saved.added.append(slug)
        elif differs:
            saved.changed.append(slug)
        if credential:
            saved.credentials.append(slug)
        if count := _write_selections(row, member.selections, before=_wanted(found).selections if found else {}):
            saved.items[slug] = count
    return saved


def _free_aliases(members: Sequence[Wanted], stored: Mapping[UUID, VirtualMember]) -> None:
    """Let prefixes change places: each has to be free before another member takes it."""
    moving = [
        row for member in members if (row := stored.get(member.server_id)) is not None and row.alias != member.alias
    ]
    for row in moving:
        VirtualMember.objects.filter(pk=row.pk).update(alias=f"~{row.pk.hex[:20]}")


def _set_credential(row: VirtualMember, headers: Sequence[HeaderChoice], *, actor: Actor) -> bool:
    """Put the credential into the row (unsaved), typed values into the store; whether anything changed."""
    before = row.header_templates()
    if not any(choice.plain for choice in headers) and before == [(one.name, one.template) for one in headers]:
        return False
    templates: list[tuple[str, str]] = []
    for choice in headers:
        template = choice.template
        if choice.plain:
            key = _free_key(row, choice.name, others=[one for _, one in templates])
            virtual = row.virtual
            secret = set_secret(
                tenant=virtual.tenant, group=virtual.slug, key=key, value=choice.plain, actor=actor.name
            )
            template = secret.fqn
        templates.append((choice.name, template))
    row.credential = [{"name": name, "value": value} for name, value in templates]
    # Set anew, so for the member as it is now; counted up although a replaced value leaves the references as they were.
    row.credential_origin = ""
    row.credential_epoch += 1
    return True


def _free_key(row: VirtualMember, header: str, *, others: Iterable[str]) -> str:
    """A key for the secret of one header: a free one, or that of a secret which this member alone uses."""
    virtual, member = row.virtual, row.alias or row.server.slug
    base = re.sub(r"[^a-z0-9.-]+", "-", f"{member}-{header}".lower()).strip("-.")[:80].rstrip("-.")
    rows = StoredSecret.objects.filter(tenant=virtual.tenant, group=virtual.slug)
    taken = set(rows.values_list("key", flat=True))
    siblings = VirtualMember.objects.exclude(pk=row.pk).filter(virtual=virtual)
    elsewhere = named_secrets([*others, *(text for one in siblings for _, text in one.header_templates())])
    used = uses_of_secrets([virtual.tenant])
    own = named_secrets(text for _, text in row.header_templates())
    number = 1
    while True:
        key = base if number == 1 else f"{base}-{number}"
        fqn = f"secret://{virtual.tenant.slug}:{virtual.slug}:{key}"
        alone = {server.pk for server in used.get(fqn, ())} == {virtual.pk}
        if key not in taken or (fqn in own and alone and fqn not in elsewhere):
            return key
        number += 1


def _write_selections(
    row: VirtualMember, wanted: Mapping[ItemKey, Selection], *, before: Mapping[ItemKey, Selection]
) -> int:
    """Bring the rows of single items to what is wanted; returns how many differ. `edit` records the change."""
    gone = [key for key in before if key not in wanted]
    fresh = [key for key in wanted if key not in before]
    changed = [key for key, one in wanted.items() if key in before and before[key] != one]
    if gone or changed:
        ids = {(ItemKind(one.kind), one.key): one.pk for one in row.selections.all()}
        for start in range(0, len(gone), _ROWS_AT_A_TIME):
            rows = VirtualSelection.objects.filter(pk__in=[ids[key] for key in gone[start : start + _ROWS_AT_A_TIME]])
            # Without a signal, and so a query, for each of perhaps thousands.
            rows._raw_delete(connection.alias)
        VirtualSelection.objects.bulk_update(
            [_selection(row, key, wanted[key], pk=ids[key]) for key in changed],
            ["chosen", "name", "description"],
            batch_size=_ROWS_AT_A_TIME,
        )
    VirtualSelection.objects.bulk_create(
        [_selection(row, key, wanted[key]) for key in fresh], batch_size=_ROWS_AT_A_TIME
    )
    return len(gone) + len(fresh) + len(changed)


def _selection(row: VirtualMember, key: ItemKey, one: Selection, *, pk: UUID | None = None) -> VirtualSelection:
    found = VirtualSelection(
        member=row, kind=key[0], key=key[1], chosen=one.chosen, name=one.name, description=one.description
    )
    if pk is not None:
        found.pk = pk
    return found
