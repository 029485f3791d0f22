"""The audit trail: what is written comes back with the same hash, from either database, in one unbroken chain."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection, transaction
from django.db.models import ProtectedError
from django.utils.translation import gettext_lazy

from servers import audit
from servers.models import AuditEvent
from servers.models.records import AppendOnlyError
from servers.request_id import set_request_id
from tests.conftest import Cast

pytestmark = pytest.mark.requirement("F-801")

DETAILS: dict[str, Any] = {
    "empty": {},
    "order": {"b": 1, "a": {"d": 1, "c": 2}, "aa": 3, "é": 4, "": 5},
    "not ascii": {"name": "Ünïcödé 🚪 \u2028 \x7f", "ключ": "値"},
    "numbers": {"large": 10**30, "negative": -5, "zero": 0, "true": True, "none": None},
    "floats": {"a": 1e20, "b": -0.0, "c": 1.0, "d": 0.1, "e": 1e-7, "nan": float("nan"), "inf": float("inf")},
    "keys": {1: "one", 10: "ten", 2: "two", None: "none", False: "false"},
    "types": {
        "tuple": (1, 2),
        "uuid": uuid4(),
        "time": datetime(2026, 1, 1, tzinfo=UTC),
        "decimal": Decimal("1.10"),
        "lazy": gettext_lazy("Server"),
        "bytes": b"abc",
    },
    "control": {"nul": "a\x00b", "surrogate": "\ud800", "escape": '\\u0000 "quoted" \\', "newline": "a\r\nb"},
    "deep": {"a": [{"b": [{"c": ["d", {}, []]}]}]},
}


@pytest.mark.django_db
@pytest.mark.parametrize("detail", DETAILS)
def test_an_event_has_the_same_hash_when_it_is_read_back(detail: str) -> None:
    written = audit.record(audit.Action.SERVER_CHANGE, actor="äctor", detail=DETAILS[detail])
    read = AuditEvent.objects.get(pk=written.pk)
    assert read.detail == written.detail
    assert audit.event_hash(read) == read.hash == written.hash
    assert list(audit.verify()) == []


@pytest.mark.django_db
def test_a_simple_detail_is_stored_as_it_was_given() -> None:
    detail = {"fields": ["url", "name"], "count": 3, "ok": True, "none": None}
    event = audit.record(audit.Action.SERVER_CHANGE, actor="a", detail=detail)
    assert AuditEvent.objects.get(pk=event.pk).detail == detail


@pytest.mark.django_db
def test_texts_that_do_not_fit_are_cut_and_still_hash_equally() -> None:
    set_request_id("r" * 100)
    try:
        event = audit.record(audit.Action.SIGN_IN_FAILED, actor="x" * 500 + "\x00", subject="ü" * 500)
    finally:
        set_request_id("")
    read = AuditEvent.objects.get(pk=event.pk)
    assert (len(read.actor), len(read.subject), len(read.request_id)) == (200, 300, 64)
    assert list(audit.verify()) == []


@pytest.mark.django_db
def test_a_name_with_control_characters_does_not_stop_the_event() -> None:
    event = audit.record(audit.Action.SIGN_IN_FAILED, actor="anonymous", subject="admin\x00\ud800\n")
    read = AuditEvent.objects.get(pk=event.pk)
    assert read.subject.startswith("admin")
    assert audit.event_hash(read) == read.hash


def test_an_event_names_its_subject_tenant_and_request(cast: Cast) -> None:
    set_request_id("request-1")
    try:
        audit.record(audit.Action.SERVER_DELETE, actor="admin", subject=cast.server, tenant=cast.tenant)
    finally:
        set_request_id("")
    read = AuditEvent.objects.get()
    assert (read.subject, read.subject_id, read.tenant) == ("Calculator", str(cast.server.pk), cast.tenant)
    assert read.request_id == "request-1"
    assert list(audit.verify()) == []


@pytest.mark.django_db
def test_each_event_follows_the_one_before() -> None:
    events = [audit.record(audit.Action.SERVER_TEST, actor=str(number)) for number in range(5)]
    assert [event.sequence for event in events] == [1, 2, 3, 4, 5]
    assert [event.previous_hash for event in events] == [audit.FIRST_HASH, *(event.hash for event in events[:-1])]


@pytest.mark.django_db(transaction=True)
def test_an_event_is_rolled_back_with_what_it_tells_of() -> None:
    with transaction.atomic():
        audit.record(audit.Action.SERVER_TEST, actor="undone")
        transaction.set_rollback(True)
    audit.record(audit.Action.SERVER_TEST, actor="done")
    assert [event.actor for event in AuditEvent.objects.all()] == ["done"]
    assert list(audit.verify()) == []


@pytest.mark.django_db(transaction=True)
def test_writers_at_the_same_time_make_one_chain() -> None:
    errors: list[Exception] = []
    together = threading.Barrier(4)

    def write(name: str) -> None:
        try:
            together.wait(30)
            for number in range(5):
                audit.record(audit.Action.SERVER_TEST, actor=name, detail={"number": number})
        except Exception as error:
            errors.append(error)
        finally:
            connection.close()

    writers = [threading.Thread(target=write, args=(f"writer {number}",)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert errors == []
    assert sorted(AuditEvent.objects.values_list("sequence", flat=True)) == list(range(1, 21))
    assert list(audit.verify()) == []


@pytest.mark.django_db
def test_an_event_can_be_neither_changed_nor_deleted() -> None:
    event = audit.record(audit.Action.SERVER_TEST, actor="a")
    event.actor = "b"
    with pytest.raises(AppendOnlyError):
        event.save()
    with pytest.raises(AppendOnlyError):
        event.delete()
    with pytest.raises(AppendOnlyError):
        AuditEvent.objects.get().save(update_fields=["actor"])
    assert AuditEvent.objects.get().actor == "a"


@pytest.mark.django_db
@pytest.mark.parametrize(
    "write",
    [
        lambda events: events.update(actor="b"),
        lambda events: events.filter(sequence=1).update(actor="b"),
        lambda events: events.all().delete(),
        lambda events: events.filter(sequence=1).delete(),
        lambda events: events.order_by("at").bulk_update([events.get()], ["actor"]),
        lambda events: events.bulk_create([AuditEvent(sequence=2, at=datetime(2026, 1, 1, tzinfo=UTC))]),
        lambda events: events.update_or_create(sequence=1, defaults={"actor": "b"}),
    ],
    ids=["update all", "update some", "delete all", "delete some", "bulk update", "bulk create", "update or create"],
)
def test_no_query_changes_deletes_or_adds_several_events(write: Callable[[Any], object]) -> None:
    audit.record(audit.Action.SERVER_TEST, actor="a")
    with pytest.raises(AppendOnlyError), transaction.atomic():
        write(AuditEvent.objects)
    assert AuditEvent.objects.get().actor == "a"
    assert list(audit.verify()) == []


def test_a_tenant_with_events_is_kept_for_them(cast: Cast) -> None:
    audit.record(audit.Action.TENANT_CREATE, actor="a", subject=cast.other_tenant, tenant=cast.other_tenant)
    with pytest.raises(ProtectedError):
        cast.other_tenant.delete()
    with pytest.raises(AppendOnlyError):
        cast.other_tenant.audit_events.all().delete()
    assert AuditEvent.objects.get().tenant == cast.other_tenant


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("actor", "somebody else"),
        ("action", "server:create"),
        ("subject", "x"),
        ("subject_id", "x"),
        ("request_id", "x"),
        ("detail", {"count": 2}),
        ("at", datetime(2020, 1, 1, tzinfo=UTC)),
        ("id", uuid4()),
    ],
)
def test_every_column_of_an_event_is_under_the_hash(field: str, value: Any) -> None:
    audit.record(audit.Action.SERVER_TEST, actor="a", detail={"count": 1})
    audit.record(audit.Action.SERVER_TEST, actor="b")
    AuditEvent._base_manager.filter(sequence=1).update(**{field: value})
    assert [(broken.sequence, broken.reason) for broken in audit.verify()] == [(1, "content was changed")]
