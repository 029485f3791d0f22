"""Every request leaves exactly one record, whatever became of it; argument values are nowhere (T57, T58, F-801)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import DatabaseError, connection
from pytest_django import Settings

from authflows.inbound.api_keys import create_key
from authflows.models import ApiKey
from proxy.record import CallRow, Recorder, recorder
from servers.models import AuditEvent, Call
from tests.conftest import Cast
from tests.proxy.test_disconnects import the_record
from tests.proxy.wire import Stage, message, staged, wait_until
from tests.support.gateway import LiveGateway

CANARY = "canary-argument-4711"


@pytest.mark.requirement("T57", "F-801")
def test_a_call_is_recorded_with_who_what_and_how_it_went(stage: Stage, cast: Cast) -> None:
    body, headers = message(modern=True)
    caller = stage.caller().ask(stage.path, key=stage.key, body=body, headers={**headers, "User-Agent": "agent/1"})
    asked = stage.upstream.request()
    expected = asked.answer_result()
    caller.read_head()
    assert caller.read_body() == expected
    key = ApiKey.objects.get()
    record = the_record(
        tenant="default",
        server="calculator",
        server_id=cast.server.id,
        principal="member",
        user_id=cast.member.pk,
        credential=f"api_key:{key.pk}",
        client="tests 1",
        http_method="POST",
        method="tools/call",
        item="add",
        protocol_version="2026-07-28",
        decision="allowed",
        status=200,
        upstream_status=200,
        outcome="ok",
        bytes_in=len(body),
        bytes_out=len(expected),
    )
    assert record.milliseconds >= 0
    assert record.request_id


@pytest.mark.requirement("F-801")
def test_a_stream_is_recorded_once_with_all_its_bytes(stage: Stage) -> None:
    caller, asked = stage.stream()
    for _ in range(3):
        asked.piece(b"data: {}\n\n")
        caller.event()
    asked.end_stream()
    assert caller.chunk() == b""
    the_record(outcome="ok", status=200, bytes_out=30)


@pytest.mark.requirement("T57")
@pytest.mark.parametrize("http_method", ["GET", "DELETE"])
def test_requests_without_a_body_are_recorded(stage: Stage, http_method: str) -> None:
    caller = stage.caller().ask(stage.path, key=stage.key, method=http_method)
    asked = stage.upstream.request()
    asked.answer(b"{}", status="405 Method Not Allowed")
    caller.read_head()
    the_record(http_method=http_method, status=405, upstream_status=405, method="", decision="allowed")


@pytest.mark.requirement("T57")
@pytest.mark.parametrize(
    ("body", "method", "outcome"),
    [
        (b'{"jsonrpc":"2.0","method":"notifications/initialized"}', "notifications/initialized", "ok"),
        (b'{"jsonrpc":"2.0","id":1,"result":{}}', "(response)", "ok"),
        (
            b'[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"tools/list"}]',
            "ping,tools/list",
            "ok",
        ),
    ],
)
def test_every_kind_of_message_is_recorded(stage: Stage, body: bytes, method: str, outcome: str) -> None:
    caller = stage.caller().ask(stage.path, key=stage.key, body=body)
    stage.upstream.request().send(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
    assert caller.read_head() == 202
    the_record(method=method, outcome=outcome, status=202, upstream_status=202)


@pytest.mark.requirement("T57")
@pytest.mark.parametrize(
    ("how", "status", "decision", "outcome", "principal"),
    [
        ("no key", 401, "credential_missing", "credential_missing", ""),
        ("wrong key", 401, "credential_unknown", "credential_unknown", ""),
        ("outsider", 403, "no_rule", "no_rule", "outsider"),
        ("unknown server", 403, "unknown_server", "unknown_server", "member"),
        ("malformed", 400, "allowed", "message_rejected", "member"),
        ("too large", 413, "body_too_large", "body_too_large", "member"),
        ("foreign host", 421, "host_refused", "host_refused", ""),
        ("other method", 405, "method_not_allowed", "method_not_allowed", "member"),
        ("foreign session", 404, "session_unknown", "session_unknown", "member"),
    ],
)
def test_a_refusal_is_recorded_with_its_reason(
    stage: Stage, cast: Cast, how: str, status: int, decision: str, outcome: str, principal: str
) -> None:
    options: dict[str, Any] = {"key": stage.key, "body": message()[0]}
    path = stage.path
    match how:
        case "no key":
            options["key"] = None
        case "wrong key":
            options["key"] = stage.key[:-1] + ("A" if stage.key[-1] != "A" else "B")
        case "outsider":
            options["key"] = create_key(owner=cast.outsider, name="x", actor="tests")[1]
        case "unknown server":
            path = "/default/mcp/nowhere/server"
        case "malformed":
            options["body"] = b"{"
        case "too large":
            options["length"] = 10**9
        case "foreign host":
            options["headers"] = {"Host": "attacker.example"}
        case "other method":
            options |= {"method": "PUT", "body": b""}
        case "foreign session":
            options["headers"] = {"Mcp-Session-Id": "somebody-elses"}
    caller = stage.caller().ask(path, **options)
    assert caller.read_head() == status
    record = the_record(status=status, outcome=outcome, principal=principal, upstream_status=None)
    assert record.decision in (decision, "allowed") if how == "foreign session" else record.decision == decision
    assert bool(record.credential) == bool(principal)
    assert stage.upstream.nobody_came()


@pytest.mark.requirement("T57")
def test_an_upstream_that_is_down_is_recorded(stage: Stage) -> None:
    stage.upstream.close()
    caller = stage.caller().call(stage.path, key=stage.key)
    assert caller.read_head() == 502
    the_record(outcome="upstream_connect", status=502, decision="allowed", upstream_status=None, item="add")


@pytest.mark.requirement("T58")
@pytest.mark.django_db(transaction=True)
def test_argument_values_and_results_are_in_no_table_and_no_log(
    stage: Stage, settings: Settings, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    settings.LOG_CALLS = True
    params = {"name": "add", "arguments": {"secret": CANARY, CANARY: 1}}
    body = json.dumps({"jsonrpc": "2.0", "id": CANARY, "method": "tools/call", "params": params}).encode()
    for answered in (True, False):
        caller = stage.caller().ask(stage.path, key=stage.key, body=body)
        asked = stage.upstream.request()
        if answered:
            asked.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n")
            asked.send(json.dumps({"jsonrpc": "2.0", "id": CANARY, "result": {"text": CANARY}}).encode())
        asked.close()
        caller.read_head()
        caller.read_body()
    wait_until(lambda: Call.objects.count() == 2, "both records")
    for model in (Call, AuditEvent):
        assert CANARY not in repr(list(model.objects.values()))
    assert CANARY not in caplog.text
    assert stage.key not in caplog.text
    captured = capfd.readouterr()
    assert CANARY not in captured.out + captured.err


@pytest.mark.requirement("F-206", "F-801")
def test_a_key_that_was_used_is_stamped(stage: Stage) -> None:
    caller, asked = stage.call()
    asked.answer_result()
    caller.read_head()
    key = wait_until(lambda: ApiKey.objects.filter(last_used_at__isnull=False).first(), "the stamp")
    assert key.owner.username == "member"


# --- When records cannot be written -----------------------------------------------------------------


@pytest.fixture
def one_record(stage: Stage) -> Any:
    """A record as the path makes it."""
    caller = stage.caller().ask(stage.path, key=None, body=b"{}")
    caller.read_head()
    call = the_record(status=401)
    return CallRow(*(getattr(call, name) if name != "at" else call.at.timestamp() for name in CallRow._fields))


@pytest.mark.requirement("T57", "F-801")
def test_what_a_full_queue_cannot_take_is_counted_logged_and_audited(
    one_record: Any, caplog: pytest.LogCaptureFixture
) -> None:
    small = Recorder(limit=3)
    for _ in range(5):
        small.add(one_record)
    assert (small.waiting(), small.lost) == (3, 2)
    small.flush()
    assert small.waiting() == 0
    assert Call.objects.count() == 1 + 3
    event = AuditEvent.objects.get(action="call_records:lost")
    assert event.detail == {"count": 2}
    assert "2 call records were lost" in caplog.text
    small.flush()
    assert AuditEvent.objects.filter(action="call_records:lost").count() == 1


@pytest.mark.requirement("T57")
def test_lost_records_are_visible_in_readiness(
    gateway: LiveGateway, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_limit", 0)
    caller = stage.caller().ask(stage.path, key=None, body=b"{}")
    assert caller.read_head() == 401
    lost = wait_until(lambda: recorder.lost, "the loss")
    ready = stage.caller().ask("/readyz", key=None, method="GET").answer()
    assert ready["call_records"]["lost"] == lost
    wait_until(lambda: AuditEvent.objects.filter(action="call_records:lost").exists(), "the audit event")


@pytest.mark.requirement("T57", "F-801")
def test_records_that_cannot_be_written_are_kept_and_written_later(one_record: Any) -> None:
    later = Recorder(limit=100)
    later.add(one_record)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE servers_call RENAME TO servers_call_away")
    try:
        with pytest.raises(DatabaseError):
            later.flush()
        assert later.waiting() == 1
        later.add(one_record)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE servers_call_away RENAME TO servers_call")
    later.flush()
    assert later.waiting() == later.lost == 0
    assert Call.objects.count() == 1 + 2


@pytest.mark.requirement("T57")
def test_the_writer_goes_on_after_the_table_was_away(stage: Stage) -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE servers_call RENAME TO servers_call_away")
    try:
        caller, asked = stage.call()
        expected = asked.answer_result()
        caller.read_head()
        assert caller.read_body() == expected  # calls do not wait for their records
        wait_until(recorder.waiting, "the record to wait")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE servers_call_away RENAME TO servers_call")
    the_record(outcome="ok", status=200)


@pytest.mark.requirement("T57")
def test_records_are_written_when_the_gateway_stops(cast: Cast, transactional_db: None, key: str) -> None:
    gateway = LiveGateway()
    with staged(gateway.port, cast.server, key) as stage, gateway:
        caller, asked = stage.stream(http_method="GET")
        asked.piece(b"data: {}\n\n")
        caller.event()
    record = Call.objects.get()
    assert (record.http_method, record.status, record.outcome) == ("GET", 200, "shutdown")
