"""What managers decide about catalogues: one function per decision, each in one transaction, each recorded.

The admin pages call these, and whatever else lets people decide. All are idempotent: what is decided already is
left alone, and where nothing was left to do no event is written. Each raises PermissionDenied when the person does
not manage every server that the decision is about.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from servers import audit
from servers.catalogue.digests import digest
from servers.catalogue.settling import EMPTIED, emptied_items, settle
from servers.errors import GatewayError
from servers.models.catalogue import Catalogue, CatalogueItem
from servers.models.servers import Server
from servers.scope import scope_of

State = CatalogueItem.State
Seen = Mapping[UUID, str]
"""Items by id, each with the digest of the definition that the person looked at (`digests.digest`)."""

_MOST_NAMES_IN_AN_EVENT: Final = 50
_IDS_OF_ONE_QUERY: Final = 500


class Undecided(GatewayError):
    """A decision that was not taken; nothing has changed."""

    code = "catalogue_undecided"


class OfferChanged(Undecided):
    """The server offers something else than what the person looked at."""

    code = "catalogue_offer_changed"


class HeldItemsAsk(Undecided):
    """A policy that holds nothing, while something is held: somebody has to say what becomes of it."""

    code = "catalogue_held_items"

    def __init__(self, count: int) -> None:
        super().__init__(
            f"{count} held change{'' if count == 1 else 's'}: say whether to approve {'it' if count == 1 else 'them'} "
            f"or keep {'it' if count == 1 else 'them'} held. The policy is as it was."
        )
        self.count = count


class Held(StrEnum):
    """What becomes of what is held when from now on everything is accepted."""

    APPROVE = "approve"
    KEEP = "keep"


@dataclass(frozen=True, slots=True)
class Decided:
    """How many items a decision changed, and how many were so already."""

    done: int
    left: int = 0


def held_digest(server: Server) -> str:
    """Stands for everything of a server that is held and could be approved."""
    total = hashlib.sha256()
    for pk, offered in _approvable(server).order_by("pk").values_list("pk", "offered").iterator(chunk_size=500):
        total.update(f"{pk} {digest(offered)}\n".encode())
    return total.hexdigest()


def approve(seen: Seen, *, person: Any) -> Decided:
    """Serve the definitions that were looked at.

    Raises OfferChanged when a server offers another one by now, Undecided for an item that cannot be served.
    """
    with _deciding(seen, person=person) as work:
        work.check_seen(seen)
        for item in work.items:
            if item.problem and item.state != State.APPROVED:
                raise Undecided(f"“{item.key}” cannot be approved: {item.problem} Nothing was approved.")
        waiting = [item for item in work.items if item.state in (State.HELD, State.REFUSED)]
        work.change(waiting, state=State.APPROVED, approved=F("offered"))
        work.conclude(audit.Action.CATALOGUE_APPROVE)
        return work.decided


def refuse(seen: Seen, *, person: Any) -> Decided:
    """Leave what is held as it was approved, or out if it never was. Raises OfferChanged as `approve` does."""
    with _deciding(seen, person=person) as work:
        work.check_seen(seen)
        work.change([item for item in work.items if item.state == State.HELD], state=State.REFUSED)
        work.conclude(audit.Action.CATALOGUE_REFUSE)
        return work.decided


def enable(item_ids: Iterable[UUID], *, person: Any) -> Decided:
    """Let callers have these items again, as far as they are approved."""
    return _set_enabled(item_ids, enabled=True, person=person)


def disable(item_ids: Iterable[UUID], *, person: Any) -> Decided:
    """Take these items from everybody; what the server says about them goes on being read."""
    return _set_enabled(item_ids, enabled=False, person=person)


def _set_enabled(item_ids: Iterable[UUID], *, enabled: bool, person: Any) -> Decided:
    with _deciding(item_ids, person=person) as work:
        work.change([item for item in work.items if item.enabled is not enabled], enabled=enabled)
        work.conclude(audit.Action.CATALOGUE_ENABLE if enabled else audit.Action.CATALOGUE_DISABLE)
        return work.decided


def correct_hints(item_id: UUID, *, read_only: bool | None, destructive: bool | None, person: Any) -> Decided:
    """Say what a tool really does, for access rules and for callers; None: as the server says."""
    with _deciding([item_id], person=person) as work:
        (item,) = work.items
        if item.kind != CatalogueItem.Kind.TOOL:
            raise Undecided("Only tools have hints.")
        differ = (item.read_only, item.destructive) != (read_only, destructive)
        work.change([item] if differ else [], read_only=read_only, destructive=destructive)
        work.conclude(audit.Action.CATALOGUE_CORRECT, {"read_only": read_only, "destructive": destructive})
        return work.decided


def set_policy(
    server: Server, *, policy: Catalogue.Policy, person: Any, held: Held | None = None, seen: str = ""
) -> Decided:
    """Choose what becomes of changes from now on; returns how many held ones were approved with it.

    Raises HeldItemsAsk when everything is to be accepted, something is held and `held` does not say what becomes of
    it; OfferChanged when that is to be approved and is not what was looked at (`seen`, of `held_digest`).
    """
    with transaction.atomic():
        catalogue = _locked(server, person)
        before = Catalogue.Policy(catalogue.policy)
        waiting = _approvable(server).count() if policy is Catalogue.Policy.ACCEPT_ALL else 0
        if waiting and before is not policy and held is None:
            raise HeldItemsAsk(waiting)
        decided = Decided(0)
        if waiting and held is Held.APPROVE:
            decided = approve_held(server, seen=seen, person=person)
            catalogue.refresh_from_db()
        if before is not policy:
            catalogue.policy = policy
            catalogue.save(update_fields=["policy"])
            settle(catalogue)
            _record(audit.Action.CATALOGUE_POLICY, server, person, {"before": before.value, "after": policy.value})
        return decided


def approve_held(server: Server, *, seen: str, person: Any) -> Decided:
    """Approve whatever of this server is held and can be served. Raises OfferChanged when `seen` is not that."""
    with transaction.atomic():
        catalogue = _locked(server, person)
        if held_digest(server) != seen:
            raise OfferChanged(
                "Meanwhile something else is held than what was shown. Nothing was approved; look at it again."
            )
        names = list(_approvable(server).values_list("kind", "key")[: _MOST_NAMES_IN_AN_EVENT + 1])
        count = _approvable(server).update(approved=F("offered"), state=State.APPROVED, **_signed(person))
        if count:
            settle(catalogue)
            _record(audit.Action.CATALOGUE_APPROVE, server, person, _named(names, count))
        return Decided(count)


def accept_empty(server: Server, *, person: Any) -> Decided:
    """Believe the server that it offers nothing of some kinds any more, if that is what the last reading found."""
    with transaction.atomic():
        catalogue = _locked(server, person)
        if catalogue.failure != EMPTIED:
            return Decided(0)
        count = emptied_items(catalogue).update(state=State.GONE, changed_at=timezone.now(), **_signed(person))
        kinds = list(catalogue.emptied)
        catalogue.taken_at, catalogue.failure, catalogue.failure_sentence = catalogue.tried_at, "", ""
        catalogue.emptied = []
        catalogue.save(update_fields=["taken_at", "failure", "failure_sentence", "emptied"])
        settle(catalogue)
        _record(audit.Action.CATALOGUE_ACCEPT_EMPTY, server, person, {"kinds": kinds, "count": count})
        return Decided(count)


def approve_instructions(server: Server, *, seen: str, person: Any) -> Decided:
    """Give callers the instructions that the server has by now. Raises OfferChanged when they are not `seen`."""
    with transaction.atomic():
        catalogue = _locked(server, person)
        if not catalogue.offered_instructions:
            return Decided(0)
        if text_digest(catalogue.offered_instructions) != seen:
            raise OfferChanged("The server meanwhile has other instructions. Nothing was approved; look at them again.")
        catalogue.instructions, catalogue.offered_instructions = catalogue.offered_instructions, ""
        catalogue.save(update_fields=["instructions", "offered_instructions"])
        settle(catalogue)
        _record(audit.Action.CATALOGUE_APPROVE, server, person, {"instructions": True})
        return Decided(1)


def text_digest(text: str) -> str:
    """Stands for instructions, so that a decision can say which ones were looked at."""
    return hashlib.sha256(text.encode()).hexdigest()


class _Work:
    """The items that one decision is about, with their catalogues locked, and what it did to them."""

    def __init__(self, items: list[CatalogueItem], catalogues: dict[UUID, Catalogue], person: Any) -> None:
        self.items = items
        self._catalogues = catalogues
        self._person = person
        self._changed: list[CatalogueItem] = []

    @property
    def decided(self) -> Decided:
        return Decided(len(self._changed), len(self.items) - len(self._changed))

    def check_seen(self, seen: Seen) -> None:
        """Raise OfferChanged when an item is not what was looked at any more."""
        other = [item.key for item in self.items if digest(item.offered) != seen[item.pk]]
        if other:
            names = ", ".join(f"“{key}”" for key in other[:5]) + (" and others" if len(other) > 5 else "")
            raise OfferChanged(
                f"The server meanwhile offers something else than what was shown for {names}. Nothing was decided; "
                "look at it again."
            )

    def change(self, items: list[CatalogueItem], **values: Any) -> None:
        self._changed = items
        ids = [item.pk for item in items]
        for start in range(0, len(ids), _IDS_OF_ONE_QUERY):
            rows = CatalogueItem.objects.filter(pk__in=ids[start : start + _IDS_OF_ONE_QUERY])
            rows.update(**values, **_signed(self._person))

    def conclude(self, action: audit.Action, detail: dict[str, Any] | None = None) -> None:
        """Bring what is derived up to date and write one event for each server that changed."""
        of_catalogue: dict[UUID, list[tuple[str, str]]] = defaultdict(list)
        for item in self._changed:
            of_catalogue[item.catalogue_id].append((item.kind, item.key))
        for catalogue_id in of_catalogue:
            settle(self._catalogues[catalogue_id])
        for catalogue_id, names in of_catalogue.items():
            server = self._catalogues[catalogue_id].server
            _record(action, server, self._person, {**_named(names, len(names)), **(detail or {})})


@contextmanager
def _deciding(item_ids: Iterable[UUID], *, person: Any) -> Iterator[_Work]:
    wanted = list(dict.fromkeys(item_ids))
    with transaction.atomic():
        items: list[CatalogueItem] = []
        mine = CatalogueItem.objects.filter(pk__in=wanted).order_by().values("catalogue_id").distinct()
        rows = Catalogue.objects.select_for_update(of=("self",)).select_related("server__tenant").filter(pk__in=mine)
        catalogues = {row.pk: row for row in rows.order_by("pk")}
        _check_manager(person, *(catalogue.server for catalogue in catalogues.values()))
        for start in range(0, len(wanted), _IDS_OF_ONE_QUERY):
            items += CatalogueItem.objects.filter(pk__in=wanted[start : start + _IDS_OF_ONE_QUERY])
        if len(items) < len(wanted):
            raise OfferChanged(
                "Some of these are not in the catalogue any more. Nothing was decided; look at it again."
            )
        yield _Work(items, catalogues, person)


def _locked(server: Server, person: Any) -> Catalogue:
    _check_manager(person, server)
    Catalogue.objects.get_or_create(server=server)
    return Catalogue.objects.select_for_update(of=("self",)).select_related("server__tenant").get(server=server)


def _check_manager(person: Any, *servers: Server) -> None:
    scope = scope_of(person)
    if not all(scope.manages_server(server) for server in servers):
        raise PermissionDenied


def _approvable(server: Server) -> QuerySet[CatalogueItem]:
    return CatalogueItem.objects.filter(catalogue__server=server, state=State.HELD, problem="")


def _signed(person: Any) -> dict[str, Any]:
    return {"decided_at": timezone.now(), "decided_by": person}


def _named(names: Iterable[tuple[str, str]], count: int) -> dict[str, Any]:
    shown = [f"{kind}:{key}" for kind, key in names][:_MOST_NAMES_IN_AN_EVENT]
    return {"count": count, "items": shown}


def _record(action: audit.Action, server: Server, person: Any, detail: dict[str, Any]) -> None:
    audit.record(action, actor=str(person.get_username()), subject=server, tenant=server.tenant, detail=detail)
