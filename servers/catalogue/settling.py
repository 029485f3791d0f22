"""What follows from the rows of a catalogue, brought up to date after every change of them.

Whoever writes items or a catalogue's policy, a reading or a person, calls `settle` in the same transaction: so that
the texts that callers see, the hints, the version and whether the server is restricted never disagree with the rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final

from django.db import transaction
from django.db.models import Q, QuerySet

from servers import changes
from servers.catalogue.digests import compact, digest
from servers.catalogue.facts import CHANGE
from servers.models.catalogue import Catalogue, CatalogueItem
from servers.models.servers import Server

EMPTIED: Final = "empty"
"""`Catalogue.failure` when the last reading found nothing of something that it had (`emptied_items`)."""
_WRITTEN_AT_A_TIME: Final = 200
_READ_AT_A_TIME: Final = 500
_SEPARATOR: Final = b"\0"
State = CatalogueItem.State


def settle(catalogue: Catalogue) -> None:
    """Bring up to date what follows from the items: served texts, hints, version, `Server.restricted`.

    Tells every process if callers would notice. Call it last in the transaction that changed the rows, before the
    audit events; `catalogue` gets the new values.
    """
    with transaction.atomic():
        stored = Catalogue.objects.select_for_update().get(pk=catalogue.pk)
        _settle_items(stored)
        _settle_version(stored)
        _settle_server(stored)
    catalogue.fingerprint, catalogue.version = stored.fingerprint, stored.version


def emptied_items(catalogue: Catalogue) -> QuerySet[CatalogueItem]:
    """The items of which the last reading found that their whole kind is gone, as `Catalogue.emptied` says."""
    return CatalogueItem.objects.filter(catalogue=catalogue, kind__in=catalogue.emptied).exclude(state=State.GONE)


def served_condition() -> Q:
    """Which items callers see: those that `facts` gives a text."""
    blocked = Q(state=State.APPROVED) & ~Q(problem="")
    return Q(enabled=True) & ~Q(approved="") & ~Q(state=State.GONE) & ~blocked


def hints_of(definition: Any) -> tuple[bool, bool]:
    """What a tool's definition says of it: read only, destructive. What it leaves out is as MCP has it."""
    annotations = definition.get("annotations") if isinstance(definition, dict) else None
    if not isinstance(annotations, dict):
        return False, True
    return annotations.get("readOnlyHint") is True, annotations.get("destructiveHint") is not False


def _settle_items(catalogue: Catalogue) -> None:
    changed = []
    wanted = Q(kind=CatalogueItem.Kind.TOOL) | Q(state=State.REFUSED) | ~Q(refused="")
    items = CatalogueItem.objects.filter(wanted, catalogue=catalogue)
    for item in items.iterator(chunk_size=_READ_AT_A_TIME):
        before = (item.served, item.says_read_only, item.says_destructive, item.refused)
        if item.kind == CatalogueItem.Kind.TOOL:
            _settle_tool(item)
        if item.state == State.REFUSED:
            item.refused = digest(item.offered)
        elif item.state == State.APPROVED and item.refused and item.refused == digest(item.approved):
            item.refused = ""
        if before != (item.served, item.says_read_only, item.says_destructive, item.refused):
            changed.append(item)
    CatalogueItem.objects.bulk_update(
        changed, ["served", "says_read_only", "says_destructive", "refused"], batch_size=_WRITTEN_AT_A_TIME
    )


def _settle_tool(item: CatalogueItem) -> None:
    corrected = item.approved and (item.read_only is not None or item.destructive is not None)
    definition = json.loads(item.approved) if corrected or '"annotations"' in item.approved else {}
    item.says_read_only, item.says_destructive = hints_of(definition)
    item.served = _with_corrections(definition, item) if corrected else ""


def _with_corrections(definition: dict[str, Any], item: CatalogueItem) -> str:
    annotations = definition.get("annotations")
    said = dict(annotations) if isinstance(annotations, dict) else {}
    if item.read_only is not None:
        said["readOnlyHint"] = item.read_only
    if item.destructive is not None:
        said["destructiveHint"] = item.destructive
    served = compact({**definition, "annotations": said})
    return "" if served == item.approved else served


def _settle_version(catalogue: Catalogue) -> None:
    fingerprint = _fingerprint(catalogue)
    if fingerprint == catalogue.fingerprint:
        return
    catalogue.fingerprint = fingerprint
    catalogue.version += 1
    Catalogue.objects.filter(pk=catalogue.pk).update(fingerprint=fingerprint, version=catalogue.version)
    changes.record(CHANGE, catalogue.server_id)


def _fingerprint(catalogue: Catalogue) -> str:
    """Stands for everything that callers could notice, in its order."""
    rows = CatalogueItem.objects.filter(served_condition(), catalogue=catalogue)
    columns = rows.order_by("kind", "position", "key").values_list(
        "kind", "key", "approved", "served", "says_read_only", "says_destructive", "read_only", "destructive"
    )
    total = hashlib.sha256()
    offered = [catalogue.taken_at is not None, catalogue.capabilities, catalogue.instructions]
    total.update(json.dumps(offered, sort_keys=True).encode())
    for kind, key, approved, served, *hints in columns.iterator(chunk_size=_READ_AT_A_TIME):
        _add(total, [kind, key, served or approved, str(hints)])
    return total.hexdigest()


def _add(total: Any, texts: Iterable[str]) -> None:
    for text in texts:
        total.update(_SEPARATOR)
        total.update(text.encode())


def _settle_server(catalogue: Catalogue) -> None:
    """Whether lists of this server have to come from the catalogue, on whatever path."""
    # Also of what is gone: a decision about it holds from the moment when it comes back.
    decided = Q(enabled=False) | ~Q(refused="") | Q(read_only__isnull=False) | Q(destructive__isnull=False)
    waits = Q(state=State.HELD, problem="")
    restricted = (
        catalogue.policy != Catalogue.Policy.ACCEPT_ALL
        or CatalogueItem.objects.filter(decided | waits, catalogue=catalogue).exists()
    )
    if Server.objects.filter(pk=catalogue.server_id).exclude(restricted=restricted).update(restricted=restricted):
        changes.record("server", catalogue.server_id)
