"""Calls in the name of a person who connected an account: whose token goes where, and what renews or ends it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections as database_connections

from authflows.models import Connection, ConnectLink
from authflows.outbound import connections
from proxy.in_flight import TICK_SECONDS
from servers.models import AccessRule, AuthConfig, Call, Role, Server
from tests.conftest import Cast
from tests.proxy.test_credentials_upstream import every_statement
from tests.proxy.wire import wait_until
from tests.support.calls import LEGACY, caller_for, member_of, message, point_at, tool_call
from tests.support.connected import Guarded, bearer_of, expire, guarded
from tests.support.faulty_provider import as_json
from tests.support.gateway import LiveGateway
from tests.support.raw_http import RawConnection, Response, encoded
from tests.support.records import write_records
from tests.support.upstream import STREAM_HEAD, Answer, Request, Upstream, chunk, event, mcp_server

LIST = message("tools/list")


@pytest.fixture
def drive(cast: Cast) -> Iterator[Guarded]:
    with guarded(cast) as found:
        yield found


def told(response: Response) -> str:
    """The text of a tool result that says the call did not happen."""
    assert response.status == 200, response.body
    result = response.json()["result"]
    assert result["isError"] is True
    return str(result["content"][0]["text"])


def asked_to_connect(response: Response) -> str:
    """The same, and it holds a link to the page where the person connects."""
    text = told(response)
    link = ConnectLink.objects.latest("expires_at")
    assert f"/connect/{link.pk} " in text
    return text


def on(session: str) -> list[tuple[str, str]]:
    return [("Mcp-Session-Id", session), ("MCP-Protocol-Version", LEGACY)]


# Whose token goes where


@pytest.mark.requirement("F-303", "CL-19", "T2")
def test_each_persons_own_token_goes_upstream_and_nothing_else_of_theirs(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    people = (cast.member, cast.manager)
    for person in people:
        drive.connect(person)
    callers = [caller_for(gateway, cast.server, person) for person in people]
    for _ in range(2):
        for caller in callers:
            assert caller.post(tool_call()).status == 200
    seen = [bearer_of(request) for request in drive.upstream.requests]
    assert seen == [drive.token_of(cast.member), drive.token_of(cast.manager)] * 2
    assert seen[0] != seen[1]
    for request in drive.upstream.requests:
        for caller in callers:
            assert caller.key.encode() not in request.raw
        assert all(grant.refresh_token.encode() not in request.raw for grant in drive.provider.grants)


@pytest.mark.requirement("T29", "CL-19")
def test_a_token_is_not_sent_to_another_origin(gateway: LiveGateway, cast: Cast, drive: Guarded) -> None:
    drive.connect(cast.member)
    caller = member_of(gateway, cast)
    assert caller.post(tool_call()).status == 200
    with Upstream() as other:
        point_at(Server.objects.get(pk=cast.server.pk), other)
        assert "address changed" in asked_to_connect(caller.post(tool_call()))
        assert other.requests == []


@pytest.mark.requirement("T21", "CL-10")
def test_a_token_is_not_sent_when_the_server_has_another_provider(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    drive.connect(cast.member)
    caller = member_of(gateway, cast)
    assert caller.post(tool_call()).status == 200
    before = len(drive.upstream.requests)
    drive.configure(issuer="https://evil.example")
    assert "another provider" in asked_to_connect(caller.post(tool_call()))
    assert len(drive.upstream.requests) == before
    assert drive.refreshes() == 0


@pytest.mark.requirement("F-701", "F-303")
def test_a_connected_persons_call_asks_the_database_nothing(
    gateway: LiveGateway, cast: Cast, drive: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive.connect(cast.member)
    caller = member_of(gateway, cast)
    session = on(caller.open_session())
    caller.post(LIST)
    # The first use of the day is stamped, once a minute.
    wait_until(lambda: Connection.objects.get().last_used_at, "the stamp")
    caller.post(LIST)  # the feed has read the changes of the set-up meanwhile
    for connection in database_connections.all():
        connection.force_debug_cursor = False
    with every_statement(monkeypatch) as statements, RawConnection(gateway.origin) as kept:
        for number in range(60):
            assert caller.post_on(kept, tool_call("echo", {"n": number}), session).status == 200
            assert caller.post_on(kept, LIST).status == 200
            assert caller.modern("tools/call", {"name": "echo"}).status == 200
        made = list(statements)
    assert {name for name, _ in made} <= {"change-feed", "call-records"}, made
    written = [sql for name, sql in made if "connection" in sql.lower() and name == "call-records"]
    assert written == []


@pytest.mark.requirement("F-309", "F-303")
def test_a_connection_says_when_it_was_last_used(gateway: LiveGateway, cast: Cast, drive: Guarded) -> None:
    drive.connect(cast.member)
    drive.connect(cast.manager)
    member_of(gateway, cast).post(tool_call())
    used = wait_until(lambda: Connection.objects.filter(last_used_at__isnull=False), "the stamp")
    assert [connection.user_id for connection in used] == [cast.member.pk]


# Tokens that run out


@pytest.mark.requirement("F-306", "CL-20")
def test_a_token_that_ran_out_is_refreshed_once_for_all_who_wait(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    expire(drive.connect(cast.member))
    old = drive.token_of(cast.member)
    callers = [member_of(gateway, cast) for _ in range(12)]
    with ThreadPoolExecutor(len(callers)) as pool:
        answers = list(pool.map(lambda caller: caller.post(tool_call()), callers))
    assert [answer.status for answer in answers] == [200] * len(callers)
    assert all("error" not in answer.json() for answer in answers)
    assert drive.refreshes() == 1
    assert {bearer_of(request) for request in drive.upstream.requests} == {drive.token_of(cast.member)} != {old}


@pytest.mark.requirement("F-306")
def test_a_token_is_refreshed_shortly_before_its_end(gateway: LiveGateway, cast: Cast, drive: Guarded) -> None:
    caller = member_of(gateway, cast)
    connection = drive.connect(cast.member)
    expire(connection, seconds=120)
    assert caller.post(tool_call()).status == 200
    assert drive.refreshes() == 0
    expire(connection, seconds=30)
    assert caller.post(tool_call()).status == 200
    assert drive.refreshes() == 1


@pytest.mark.requirement("F-306")
def test_a_token_that_never_lives_long_is_used_for_most_of_its_life(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    drive.connect(cast.member, seconds=40)
    caller = member_of(gateway, cast)
    for _ in range(3):
        assert caller.post(tool_call()).status == 200
    assert drive.refreshes() == 0


@pytest.mark.requirement("CL-20", "F-306")
def test_while_the_provider_is_down_a_token_that_still_holds_goes_on(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    expire(drive.connect(cast.member), seconds=30)
    drive.provider.always("/token", as_json({"error": "server_error"}, 503))
    caller = member_of(gateway, cast)
    for _ in range(3):
        assert "error" not in caller.post(tool_call()).json()
    assert drive.refreshes() == 1  # asked again only after a while
    assert Connection.objects.get().state == Connection.State.CONNECTED


@pytest.mark.requirement("CL-20", "F-306")
def test_while_the_provider_is_down_and_the_token_has_ended_the_caller_is_told_to_try_again(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    expire(drive.connect(cast.member))
    drive.provider.always("/token", as_json({"error": "server_error"}, 503))
    caller = member_of(gateway, cast)
    text = told(caller.post(tool_call()))
    assert "Calculator" in text
    assert "Try again" in text
    assert "/connect/" not in text
    listed = caller.post(LIST)
    assert (listed.status, listed.json()["error"]["code"]) == (502, 1502)
    assert drive.upstream.requests == []
    del drive.provider.replies["/token"]
    Connection.objects.update(retry_at=None)
    assert "error" not in caller.post(tool_call()).json()


@pytest.mark.requirement("CL-20", "F-306", "F-314")
def test_a_dead_authorization_asks_the_person_to_connect_again(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    expire(drive.connect(cast.member))
    drive.provider.always("/token", as_json({"error": "invalid_grant"}, 400))
    text = asked_to_connect(member_of(gateway, cast).post(tool_call()))
    assert "withdrawn there, or ran out" in text
    assert drive.upstream.requests == []


@pytest.mark.requirement("F-306")
def test_a_provider_that_hangs_holds_up_nobody_elses_sign_in(gateway: LiveGateway, cast: Cast, drive: Guarded) -> None:
    release = threading.Event()

    def hang(_: Any) -> None:
        assert release.wait(20)

    drive.provider.replies["/token"] = hang
    people = [cast.member, cast.manager]
    for person in people:
        expire(drive.connect(person))
    waiting = [caller_for(gateway, cast.server, person) for person in people for _ in range(10)]
    AuthConfig.objects.create(server=(free := elsewhere(cast, drive)))
    with ThreadPoolExecutor(len(waiting)) as pool:
        calls = [pool.submit(caller.post, tool_call()) for caller in waiting]
        wait_until(lambda: drive.refreshes() == 2, "both refreshes")
        # Each is a new key: somebody whom this process does not know yet.
        for _ in range(5):
            assert caller_for(gateway, free, cast.manager).post(LIST).status == 200
        release.set()
        assert all("error" not in call.result().json() for call in calls)
    assert drive.refreshes() == 2


def elsewhere(cast: Cast, drive: Guarded) -> Server:
    """A server without authentication beside it."""
    drive.script = mcp_server
    guard = drive.answer
    drive.upstream.script = lambda request: mcp_server(request) if request.target == "/free" else guard(request)
    server = Server.objects.create(tenant=cast.tenant, slug="free", name="Free", url=drive.upstream.origin + "/free")
    AccessRule.objects.create(server=server, user=cast.manager, role=Role.USER)
    return server


# What the server refuses


@pytest.mark.requirement("CL-21", "T32")
def test_a_fresh_token_that_is_refused_is_renewed_once_and_the_same_request_sent_once_more(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    drive.connect(cast.member)
    first = drive.token_of(cast.member)
    drive.refused.add(first)
    body = json.dumps(tool_call("echo", {"text": "ä" * 20_000})).encode()
    response = member_of(gateway, cast).post(body)
    assert response.status == 200
    assert "www-authenticate" not in response.names()
    assert "error" not in response.json()
    assert [request.body == body for request in drive.upstream.requests] == [True, True]
    assert [bearer_of(request) for request in drive.upstream.requests] == [first, drive.token_of(cast.member)]
    assert drive.refreshes() == 1


@pytest.mark.requirement("CL-21", "F-314")
@pytest.mark.parametrize("method", ["tools/call", "tools/list"])
def test_a_second_refusal_ends_the_connection(gateway: LiveGateway, cast: Cast, drive: Guarded, method: str) -> None:
    drive.connect(cast.member)
    drive.upstream.script = lambda _: Answer(401, (("WWW-Authenticate", "Bearer"),))
    caller = member_of(gateway, cast)
    response = caller.post(tool_call() if method == "tools/call" else LIST)
    assert len(drive.upstream.requests) == 2
    connection = Connection.objects.get()
    assert (connection.state, connection.last_error) == (Connection.State.NEEDS_RECONNECT, "upstream_refused")
    if method == "tools/call":
        assert "refused a token that was fresh" in asked_to_connect(response)
    else:
        assert [tool["name"] for tool in response.json()["result"]["tools"]] == ["connect_calculator"]
    asked_to_connect(caller.post(tool_call()))
    assert len(drive.upstream.requests) == 2


@pytest.mark.requirement("CL-21", "CL-20")
def test_a_refused_token_is_not_renewed_while_the_provider_is_down_and_nothing_is_lost(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    drive.connect(cast.member)
    drive.refused.add(drive.token_of(cast.member))
    drive.provider.always("/token", as_json({}, 500))
    caller = member_of(gateway, cast)
    assert "Try again" in told(caller.post(tool_call()))
    assert len(drive.upstream.requests) == 1
    assert Connection.objects.get().state == Connection.State.CONNECTED


@pytest.mark.requirement("T50", "CL-21")
def test_a_call_that_breaks_off_is_not_sent_again_with_a_new_token(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    drive.connect(cast.member)
    drive.upstream.script = lambda _: None
    caller = member_of(gateway, cast)
    assert caller.post(tool_call()).status == 502
    assert len(drive.upstream.requests) == 1
    assert drive.refreshes() == 0


def lacking(*scopes: str) -> Answer:
    challenge = f'Bearer error="insufficient_scope", scope="{" ".join(scopes)}"'
    return Answer(403, (("WWW-Authenticate", challenge), ("Content-Type", "application/json")), b"{}")


@pytest.mark.requirement("CL-13", "F-312", "T50")
def test_a_call_that_lacks_a_scope_asks_the_person_for_it_and_other_calls_go_on(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    drive.connect(cast.member)

    def script(request: Request) -> Any:
        if request.json().get("params", {}).get("name") == "write":
            return lacking("files.read", "files.write")
        return mcp_server(request)

    drive.script = script
    caller = member_of(gateway, cast)
    text = asked_to_connect(caller.post(tool_call("write")))
    assert "(files.write)" in text
    assert len(drive.upstream.requests) == 1
    assert Connection.objects.get().wanted_scope.split() == ["files.read", "files.write"]
    assert caller.post(tool_call("echo")).json()["result"]["isError"] is False
    assert drive.refreshes() == 0


@pytest.mark.requirement("CL-13")
def test_scopes_beyond_the_ceiling_are_the_managers_affair(gateway: LiveGateway, cast: Cast, drive: Guarded) -> None:
    drive.configure(scopes=["files.read", "files.write"])
    drive.connect(cast.member)
    drive.script = lambda _: lacking("admin")
    text = told(member_of(gateway, cast).post(tool_call()))
    assert "admin" in text
    assert "manager" in text
    assert "/connect/" not in text
    assert Connection.objects.get().wanted_scope == ""
    drive.script = lambda _: lacking("admin", "files.write")
    asked_to_connect(member_of(gateway, cast).post(tool_call()))
    assert Connection.objects.get().wanted_scope.split() == ["files.read", "files.write"]


@pytest.mark.requirement("CL-13")
def test_any_other_403_is_about_the_account_and_ends_nothing(gateway: LiveGateway, cast: Cast, drive: Guarded) -> None:
    drive.connect(cast.member)
    drive.script = lambda _: Answer(403, (("Content-Type", "application/json"),), b'{"secret detail": 1}')
    response = member_of(gateway, cast).post(tool_call())
    assert "your account there" in told(response)
    assert b"secret detail" not in response.body
    assert Connection.objects.get().state == Connection.State.CONNECTED


# What ends


@pytest.mark.requirement("F-305", "F-314")
def test_a_revoked_connection_ends_with_the_next_call_and_with_open_streams(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    connection = drive.connect(cast.member)
    over = threading.Event()

    def stream(request: Request) -> Any:
        if request.method != "GET":
            return mcp_server(request)

        def pieces() -> Iterator[bytes]:
            yield STREAM_HEAD + chunk(event({"jsonrpc": "2.0", "method": "notifications/message"}))
            over.wait(20)

        return pieces()

    drive.script = stream
    caller = member_of(gateway, cast)
    session = on(caller.open_session())
    with RawConnection(gateway.origin) as listening:
        listening.send(encoded("GET", caller.url, [*caller.headers, *session]))
        drive.upstream.wait_for(2)
        connections.revoke(connection, actor="member")
        asked_to_connect(caller.post(tool_call(), session))
        assert listening.read_all().endswith(b"0\r\n\r\n")
    over.set()


@pytest.mark.requirement("F-306")
def test_an_open_stream_outlives_a_refresh(gateway: LiveGateway, cast: Cast, drive: Guarded) -> None:
    connection = drive.connect(cast.member)
    more, over = threading.Event(), threading.Event()

    def stream(request: Request) -> Any:
        if request.json().get("method") != "tools/call":
            return mcp_server(request)

        def pieces() -> Iterator[bytes]:
            yield STREAM_HEAD + chunk(event({"jsonrpc": "2.0", "method": "notifications/message"}))
            assert more.wait(20)
            yield chunk(event({"jsonrpc": "2.0", "id": 1, "result": {"content": []}})) + b"0\r\n\r\n"

        return pieces()

    drive.script = stream
    caller = member_of(gateway, cast)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(caller.post, tool_call())
        drive.upstream.wait_for(1)
        expire(connection)
        assert caller.post(LIST).status == 200
        assert drive.refreshes() == 1
        # Twice more than the timer needs to look at what is open.
        over.wait(TICK_SECONDS * 2)
        more.set()
        assert b'"result"' in call.result().body


@pytest.mark.requirement("SE-4", "T40")
def test_the_session_of_one_account_is_unknown_to_another_and_lasts_for_the_same(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    drive.connect(cast.member, account="first")
    caller = member_of(gateway, cast)
    session = on(caller.open_session())
    expire(Connection.objects.get())
    assert caller.post(LIST, session).status == 200  # a refresh
    drive.connect(cast.member, account="first")
    assert caller.post(LIST, session).status == 200  # the same account again
    drive.connect(cast.member, account="second")
    seen = len(drive.upstream.requests)
    response = caller.post(LIST, session)
    assert (response.status, response.json()["error"]["code"]) == (404, 1440)
    assert len(drive.upstream.requests) == seen
    assert caller.post(LIST, on(caller.open_session())).status == 200


@pytest.mark.requirement("SE-4", "T40")
def test_what_was_revoked_and_connected_anew_has_other_sessions(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    connection = drive.connect(cast.member)
    caller = member_of(gateway, cast)
    session = on(caller.open_session())
    connections.revoke(connection, actor="member")
    drive.connect(cast.member)
    assert caller.post(LIST, session).status == 404


@pytest.mark.requirement("T57", "F-314")
def test_a_call_that_could_not_be_made_is_recorded_as_such(gateway: LiveGateway, cast: Cast, drive: Guarded) -> None:
    member_of(gateway, cast).post(tool_call())
    write_records()
    call = Call.objects.get()
    assert (call.principal, call.item, call.decision, call.outcome) == ("member", "echo", "allowed", "not_connected")
    assert call.upstream_status is None
