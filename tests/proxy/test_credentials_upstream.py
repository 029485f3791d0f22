"""Whose credential goes upstream, what never leaves or appears anywhere, and what a call costs the database."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections
from django.db.backends.utils import CursorWrapper

from gateway_project.logging import JsonFormatter, RedactSecrets
from servers.models import AuditEvent, AuthConfig, Call, Server, StoredSecret
from servers.secrets import store
from tests.conftest import Cast
from tests.proxy.wire import wait_until
from tests.support.calls import LEGACY, Caller, caller_for, member_of, message, point_at, tool_call
from tests.support.gateway import LiveGateway
from tests.support.raw_http import RawConnection, encoded, request
from tests.support.records import write_records
from tests.support.upstream import Request, Upstream, json_answer

SECRET = "canary-shared-credential"
LIST = message("tools/list")


def use_shared_header(cast: Cast, *headers: tuple[str, str], value: str = SECRET) -> StoredSecret:
    """Give the cast's server Header Auth with one stored secret; `{secret}` stands for its reference."""
    stored = store.set_secret(tenant=cast.tenant, group="calculator", key="token", value=value, actor="test")
    config = AuthConfig.objects.get(server=cast.server)
    config.method = AuthConfig.Method.SHARED_HEADER
    config.set_header_templates([(name, template.format(secret=stored.fqn)) for name, template in headers])
    config.save()
    return stored


@pytest.fixture
def upstream(cast: Cast) -> Iterator[Upstream]:
    with Upstream() as server:
        point_at(cast.server, server)
        yield server


@pytest.mark.requirement("T2", "F-302")
def test_the_callers_key_is_replaced_by_the_shared_credential(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    use_shared_header(cast, ("Authorization", "Bearer {secret}"), ("X-Api-Key", "{secret}"))
    caller = member_of(gateway, cast)
    session = caller.open_session()
    caller.post(tool_call("echo", {"a": 1}), [("Mcp-Session-Id", session)])
    caller.modern("tools/call", {"name": "echo"}, [("Mcp-Param-A", "b")])
    caller.send("GET", [("Mcp-Session-Id", session)])
    caller.send("DELETE", [("Mcp-Session-Id", session)])
    caller.url += "?x=1"
    caller.post(LIST, [("X-Api-Key", "the client's own"), ("Cookie", f"key={caller.key}"), ("X-Key", caller.key)])
    assert len(upstream.requests) == 6
    for seen in upstream.requests:
        assert caller.key.encode() not in seen.raw
        assert seen.header("authorization") == f"Bearer {SECRET}"
        assert seen.header("x-api-key") == SECRET


@pytest.mark.requirement("T2")
def test_without_authentication_no_credential_at_all_goes_upstream(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    caller = member_of(gateway, cast)
    caller.post(LIST)
    assert "authorization" not in upstream.requests[0].names()
    assert caller.key.encode() not in upstream.requests[0].raw


@pytest.mark.requirement("F-302", "F-108")
def test_the_credential_wins_over_static_and_client_headers(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    cast.server.static_headers = {"x-token": "static", "X-Region": "eu"}
    cast.server.allowed_request_headers = ["X-Token"]
    cast.server.save()
    use_shared_header(cast, ("X-Token", "{secret}"))
    member_of(gateway, cast).post(LIST, [("X-Token", "client")])
    assert upstream.requests[0].header("x-token") == SECRET
    assert upstream.requests[0].header("x-region") == "eu"


@pytest.mark.requirement("F-401", "T53")
@pytest.mark.parametrize("value", ["two\r\nX-Injected: lines", "a\nb", "a\x00b", "ünicode"])
def test_a_secret_that_no_header_may_hold_stops_the_call(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, value: str
) -> None:
    use_shared_header(cast, ("Authorization", "Bearer {secret}"), value=value)
    response = member_of(gateway, cast).post(LIST)
    assert response.status == 502
    assert "credential is not available" in response.json()["error"]["message"]
    assert value not in response.body.decode()
    assert upstream.requests == []


@pytest.mark.requirement("F-401")
def test_a_reference_that_leads_nowhere_stops_the_call_without_naming_itself(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    stored = use_shared_header(cast, ("Authorization", "Bearer {secret}"))
    StoredSecret.objects.filter(pk=stored.pk).delete()
    response = member_of(gateway, cast).post(LIST)
    assert response.status == 502
    assert stored.fqn not in response.body.decode()
    assert upstream.requests == []


@pytest.mark.requirement("F-302")
def test_a_changed_secret_is_used_from_the_next_call(gateway: LiveGateway, cast: Cast, upstream: Upstream) -> None:
    use_shared_header(cast, ("Authorization", "Bearer {secret}"))
    caller = member_of(gateway, cast)
    caller.post(LIST)
    store.set_secret(tenant=cast.tenant, group="calculator", key="token", value="renewed", actor="test")
    caller.post(LIST)
    assert [seen.header("authorization") for seen in upstream.requests] == [f"Bearer {SECRET}", "Bearer renewed"]


@pytest.mark.requirement("F-401")
def test_a_credential_from_the_environment_is_sent(gateway: LiveGateway, cast: Cast, upstream: Upstream) -> None:
    config = AuthConfig.objects.get(server=cast.server)
    config.method = AuthConfig.Method.SHARED_HEADER
    config.set_header_templates([("Authorization", "Bearer env://TEST_UPSTREAM_TOKEN")])
    config.save()
    member_of(gateway, cast).post(LIST)
    assert upstream.requests[0].header("authorization") == "Bearer canary-environment-secret"


# Secrets and arguments appear nowhere


class Lines(logging.Handler):
    """Keeps what the process would have written, formatted as in production."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.addFilter(RedactSecrets())
        self.setFormatter(JsonFormatter())
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@contextmanager
def every_log_line() -> Iterator[list[str]]:
    handler, root = Lines(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield handler.lines
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def rows_of(model: Any) -> str:
    return json.dumps(list(model.objects.values()), default=str)


@pytest.mark.requirement("T56", "T58", "T4")
def test_secrets_and_argument_values_appear_in_no_log_record_or_error(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, settings: Any
) -> None:
    settings.LOG_CALLS = True
    argument, answer = "canary-argument-value", "canary-answer-value"

    def refuses(status: int) -> Callable[[Request], object]:
        return lambda _: json_answer({"error": answer}, status, WWW_Authenticate=f'Bearer error="{answer}"')

    bodies: list[bytes] = []
    with every_log_line() as lines:
        use_shared_header(cast, ("Authorization", "Bearer {secret}"))
        caller = member_of(gateway, cast)
        outsider = caller_for(gateway, cast.server, cast.outsider)
        call = tool_call("echo", {"password": argument})
        session = caller.open_session()
        assert caller.post(call, [("Mcp-Session-Id", session)]).status == 200
        for status in (401, 403, 500, 302):
            upstream.script = refuses(status)  # type: ignore[assignment]
            bodies.append(caller.post(call).body)
        upstream.script = lambda _: b"HTTP/1.1 nonsense " + answer.encode() + b"\r\n\r\n"
        bodies.append(caller.post(call).body)
        upstream.script = lambda _: None
        bodies.append(caller.post(call).body)
        bodies.append(outsider.post(call).body)
        for damaged in (b'{"id":1,"method":"x","params":{"a":"%b",', b'{"id":1,"x":"%b","x":2}', b'{"id":1,"m":"%b"}'):
            bodies.append(caller.post(damaged % argument.encode()).body)
        bodies.append(caller.post(call, [("Mcp-Session-Id", f"v1:{argument}:x")]).body)
        bodies.append(request("POST", f"{caller.url}?access_token={caller.key}", [], b"{}").body)
        bodies.append(request("POST", caller.url, [("Authorization", f"Bearer {caller.key}x")], b"{}").body)
        bodies.append(request("POST", caller.url, [("Authorization", f"Basic {caller.key}")], b"{}").body)
        upstream.drop_connections()
        upstream.stop_listening()
        bodies.append(caller.post(call).body)
        write_records()
    assert Call.objects.count() == len(bodies) + 2
    everywhere = {
        "logs": "\n".join(lines),
        "records": rows_of(Call),
        "audit": rows_of(AuditEvent),
        "errors": b"\n".join(bodies).decode(),
    }
    assert '"call"' in everywhere["logs"]
    for place, text in everywhere.items():
        for canary in (SECRET, caller.key, outsider.key, argument, answer, session, "upstream-session"):
            assert canary not in text, f"{canary} in {place}"


@pytest.mark.requirement("T57")
def test_a_record_says_who_did_what_by_which_credential(gateway: LiveGateway, cast: Cast, upstream: Upstream) -> None:
    caller = member_of(gateway, cast)
    response = caller.post(tool_call("echo", {"a": 1}), [("User-Agent", "ide/1"), ("MCP-Protocol-Version", LEGACY)])
    write_records()
    row = Call.objects.get()
    assert (row.tenant, row.server, row.server_id) == ("default", "calculator", cast.server.id)
    assert (row.principal, row.user_id) == (str(cast.member.get_username()), cast.member.pk)
    assert row.credential == f"api_key:{cast.member.api_keys.get().pk}"
    assert (row.client, row.http_method, row.method, row.item) == ("ide/1", "POST", "tools/call", "echo")
    assert (row.protocol_version, row.decision, row.status, row.outcome) == (LEGACY, "allowed", 200, "ok")
    assert row.bytes_in == len(upstream.requests[0].body)
    assert row.bytes_out == len(response.body)


# No database on the path


@contextmanager
def every_statement(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, str]]]:
    """Every statement of every thread and connection: pairs of thread name and SQL."""
    found: list[tuple[str, str]] = []
    originals = {name: getattr(CursorWrapper, name) for name in ("execute", "executemany", "callproc")}

    def noting(original: Any) -> Any:
        def run(self: CursorWrapper, sql: str, *arguments: Any, **options: Any) -> Any:
            found.append((threading.current_thread().name, str(sql)))
            return original(self, sql, *arguments, **options)

        return run

    for name, original in originals.items():
        monkeypatch.setattr(CursorWrapper, name, noting(original))
    yield found


@pytest.mark.requirement("F-701")
def test_a_call_in_the_steady_state_asks_the_database_nothing(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_shared_header(cast, ("Authorization", "Bearer {secret}"))
    caller = member_of(gateway, cast)
    session = [("Mcp-Session-Id", caller.open_session()), ("MCP-Protocol-Version", LEGACY)]
    # The first good answer is worth a note: the server is well.
    wait_until(lambda: Server.objects.get(pk=cast.server.pk).health == Server.Health.OK, "the note")
    for connection in connections.all():
        connection.force_debug_cursor = False
    with every_statement(monkeypatch) as statements, RawConnection(gateway.origin) as kept:
        for number in range(60):
            assert caller.post_on(kept, tool_call("echo", {"n": number}), session).status == 200
            assert caller.post_on(kept, LIST).status == 200
            kept.send(encoded("GET", caller.url, [*caller.headers, *session]))
            assert kept.read().status == 405
            assert caller.post_on(kept, b"nonsense").status == 400
            assert caller.modern("tools/call", {"name": "echo"}).status == 200
        made = list(statements)
    by_thread = {name for name, _ in made}
    # The reader of the change feed and the writer of records work beside the path, in threads of their own.
    assert by_thread <= {"change-feed", "call-records"}, made
    written = [sql for name, sql in made if name == "change-feed" and not sql.lstrip().upper().startswith("SELECT")]
    assert written == []
    assert len(made) < 60


@pytest.mark.requirement("F-701")
def test_the_first_call_does_ask_the_database(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards the test above: it would see a statement from any thread."""
    caller = member_of(gateway, cast)
    with every_statement(monkeypatch) as statements:
        assert caller.post(LIST).status == 200
        assert any(name.startswith("gatehouse-db") for name, _ in statements)


def test_a_key_of_one_person_never_speaks_for_another(gateway: LiveGateway, cast: Cast, upstream: Upstream) -> None:
    callers: list[Caller] = [caller_for(gateway, cast.server, person) for person in (cast.member, cast.manager)]
    for caller in callers * 3:
        assert caller.post(LIST).status == 200
    write_records()
    assert list(Call.objects.order_by("id").values_list("principal", flat=True)) == ["member", "manager"] * 3
