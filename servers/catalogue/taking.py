"""Taking a reading into a server's catalogue: one transaction, whatever the reading found (F-804, T34)."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.db import transaction
from django.db.models import Max
from django.utils import timezone

from servers import audit, eras
from servers.catalogue.checks import Checked, CheckedAll, check_all
from servers.catalogue.differences import differences
from servers.catalogue.digests import compact, digest
from servers.catalogue.meeting import Meeting, meet
from servers.catalogue.policy import Policy
from servers.catalogue.readings import NotRead, Reading
from servers.catalogue.settling import EMPTIED, settle
from servers.items import ItemKind
from servers.models.catalogue import Catalogue, CatalogueItem
from servers.models.servers import Server

MOST_ITEMS: Final = 20_000
"""In one catalogue, those that are gone included."""
MOST_EVENTS: Final = 50
"""Of single items, in the audit trail, from one reading."""
_ERAS_HOLD: Final = timedelta(hours=1)
"""What is known of the eras is not written anew before."""
_WRITTEN: Final = ("approved", "offered", "state", "problem", "refused", "changed_at")
_MOST_BYTES_OF_FACTS: Final = 16 * 1024
_MOST_LEVELS_OF_FACTS: Final = 10
_LONGEST_INSTRUCTIONS: Final = 20_000
_ROWS_AT_A_TIME: Final = 500
State = CatalogueItem.State


@dataclass(frozen=True, slots=True)
class Taken:
    """What a reading did to a catalogue, as numbers of items."""

    added: int = 0
    changed: int = 0
    """Other definitions that were accepted."""
    held: int = 0
    """New ones and changes that somebody has to look at, this time."""
    returned: int = 0
    gone: int = 0
    problems: int = 0
    """Definitions that cannot be served, also those that were known already."""
    emptied: tuple[ItemKind, ...] = ()
    """Kinds of which nothing is offered any more; nothing was done about that."""
    failure: str = ""
    """A sentence, when nothing was taken or not everything."""
    notes: tuple[str, ...] = ()


class _Row(NamedTuple):
    """A stored item. Thousands of model instances at a time would make the whole process pause for their collection."""

    pk: UUID
    kind: str
    key: str
    state: str
    enabled: bool
    problem: str
    refused: str
    approved: str
    offered: str
    read_only: bool | None
    destructive: bool | None
    changed_at: datetime | None
    first_seen_at: datetime


_Rows = dict[tuple[str, str], _Row]


@dataclass(slots=True)
class _Told:
    """What one item's audit event says."""

    meeting: Meeting
    item: CatalogueItem
    before: str


def take(server: Server, reading: Reading | NotRead, *, actor: str, whole: bool) -> Taken:
    """Bring the catalogue of `server` up to date with what was read at its address.

    `whole`: the reading was made with a credential that sees everything, so what it did not find is gone. With one
    person's credential nothing ever is. The first reading accepts everything that can be served; afterwards the
    policy decides. A kind that is suddenly empty stays as it is until somebody accepts that. Blocks for some
    seconds with thousands of items.
    """
    checked = check_all(reading.offered) if isinstance(reading, Reading) else CheckedAll(())
    with transaction.atomic():
        stored = Server.objects.select_related("tenant").filter(pk=server.pk).first()
        if stored is None or stored.url != server.url:
            return Taken(failure="The server was changed meanwhile.")
        Catalogue.objects.get_or_create(server=stored)
        catalogue = Catalogue.objects.select_for_update().get(server=stored)
        if isinstance(reading, NotRead):
            return _keep_failure(stored, catalogue, reading.step, reading.sentence, actor)
        return _Taking(stored, catalogue, reading, checked, actor=actor, whole=whole).run()


def _keep_failure(server: Server, catalogue: Catalogue, step: str, sentence: str, actor: str) -> Taken:
    """The last good copy stays, with its age."""
    is_known = catalogue.failure == step
    Catalogue.objects.filter(pk=catalogue.pk).update(
        tried_at=timezone.now(), failure=step[:30], failure_sentence=_storable(sentence)[:500]
    )
    if not is_known:
        detail = {"step": step, "sentence": _storable(sentence)[:500]}
        audit.record(audit.Action.CATALOGUE_FAIL, actor=actor, subject=server, tenant=server.tenant, detail=detail)
    return Taken(failure=sentence)


class _Taking:
    """One reading on its way into one catalogue, whose row is locked."""

    def __init__(
        self, server: Server, catalogue: Catalogue, reading: Reading, checked: CheckedAll, *, actor: str, whole: bool
    ) -> None:
        self.server = server
        self.catalogue = catalogue
        self.reading = reading
        self.offers = checked.items
        self.notes = [*reading.notes, *checked.notes]
        self.actor = actor
        self.whole = whole
        self.now: datetime = timezone.now()
        self.is_first = catalogue.taken_at is None
        self.policy = Policy.ACCEPT_ALL if self.is_first else Policy(catalogue.policy)
        self.counts: Counter[Meeting] = Counter()
        self.told: list[_Told] = []

    def run(self) -> Taken:
        """Do it."""
        rows = CatalogueItem.objects.filter(catalogue=self.catalogue).order_by().values_list(*_Row._fields)
        found = map(_Row._make, rows.iterator(chunk_size=_ROWS_AT_A_TIME))
        stored = {(row.kind, row.key): row for row in found}
        emptied = self._emptied(stored) if self.whole else ()
        gone = self._make_room(stored, emptied)
        self._meet_all(stored)
        gone += self._let_go(stored, emptied) if self.whole else 0
        self._keep_facts(emptied)
        settle(self.catalogue)
        self._keep_eras()
        taken = Taken(
            added=self.counts[Meeting.ADDED],
            changed=self.counts[Meeting.CHANGED],
            held=self.counts[Meeting.HELD],
            returned=self.counts[Meeting.RETURNED],
            gone=gone,
            problems=sum(bool(offer.problem) for offer in self.offers),
            emptied=emptied,
            failure=self.catalogue.failure_sentence,
            notes=tuple(self.notes),
        )
        self._record(taken)
        return taken

    def _make_room(self, stored: _Rows, emptied: tuple[ItemKind, ...]) -> int:
        """Forget what is gone, for longest first, where the catalogue would grow too large; decisions stay.

        Returns how many of them were there until now.
        """
        offered = {(str(offer.kind), offer.key) for offer in self.offers}
        over = len(offered | stored.keys()) - MOST_ITEMS
        if over <= 0:
            return 0
        may_go = [
            row
            for key, row in stored.items()
            if key not in offered
            and not _is_decided(row)
            and (row.state == State.GONE or (self.whole and row.kind not in emptied))
        ]
        may_go.sort(key=lambda row: (row.state != State.GONE, row.changed_at or row.first_seen_at))
        going = may_go[:over]
        _delete(going)
        for row in going:
            del stored[row.kind, row.key]
        return sum(row.state != State.GONE for row in going)

    def _meet_all(self, stored: _Rows) -> None:
        ends = rows_end(self.catalogue)
        room, left_out = MOST_ITEMS - len(stored), 0
        new: list[CatalogueItem] = []
        changed: list[CatalogueItem] = []
        for offer in self.offers:
            row = stored.get((offer.kind, offer.key))
            if row is not None and _is_as_approved(row, offer):
                continue
            if row is None and room <= 0:
                left_out += 1
                continue
            item = CatalogueItem(catalogue=self.catalogue, kind=offer.kind, key=offer.key, position=ends[offer.kind])
            if row is None:
                room -= 1
                ends[offer.kind] += 1
            else:
                for name in _WRITTEN:
                    setattr(item, name, getattr(row, name))
            before, approved = [getattr(item, name) for name in _WRITTEN], item.approved
            self._note(meet(item, offer, is_new=row is None, policy=self.policy), item, approved)
            if row is None:
                new.append(item)
            elif before != [getattr(item, name) for name in _WRITTEN]:
                changed.append(item)
            if len(new) + len(changed) >= _ROWS_AT_A_TIME:
                _write(new, changed)
        _write(new, changed)
        if left_out:
            self.notes.append(f"{left_out} more than the {MOST_ITEMS} items that a catalogue holds were left out.")

    def _note(self, meeting: Meeting, item: CatalogueItem, approved_before: str) -> None:
        self.counts[meeting] += 1
        if meeting is not Meeting.SAME:
            item.changed_at = self.now
        if not self.is_first and meeting in (Meeting.CHANGED, Meeting.HELD) and len(self.told) < MOST_EVENTS:
            self.told.append(_Told(meeting, item, approved_before))

    def _emptied(self, stored: _Rows) -> tuple[ItemKind, ...]:
        """Kinds that were served and of which the reading has nothing at all."""
        had = {key for key, row in stored.items() if row.approved and row.state != State.GONE}
        has = {offer.kind for offer in self.offers if not offer.problem or (offer.kind, offer.key) in had}
        return tuple(kind for kind in ItemKind if kind not in has and any(kind == one for one, _ in had))

    def _let_go(self, stored: _Rows, emptied: tuple[ItemKind, ...]) -> int:
        """Mark what is not offered any more; what was never approved nor decided about is forgotten."""
        offered = {(offer.kind, offer.key) for offer in self.offers}
        missing = [row for key, row in stored.items() if key not in offered and row.kind not in emptied]
        _delete([row for row in missing if not row.approved and not _is_decided(row)])
        gone = [row.pk for row in missing if (row.approved or _is_decided(row)) and row.state != State.GONE]
        for start in range(0, len(gone), _ROWS_AT_A_TIME):
            some = CatalogueItem.objects.filter(pk__in=gone[start : start + _ROWS_AT_A_TIME])
            some.update(state=State.GONE, changed_at=self.now)
        return len(gone)

    def _keep_facts(self, emptied: tuple[ItemKind, ...]) -> None:
        catalogue = self.catalogue
        catalogue.capabilities = _facts(self.reading.capabilities)
        catalogue.server_info = _facts(self.reading.server_info)
        catalogue.tried_at = self.now
        catalogue.emptied = [str(kind) for kind in emptied]
        instructions = _storable(self.reading.instructions)[:_LONGEST_INSTRUCTIONS]
        if self.policy is Policy.ACCEPT_ALL or instructions == catalogue.instructions:
            catalogue.instructions, catalogue.offered_instructions = instructions, ""
        else:
            catalogue.offered_instructions = instructions
        self.failure_before = catalogue.failure
        if emptied:
            names = " and no ".join(f"{kind.label.lower()}s" for kind in emptied)
            catalogue.failure = EMPTIED
            catalogue.failure_sentence = (
                f"It suddenly offers no {names}. The last copy is kept. Look at the server, or accept that they are "
                "gone."
            )
        else:
            catalogue.taken_at, catalogue.failure, catalogue.failure_sentence = self.now, "", ""
        values = {
            name: getattr(catalogue, name)
            for name in (
                "capabilities",
                "server_info",
                "tried_at",
                "emptied",
                "instructions",
                "offered_instructions",
                "failure",
                "failure_sentence",
                "taken_at",
            )
        }
        # Not `save`, which would tell every process of a reading that found nothing new.
        Catalogue.objects.filter(pk=catalogue.pk).update(**values)

    def _keep_eras(self) -> None:
        reading, server = self.reading, self.server
        if reading.eras == Server.Eras.UNKNOWN:
            return
        is_known = (reading.eras, sorted(reading.legacy_versions)) == (server.eras, sorted(server.versions))
        if not is_known or server.eras_at is None or self.now - server.eras_at > _ERAS_HOLD:
            eras.remember(
                server.pk,
                url=server.url,
                eras=reading.eras,
                versions=reading.legacy_versions,
                at=self.now.timestamp(),
            )

    def _record(self, taken: Taken) -> None:
        """The audit events, last of all. A reading that found nothing new leaves none."""
        counts = {
            name: getattr(taken, name)
            for name in ("added", "changed", "held", "returned", "gone")
            if getattr(taken, name)
        }
        for told in self.told:
            self._say(_ACTIONS[told.meeting], _told_detail(told))
        if counts or self.is_first:
            self._say(audit.Action.CATALOGUE_TAKE, {**counts, "problems": taken.problems, "first": self.is_first})
        if taken.emptied and self.failure_before != EMPTIED:
            self._say(audit.Action.CATALOGUE_FAIL, {"step": EMPTIED, "kinds": [str(kind) for kind in taken.emptied]})

    def _say(self, action: audit.Action, detail: dict[str, Any]) -> None:
        audit.record(action, actor=self.actor, subject=self.server, tenant=self.server.tenant, detail=detail)


_ACTIONS: Final = {
    Meeting.CHANGED: audit.Action.CATALOGUE_ITEM_CHANGE,
    Meeting.HELD: audit.Action.CATALOGUE_ITEM_HOLD,
}


def _told_detail(told: _Told) -> dict[str, Any]:
    before, after = told.before, told.item.offered
    detail = {"item": f"{told.item.kind}:{told.item.key}", "after": digest(after)}
    if not before:
        return {**detail, "new": True}
    fields = [one.field[:100] for one in differences(json.loads(before), json.loads(after))]
    return {**detail, "before": digest(before), "fields": fields[:20]}


def rows_end(catalogue: Catalogue) -> defaultdict[str, int]:
    """By kind, the position after the last item."""
    ends: defaultdict[str, int] = defaultdict(int)
    rows = CatalogueItem.objects.filter(catalogue=catalogue).order_by().values_list("kind")
    for kind, last in rows.annotate(last=Max("position")):
        ends[kind] = last + 1
    return ends


def _write(new: list[CatalogueItem], changed: list[CatalogueItem]) -> None:
    """Write these rows with few statements, and empty the lists.

    Rows that are there already keep their ids: the insert that finds each of them only brings the values.
    """
    CatalogueItem.objects.bulk_create(new)
    CatalogueItem.objects.bulk_create(
        changed, update_conflicts=True, unique_fields=("catalogue", "kind", "key"), update_fields=_WRITTEN
    )
    new.clear()
    changed.clear()


def _is_as_approved(row: _Row, offer: Checked) -> bool:
    """Whether nothing is to be done about an item, as of most in most readings."""
    same = offer.text == row.offered == row.approved
    return same and row.state == State.APPROVED and not row.problem and not offer.problem


def _delete(rows: list[_Row]) -> None:
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        CatalogueItem.objects.filter(pk__in=[row.pk for row in rows[start : start + _ROWS_AT_A_TIME]]).delete()


def _is_decided(row: _Row) -> bool:
    """Whether a person said something about the item that has to hold when it comes again."""
    return (
        bool(row.refused)
        or not row.enabled
        or row.state == State.REFUSED
        or row.read_only is not None
        or row.destructive is not None
    )


def _storable(text: str) -> str:
    # What both databases can store: PostgreSQL refuses NUL, and no encoding has lone surrogates.
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _facts(said: Any) -> dict[str, Any]:
    """An object of the server's as it can be stored; one that is too large keeps only its names."""
    plain: dict[str, Any] = _plain(said, _MOST_LEVELS_OF_FACTS) if isinstance(said, dict) else {}
    if len(compact(plain)) <= _MOST_BYTES_OF_FACTS:
        return plain
    return {name: {} for name in list(plain)[:20] if len(name) <= 40}


def _plain(value: Any, levels: int) -> Any:
    if isinstance(value, str):
        return _storable(value)
    if value is None or isinstance(value, bool | int):
        return value
    if levels and isinstance(value, dict):
        return {_storable(key): _plain(inner, levels - 1) for key, inner in value.items()}
    if levels and isinstance(value, list):
        return [_plain(inner, levels - 1) for inner in value]
    return str(value) if isinstance(value, float) else None
