"""Sealed session ids: who may use one, where, and for how long."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from django.conf import settings as django_settings
from pytest_django import Settings

from servers.models import AccessRule, AuthConfig, Role, Server
from servers.sealing import KeyRing
from servers.secrets import store
from tests.conftest import Cast
from tests.support.calls import LEGACY, Caller, caller_for, member_of, message, point_at, tool_call
from tests.support.gateway import LiveGateway
from tests.support.raw_http import Response
from tests.support.upstream import Request, Upstream, event, mcp_server, result

LIST = message("tools/list")


@pytest.fixture
def upstream(cast: Cast) -> Iterator[Upstream]:
    with Upstream() as server:
        point_at(cast.server, server)
        yield server


def use(caller: Caller, session: str, body: object = LIST) -> Response:
    return caller.post(body, [("Mcp-Session-Id", session), ("MCP-Protocol-Version", LEGACY)])


def assert_unknown(response: Response) -> None:
    """404 in the one form that there is."""
    assert response.status == 404
    assert response.json()["error"] == {
        "code": 1440,
        "message": "Session not found. Send initialize to open a new one.",
    }
    assert response.names() == {"content-type", "cache-control", "x-content-type-options", "content-length"}


@pytest.mark.requirement("F-704", "SE-1")
def test_a_session_reaches_the_upstream_under_its_own_id_and_the_client_never_sees_it(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    caller = member_of(gateway, cast)
    session = caller.open_session()
    assert "upstream-session" not in session
    assert all("\x21" <= character <= "\x7e" for character in session)
    for response in (use(caller, session), use(caller, session, tool_call()), caller.post(LIST)):
        assert response.status == 200
        assert "mcp-session-id" not in response.names()
        assert b"upstream-session" not in response.body
    values = [seen.header("mcp-session-id") for seen in upstream.requests]
    assert values == [None, "upstream-session-1", "upstream-session-1", None]


@pytest.mark.requirement("F-704")
def test_an_upstream_without_sessions_gets_none(gateway: LiveGateway, cast: Cast) -> None:
    with Upstream(lambda request: result(request, {})) as upstream:
        point_at(cast.server, upstream)
        assert "mcp-session-id" not in member_of(gateway, cast).post(message("initialize", {})).names()


@pytest.mark.requirement("T40", "SE-3", "SE-5")
def test_a_session_of_another_person_key_or_server_is_unknown(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    other = Server.objects.create(tenant=cast.tenant, slug="other", name="Other", url=upstream.url)
    AccessRule.objects.create(server=other, team=cast.readers, role=Role.USER)
    owner = member_of(gateway, cast)
    session = owner.open_session()
    another_person = caller_for(gateway, cast.server, cast.manager)
    another_key = member_of(gateway, cast)
    another_server = Caller(gateway.mcp_url(other), owner.key)
    for caller in (another_person, another_key, another_server):
        assert_unknown(use(caller, session))
        for method in ("GET", "DELETE"):
            assert_unknown(caller.send(method, [("Mcp-Session-Id", session)]))
    assert use(owner, session).status == 200
    # The other way of writing the URL is the same server.
    assert use(Caller(gateway.mcp_url(cast.server, "key"), owner.key), session).status == 200
    assert len(upstream.requests) == 3


@pytest.mark.requirement("T40", "SE-1", "SE-5")
def test_a_damaged_or_invented_session_is_unknown(gateway: LiveGateway, cast: Cast, upstream: Upstream) -> None:
    caller = member_of(gateway, cast)
    session = caller.open_session()
    version, key_id, text = session.split(":")
    flipped = [
        f"{version}:{key_id}:{text[:n]}{'A' if text[n] != 'A' else 'B'}{text[n + 1 :]}" for n in range(0, len(text), 17)
    ]
    sealer = django_settings.KEY_RING.sealer
    others = [
        "upstream-session-1",
        session[:-1],
        session[:40],
        session + "A",
        session + "=",
        session + ", " + session,
        session.upper(),
        f"{version}:other:{text}",
        f"v2:{key_id}:{text}",
        f"{version}:{key_id}:",
        f"{version}:{key_id}:AAAA",
        "::",
        "x" * 8000,
        "é",
        sealer("stored-secret").seal(b"{}", "session-id v1"),
        sealer("session-id").seal(b"{}", "session-id v2"),
        sealer("request-state").seal(b'{"bound":[],"ends":99999999999,"upstream":"x"}', "session-id v1"),
    ]
    for other in [*flipped, *others]:
        assert_unknown(use(caller, other))
    # A header that holds nothing is as unknown as any other; without the header there is no session to look for.
    assert_unknown(use(caller, ""))
    assert len(upstream.requests) == 1
    assert use(caller, session).status == 200


@pytest.mark.requirement("SE-5", "SE-6", "T40")
def test_a_session_ends_after_its_lifetime(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, settings: Settings
) -> None:
    caller = member_of(gateway, cast)
    settings.SESSION_LIFETIME_SECONDS = 0
    assert_unknown(use(caller, caller.open_session()))
    settings.SESSION_LIFETIME_SECONDS = 60
    assert use(caller, caller.open_session()).status == 200


@pytest.mark.requirement("SE-4", "SE-8", "T40")
@pytest.mark.parametrize("change", ["url", "shared key", "method", "end sessions"])
def test_a_session_ends_when_what_it_was_opened_with_changes(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, change: str
) -> None:
    secret = {"tenant": cast.tenant, "group": "calculator", "key": "token", "actor": "test"}
    stored = store.set_secret(**secret, value="first-key")
    config = AuthConfig.objects.get(server=cast.server)
    config.method = AuthConfig.Method.SHARED_HEADER
    config.set_header_templates([("Authorization", f"Bearer {stored.fqn}")])
    config.save()
    caller = member_of(gateway, cast)
    session = caller.open_session()
    assert upstream.requests[0].header("authorization") == "Bearer first-key"
    assert use(caller, session).status == 200
    if change == "url":
        cast.server.url = upstream.origin + "/other"
        cast.server.save()
    elif change == "shared key":
        store.set_secret(**secret, value="second-key")
    elif change == "method":
        config.method = AuthConfig.Method.NONE
        config.set_header_templates([])
        config.save()
    else:
        cast.server.refresh_from_db()
        cast.server.session_epoch += 1
        cast.server.save()
    before = len(upstream.requests)
    assert_unknown(use(caller, session))
    assert len(upstream.requests) == before
    assert use(caller, caller.open_session()).status == 200


@pytest.mark.requirement("SE-4")
def test_a_session_survives_a_change_that_has_nothing_to_do_with_it(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    caller = member_of(gateway, cast)
    session = caller.open_session()
    cast.server.name = "Renamed"
    cast.server.response_timeout = 30
    cast.server.save()
    assert use(caller, session).status == 200


@pytest.mark.requirement("F-704", "SE-2")
def test_a_session_survives_a_new_process_and_a_new_sealing_key(
    cast: Cast, upstream: Upstream, settings: Settings, transactional_db: None
) -> None:
    with LiveGateway() as first:
        caller = member_of(first, cast)
        session = caller.open_session()
    old = settings.KEY_RING
    for ring in (old, KeyRing((("new", os.urandom(32)), *old.keys))):
        settings.KEY_RING = ring
        with LiveGateway() as second:
            caller.url = second.mcp_url(cast.server)
            assert use(caller, session).status == 200
            renewed = caller.open_session()
    assert renewed.startswith("v1:new:")
    settings.KEY_RING = KeyRing((("other", os.urandom(32)),))
    with LiveGateway() as third:
        caller.url = third.mcp_url(cast.server)
        assert_unknown(use(caller, session))


@pytest.mark.requirement("SE-7", "T9")
def test_a_session_is_no_credential(gateway: LiveGateway, cast: Cast, upstream: Upstream) -> None:
    caller = member_of(gateway, cast)
    session = caller.open_session()
    nobody = Caller(caller.url, "wrong")
    assert use(nobody, session).status == 401
    cast.member.groups.clear()
    assert use(caller, session).status == 403
    assert len(upstream.requests) == 1


@pytest.mark.requirement("F-704")
def test_a_session_that_the_upstream_lost_is_404_as_the_upstream_says(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    caller = member_of(gateway, cast)
    session = caller.open_session()
    body = b'{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Session has been terminated"}}'
    upstream.script = lambda _: (
        b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    response = use(caller, session)
    assert (response.status, response.body) == (404, body)


@pytest.mark.requirement("F-704")
def test_modern_requests_and_initialize_leave_the_session_header_behind(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    caller = member_of(gateway, cast)
    session = caller.open_session()
    for value in (session, "nonsense"):
        header = [("Mcp-Session-Id", value)]
        assert caller.modern("tools/list", headers=header).status == 200
        assert caller.post(message("initialize", {}), header).status == 200
        assert caller.send("GET", [*header, ("MCP-Protocol-Version", "2026-07-28")]).status == 405
    assert all(seen.header("mcp-session-id") is None for seen in upstream.requests)


@pytest.mark.requirement("T41")
def test_an_event_id_travels_only_with_a_bound_session(gateway: LiveGateway, cast: Cast) -> None:
    def script(request: Request) -> object:
        if request.method == "GET":
            body = event({"jsonrpc": "2.0", "method": "notifications/x"}, "e2")
            return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n%b" % (
                len(body),
                body,
            )
        return mcp_server(request)

    with Upstream(script) as upstream:  # type: ignore[arg-type]
        point_at(cast.server, upstream)
        caller, thief = member_of(gateway, cast), caller_for(gateway, cast.server, cast.manager)
        session = caller.open_session()
        last = [("Last-Event-ID", "e1")]
        resumed = caller.send("GET", [("Mcp-Session-Id", session), *last])
        assert_unknown(thief.send("GET", [("Mcp-Session-Id", session), *last]))
        thief.send("GET", last)
        use(caller, session)
        caller.post(LIST, [("Mcp-Session-Id", session), *last])
        values = [(seen.header("mcp-session-id"), seen.header("last-event-id")) for seen in upstream.requests[1:]]
    assert b"id: e2\n" in resumed.body
    bound = "upstream-session-1"
    assert values == [(bound, "e1"), (None, None), (bound, None), (bound, None)]
