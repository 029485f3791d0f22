"""Records in the browser: who reads them, filters, what happened in the same request, files, and the chain's check."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from servers import audit, records_export
from servers.admin import chain_page
from servers.audit import Action
from servers.models import AccessRule, AuditEvent, Call, Membership, Role
from servers.records_export import CALLS, EVENTS, Format
from servers.request_id import set_request_id
from tests.conftest import Cast
from tests.servers.test_admin_access import page, signed_in

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-801")]
NOW = datetime(2026, 3, 14, 15, tzinfo=UTC)


@pytest.fixture
def auditor(cast: Cast) -> Any:
    Membership.objects.filter(user=cast.outsider).update(role=Membership.Role.AUDITOR)
    return cast.outsider


def call(**fields: Any) -> Call:
    values: dict[str, Any] = {
        "at": NOW, "request_id": "r", "tenant": "default", "server": "calculator", "principal": "member",
        "http_method": "POST", "method": "tools/call", "item": "add", "decision": "allowed", "status": 200,
        "outcome": "ok", "bytes_in": 1, "bytes_out": 1, "milliseconds": 1,
    }  # fmt: skip
    return Call.objects.create(**values | fields)


def event(action: Action = Action.SERVER_CHANGE, **fields: Any) -> AuditEvent:
    return audit.record(action, **{"actor": "admin", **fields})


def listed(reader: Any, name: str, **query: Any) -> list[Any]:
    answer = signed_in(reader).get(page(f"servers_{name}_changelist"), query)
    assert answer.status_code == 200
    return list(answer.context["cl"].result_list)


def export(client: Client, name: str, form: str, **query: str) -> Any:
    address = reverse(f"admin:servers_{name}_export", query=query)
    return client.post(address, {"format": form})


def text_of(answer: Any) -> str:
    assert answer.status_code == 200, answer
    return b"".join(answer.streaming_content).decode()


# --- who reads them


def test_an_auditor_reads_the_records_of_the_tenant_and_no_others(cast: Cast, auditor: Any) -> None:
    mine, foreign = call(), call(tenant="other")
    seen, unseen = event(tenant=cast.tenant), event(tenant=cast.other_tenant)
    assert listed(auditor, "call") == [mine]
    assert listed(auditor, "auditevent") == [seen]
    client = signed_in(auditor)
    assert client.get(page("servers_call_change", mine.pk)).status_code == 200
    for name, row in (("call", foreign), ("auditevent", unseen)):
        assert client.get(page(f"servers_{name}_change", row.pk)).status_code == 302
    assert str(unseen.pk) not in text_of(export(client, "auditevent", "jsonl"))


def test_the_index_of_an_auditor_has_records_and_nothing_else(cast: Cast, auditor: Any) -> None:
    call(server_id=cast.server.pk)
    client = signed_in(auditor)
    answer = client.get(page("index"))
    assert [section["name"] for section in answer.context["app_list"]] == ["Records"]
    assert "overview" not in answer.context
    assert "Calculator" not in answer.content.decode()
    assert page("index") in client.get(reverse("portal")).content.decode()


def test_every_other_page_of_the_administration_is_closed_to_an_auditor(cast: Cast, auditor: Any) -> None:
    client, looked_at = signed_in(auditor), 0
    for model, model_admin in admin.site._registry.items():
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        if name in ("servers_call", "servers_auditevent"):
            continue
        for address in (page(f"{name}_changelist"), page(f"{name}_add"), *_own_pages(model_admin)):
            answer = client.get(address, follow=True)
            assert answer.status_code in (403, 404), address
            looked_at += 1
    for name in ("discover-draft", "plan-draft", "test-connection-draft"):
        assert client.post(reverse(name), follow=True).status_code in (403, 404, 405)
    for rule in ({"name": "servers_call_add"}, {"name": "servers_auditevent_add"}):
        assert client.get(page(rule["name"])).status_code == 403
    assert looked_at > 20


def _own_pages(model_admin: Any) -> list[str]:
    """Addresses of a model's further pages that need no id."""
    found = []
    for pattern in model_admin.get_urls():
        try:
            found.append(page(pattern.name or ""))
        except NoReverseMatch:
            continue
    return found


def test_auditors_who_also_manage_have_both(cast: Cast, auditor: Any) -> None:
    AccessRule.objects.create(server=cast.server, user=auditor, role=Role.MANAGER)
    client = signed_in(auditor)
    assert client.get(page("servers_server_changelist")).status_code == 200
    assert client.get(page("servers_auditevent_changelist")).status_code == 200


@pytest.mark.parametrize("who", ["manager", "member", "stranger"])
@pytest.mark.parametrize("name", ["servers_auditevent_verify", "servers_auditevent_export", "servers_call_export"])
def test_nobody_else_exports_or_verifies(cast: Cast, who: str, name: str) -> None:
    answer = signed_in(getattr(cast, who)).post(page(name), {"format": "csv"}, follow=True)
    assert answer.status_code == 403
    assert not AuditEvent.objects.filter(action__startswith="records:").exists()


# --- filters


def test_events_are_found_by_person_server_event_outcome_and_time(cast: Cast) -> None:
    changed = event(actor="Admin", subject=cast.server)
    lost = event(Action.CONNECTION_LOST, actor="member", subject="member at Calculator")
    signed = event(Action.SIGN_IN, actor="member")

    def found(**query: str) -> list[AuditEvent]:
        return listed(cast.admin, "auditevent", **query)

    assert found(person="admin") == [changed]
    assert found(server=str(cast.server.pk)) == [lost, changed]
    assert found(event="server:change") == [changed]
    assert found(event="connection:") == [lost]
    assert found(outcome="trouble") == [lost]
    assert found(outcome="done", person="member") == [signed]
    later = (timezone.now() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")
    assert found(until=later) == [signed, lost, changed]
    assert found(since=later) == []


def test_calls_are_found_by_person_server_outcome_and_time(cast: Cast) -> None:
    good = call(server_id=cast.server.pk)
    bad = call(outcome="upstream_down", principal="manager", at=NOW + timedelta(hours=1))

    def found(**query: str) -> list[Call]:
        return listed(cast.admin, "call", **query)

    assert found(person="MEMBER") == [good]
    assert found(server=str(cast.server.pk)) == [good]
    assert found(outcome="errors") == [bad]
    assert found(outcome="ok") == [good]
    assert found(since="2026-03-14T15:30") == [bad]
    assert found(until="2026-03-14T15:30", method="tools/call", decision="allowed") == [good]


@pytest.mark.parametrize("query", [{"since": "yesterday"}, {"until": "2026-02-30T00:00"}, {"server": "gone"}])
def test_a_filter_that_cannot_be_understood_finds_nothing_and_says_why(cast: Cast, query: dict[str, str]) -> None:
    call()
    answer = signed_in(cast.admin).get(page("servers_call_changelist"), query)
    assert list(answer.context["cl"].result_list) == []
    assert "gh-problem" in answer.content.decode()


def test_an_auditor_is_offered_the_servers_of_the_tenant_only(cast: Cast, auditor: Any) -> None:
    cast.server.pk, cast.server.tenant, cast.server.slug, cast.server.name = None, cast.other_tenant, "far", "Far away"
    cast.server._state.adding = True
    cast.server.save()
    text = signed_in(auditor).get(page("servers_call_changelist")).content.decode()
    assert "Calculator" in text
    assert "Far away" not in text


def test_lists_ask_the_database_seldom_and_are_small(cast: Cast) -> None:
    for number in range(60):
        call(principal=f"person-{number}")
        event(subject=f"s{number}", tenant=cast.tenant)
    client = signed_in(cast.admin)
    for name in ("call", "auditevent"):
        with CaptureQueriesContext(connection) as asked:
            answer = client.get(page(f"servers_{name}_changelist"))
        assert len(asked) <= 20
        assert len(answer.content) < 100 * 1024


# --- the same request


def test_a_record_shows_what_else_happened_in_its_request(cast: Cast, auditor: Any) -> None:
    set_request_id("request-7")
    try:
        one = event(Action.CONNECTION_LOST, subject="lost one", tenant=cast.tenant)
        event(Action.CONNECTION_LOST, subject="of another tenant", tenant=cast.other_tenant)
    finally:
        set_request_id("")
    event(subject="another request", tenant=cast.tenant)
    own = call(at=timezone.now(), request_id="request-7", item="dig")
    call(at=timezone.now(), request_id="request-8", item="another")
    client = signed_in(auditor)
    of_call = client.get(page("servers_call_change", own.pk))
    assert list(of_call.context["same_events"]) == [one]
    assert list(of_call.context["same_calls"]) == []
    of_event = client.get(page("servers_auditevent_change", one.pk))
    assert list(of_event.context["same_calls"]) == [own]
    assert "of another tenant" not in of_event.content.decode()


# --- files


def test_a_file_has_the_rows_of_the_list_and_its_export_is_recorded(cast: Cast, auditor: Any) -> None:
    call(item="dig", principal="member")
    call(item="add", principal="manager")
    client = signed_in(auditor)
    answer = export(client, "call", "csv", person="member")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"].startswith('attachment; filename="gatehouse-calls-')
    (row,) = csv.DictReader(io.StringIO(text_of(answer)))
    assert (row["item"], row["at"], row["upstream_status"]) == ("dig", NOW.isoformat(), "")
    (line,) = text_of(export(client, "call", "jsonl", person="manager")).splitlines()
    assert json.loads(line)["item"] == "add"
    recorded = AuditEvent.objects.filter(action="records:export").order_by("sequence")
    assert [(found.actor, found.tenant) for found in recorded] == [("outsider", cast.tenant)] * 2
    assert recorded[0].detail == {
        "records": "calls", "format": "csv", "rows": 1, "filters": {"person": "member"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        (" =1", "' =1"),
        ("\t=1", "'\t'=1"),
        ("\r=1", "'\r'=1"),
        ("\uff1d1", "'\uff1d1"),
        # Where the separator is another one, a cell begins here.
        ("tool;=1", "tool;'=1"),
        ('tool; "@SUM(A1)', """tool;' "@SUM(A1)"""),
        ("tool\n-1", "tool\n'-1"),
        ("a-b=c; d", "a-b=c; d"),
    ],
)
def test_no_cell_is_a_formula(cast: Cast, name: str, cell: str) -> None:
    call(item=name)
    (row,) = csv.DictReader(io.StringIO(text_of(export(signed_in(cast.admin), "call", "csv")), newline=""))
    assert row["item"] == cell
    assert json.loads(text_of(export(signed_in(cast.admin), "call", "jsonl")))["item"] == name


def test_the_chain_can_be_walked_from_a_file(cast: Cast) -> None:
    for number in range(3):
        event(subject=cast.server, tenant=cast.tenant, detail={"number": number, "word": "ü"})
    lines = [json.loads(line) for line in text_of(export(signed_in(cast.admin), "auditevent", "jsonl")).splitlines()]
    for line in lines:
        line.pop("tenant__slug")
        read = AuditEvent(**line | {"at": datetime.fromisoformat(line["at"])})
        assert audit.event_hash(read) == line["hash"]
    assert [line["sequence"] for line in lines][-3:] == [3, 2, 1]


def test_many_rows_come_in_several_chunks_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_export, "_CHUNK", 3)
    made = [call(item=str(number)).pk for number in range(8)]
    chunks = list(records_export.file_chunks(Call.objects.all(), source=CALLS, form=Format.JSON_LINES))
    assert len(chunks) == 3
    lines = b"".join(chunks).decode().splitlines()
    assert [json.loads(line)["id"] for line in lines] == made[::-1]
    assert (
        b"".join(records_export.file_chunks(AuditEvent.objects.none(), source=EVENTS, form=Format.CSV)).count(b"\n")
        == 1
    )


def test_more_rows_than_a_file_holds_are_refused(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_export, "MOST_ROWS", 2)
    for _ in range(3):
        call()
    client = signed_in(cast.admin)
    answer = client.post(f"{page('servers_call_export')}?person=member", {"format": "csv"}, follow=True)
    assert "Choose a shorter time" in answer.content.decode()
    assert answer.request["QUERY_STRING"] == "person=member"
    assert not AuditEvent.objects.filter(action="records:export").exists()


@pytest.mark.parametrize(("query", "form"), [("", "xlsx"), ("", ""), ("?no_such_field=1", "csv")])
def test_what_cannot_be_exported_is_said(cast: Cast, query: str, form: str) -> None:
    answer = signed_in(cast.admin).post(f"{page('servers_call_export')}{query}", {"format": form})
    assert answer.status_code == 302
    assert not AuditEvent.objects.filter(action="records:export").exists()


def test_an_export_needs_the_form(cast: Cast) -> None:
    assert signed_in(cast.admin).get(page("servers_call_export")).status_code == 302
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(cast.admin)
    assert strict.post(page("servers_call_export"), {"format": "csv"}).status_code == 403
    assert not AuditEvent.objects.filter(action="records:export").exists()


# --- the chain


def check(client: Client, walk: str = "") -> Any:
    return client.post(page("servers_auditevent_verify"), {"walk": walk}, headers={"accept": "application/json"})


def test_a_chain_that_holds_is_checked_and_the_result_stays(cast: Cast, auditor: Any) -> None:
    for _ in range(3):
        event()
    client = signed_in(auditor)
    head = AuditEvent.objects.get(sequence=3).hash
    answer = client.post(page("servers_auditevent_verify"), follow=True)
    assert "The chain holds: 3 events." in answer.content.decode()
    assert f"3:{head}" in answer.content.decode()
    assert "The chain holds" in client.get(page("servers_auditevent_changelist")).content.decode()
    assert list(audit.verify()) == []


def test_a_long_chain_is_checked_in_pieces(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_page, "PIECE", 2)
    for _ in range(5):
        event()
    AuditEvent._base_manager.filter(sequence=2).update(actor="somebody else")
    client = signed_in(cast.admin)
    first = check(client).json()
    assert (first["checked"], first["of"], first["breaks"]) == (2, 5, 1)
    by_hand = client.post(page("servers_auditevent_verify"), {"walk": first["walk"]}).content.decode()
    assert "4 of 5 events checked, 1 break found." in by_hand
    second = check(client, first["walk"]).json()
    assert check(client, second["walk"]).json() == {"done": page("servers_auditevent_verify")}
    text = client.get(page("servers_auditevent_verify")).content.decode()
    assert "The chain does not hold at 1 place." in text
    assert "event 2: content was changed" in text


def test_a_check_cannot_be_made_up_or_taken_over(cast: Cast, auditor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_page, "PIECE", 1)
    for _ in range(3):
        event()
    walk = check(signed_in(cast.admin)).json()["walk"]
    for forged in (walk, f"x{walk}", "x"):
        assert check(signed_in(auditor), forged).status_code == 409
    assert not AuditEvent.objects.filter(action="records:verify").exists()


def test_an_event_that_comes_during_the_check_is_no_break(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    event()
    piece = audit.verify_piece(audit.Walked(), limit=10)
    event()
    rest = audit.verify_piece(piece.last, limit=10)
    end = audit.verify_piece(rest.last, limit=10)
    assert (piece.done, rest.done, end.done) == (False, False, True)
    assert [*piece.broken, *rest.broken, *end.broken] == []
