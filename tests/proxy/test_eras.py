"""Old and new clients on old and new servers: what passes, what is translated, and what is asked of a server for it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from authflows.inbound.api_keys import revoke_key
from authflows.models import ApiKey
from proxy.probe import probe
from proxy.targets import shared_target
from servers import changes, eras
from servers.models import AuthConfig, Server
from servers.secrets import store
from tests.conftest import Cast
from tests.proxy.wire import wait_until
from tests.support import catalogues
from tests.support.calls import LEGACY, MODERN, caller_for, member_of, message, point_at, speaking, tool_call
from tests.support.eras import dual_server, error, legacy_server, methods, modern_server
from tests.support.gateway import LiveGateway
from tests.support.upstream import STREAM_HEAD, Answer, Request, Upstream, chunk, event

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requirement("F-702")]

Eras = Server.Eras
INITIALIZE = message(
    "initialize", {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "old", "version": "1"}}
)


@pytest.fixture
def upstream(cast: Cast) -> Iterator[Upstream]:
    """The cast's server, whose catalogue was read; its script is the test's."""
    with Upstream() as found:
        point_at(cast.server, found)
        catalogues.item(cast.server, {"name": "echo", "inputSchema": {"type": "object"}})
        yield found


def row(cast: Cast) -> Server:
    return Server.objects.get(pk=cast.server.pk)


def becomes(cast: Cast, wanted: Server.Eras) -> Server:
    """The server's row once it says so."""
    wait_until(lambda: row(cast).eras == wanted, f"eras {wanted}")
    return row(cast)


def was_known(cast: Cast, eras: Server.Eras, *, hours: float = 1) -> None:
    """The row says so, since some time ago."""
    speaking(cast.server, eras)
    Server.objects.filter(pk=cast.server.pk).update(eras_at=timezone.now() - timedelta(hours=hours))
    changes.forget_everything()


def code(response: Any) -> Any:
    return response.json()["error"]["code"]


# Nothing more than what clients send


@pytest.mark.parametrize("script", [legacy_server, modern_server, dual_server])
def test_a_server_whose_answers_are_fine_is_asked_nothing(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, script: Callable[[Request], Any]
) -> None:
    upstream.script = script
    caller, sent = member_of(gateway, cast), []
    if script is not modern_server:
        session = [("Mcp-Session-Id", caller.open_session()), ("MCP-Protocol-Version", LEGACY)]
        assert caller.post(message("tools/list"), session).json()["result"]["tools"][0]["name"] == "echo"
        assert caller.post(tool_call(), session).status == 200
        sent += ["initialize", "tools/list", "tools/call"]
    if script is not legacy_server:
        assert caller.modern("server/discover").json()["result"]["supportedVersions"] == [MODERN]
        assert caller.modern("tools/call", {"name": "echo"}).status == 200
        sent += ["server/discover", "tools/call"]
    assert methods(upstream.requests) == sent


def test_what_a_server_says_of_itself_is_passed_on_byte_for_byte_while_it_is_learned(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    opened = {"jsonrpc": "2.0", "id": 1, "result": {"protocolVersion": LEGACY, "capabilities": {}}}
    noted = event({"jsonrpc": "2.0", "method": "notifications/message", "params": {}})
    pieces = [STREAM_HEAD, chunk(noted[:9]), chunk(noted[9:] + event(opened)), chunk(b": end\n\n"), b"0\r\n\r\n"]

    def script(request: Request) -> Any:
        return iter(pieces) if request.json()["method"] == "initialize" else legacy_server(request)

    upstream.script = script
    caller = member_of(gateway, cast)
    refused = caller.modern("server/discover")
    assert refused.body == legacy_server(upstream.requests[0]).body
    assert caller.post(INITIALIZE).body == noted + event(opened) + b": end\n\n"
    assert becomes(cast, Eras.LEGACY).versions == [LEGACY]
    assert methods(upstream.requests) == ["server/discover", "initialize"]


# Clients that speak both


def test_a_client_that_speaks_both_is_told_at_once_what_an_old_server_speaks(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    upstream.script = legacy_server
    speaking(cast.server, Eras.LEGACY, (LEGACY, "2025-06-18"))
    caller = member_of(gateway, cast)
    refused = caller.modern("server/discover")
    assert refused.status == 400
    assert refused.json()["error"] == {
        "code": -32022,
        "message": "Unsupported protocol version",
        "data": {"supported": [LEGACY, "2025-06-18"], "requested": MODERN},
    }
    assert upstream.requests == []
    caller.open_session()
    assert methods(upstream.requests) == ["initialize"]


def test_an_old_verdict_is_not_given_to_a_client_but_asked_again_by_its_own_request(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    upstream.script = dual_server
    was_known(cast, Eras.LEGACY, hours=24)
    found = member_of(gateway, cast).modern("server/discover")
    assert found.json()["result"]["supportedVersions"] == [MODERN]
    becomes(cast, Eras.DUAL)


# Old client, new server


def test_an_old_client_is_served_by_a_new_server_from_its_first_request_on(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    upstream.script = modern_server
    caller = member_of(gateway, cast)
    opened = caller.post(INITIALIZE)
    assert (opened.status, opened.json()["result"]["protocolVersion"]) == (200, LEGACY)
    session = [("Mcp-Session-Id", opened.header("Mcp-Session-Id") or ""), ("MCP-Protocol-Version", LEGACY)]
    assert caller.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, session).status == 202
    listed = caller.post(message("tools/list"), session).json()["result"]
    assert [tool["name"] for tool in listed["tools"]] == ["echo"]
    answer = caller.post(tool_call(), session).json()["result"]
    assert answer["content"][0]["text"] == "hello"
    becomes(cast, Eras.MODERN)
    assert methods(upstream.requests).count("tools/call") == 1
    upstream.requests.clear()
    assert caller.post(INITIALIZE).status == 200
    assert "initialize" not in methods(upstream.requests)


def test_a_server_that_refuses_initialize_in_other_words_is_asked_what_it_speaks(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    def script(request: Request) -> Any:
        answer = modern_server(request)
        return Answer(404) if answer.status == 400 else answer

    upstream.script = script
    assert member_of(gateway, cast).post(INITIALIZE).status == 200
    becomes(cast, Eras.MODERN)
    assert methods(upstream.requests)[:3] == ["initialize", "server/discover", "initialize"]


def test_a_client_that_asks_wrongly_gets_the_servers_own_refusal(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    def script(request: Request) -> Any:
        if (
            not request.body
            or request.json().get("params", {}).get("protocolVersion")
            or request.header("mcp-protocol-version")
        ):
            return dual_server(request)
        return error(request, -32602, "Invalid params: protocolVersion is missing")

    upstream.script = script
    refused = member_of(gateway, cast).post(message("initialize", {}))
    assert (refused.status, code(refused)) == (400, -32602)
    becomes(cast, Eras.DUAL)


@pytest.mark.requirement("SV-10")
@pytest.mark.parametrize("known", [True, False])
def test_an_old_client_learns_which_versions_a_new_server_speaks_where_nothing_is_translated(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, known: bool
) -> None:
    upstream.script = modern_server
    Server.objects.filter(pk=cast.server.pk).update(path=Server.Path.TRANSPARENT)
    if known:
        speaking(cast.server, Eras.MODERN)
    refused = member_of(gateway, cast).post(INITIALIZE)
    failure = refused.json()["error"]
    assert (refused.status, failure["code"]) == (400, -32022)
    assert failure["data"] == {"supported": [MODERN], "requested": LEGACY}
    if known:
        assert f"speaks MCP {MODERN} only" in failure["message"]
        assert upstream.requests == []
    else:
        assert methods(upstream.requests) == ["initialize"]
        becomes(cast, Eras.MODERN)


# New client, old server


def test_a_new_client_is_served_by_an_old_server_that_nobody_had_asked_before(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    upstream.script = legacy_server
    caller = member_of(gateway, cast)
    listed = caller.modern("tools/list").json()["result"]
    assert [tool["name"] for tool in listed["tools"]] == ["echo"]
    assert listed["resultType"] == "complete"
    assert methods(upstream.requests)[:4] == ["tools/list", "server/discover", "initialize", "DELETE"]
    assert upstream.requests[3].header("mcp-session-id") == upstream_session(upstream.requests[2])
    becomes(cast, Eras.LEGACY)
    answer = caller.modern("tools/call", {"name": "echo", "arguments": {"a": 1}})
    assert json.loads(answer.json()["result"]["content"][0]["text"]) == {"a": 1}


def upstream_session(request: Request) -> str:
    return f"upstream-session-{request.peer.number}"


@pytest.mark.parametrize(("script", "client"), [(legacy_server, "new"), (modern_server, "old")])
def test_a_server_whose_catalogue_nobody_has_read_is_read_when_it_is_first_translated(
    gateway: LiveGateway, cast: Cast, script: Callable[[Request], Any], client: str
) -> None:
    with Upstream(script) as upstream:
        point_at(cast.server, upstream)
        caller = member_of(gateway, cast)
        if client == "new":
            listed = caller.modern("tools/list")
        else:
            session = [("Mcp-Session-Id", caller.open_session()), ("MCP-Protocol-Version", LEGACY)]
            listed = caller.post(message("tools/list"), session)
        assert [tool["name"] for tool in listed.json()["result"]["tools"]] == ["echo"]


@pytest.mark.requirement("T52", "T50")
def test_a_tool_call_that_was_refused_is_passed_on_as_it_came_and_never_sent_again(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    upstream.script = legacy_server
    caller = member_of(gateway, cast)
    refused = caller.modern("tools/call", {"name": "echo"})
    assert refused.body == legacy_server(upstream.requests[0]).body
    becomes(cast, Eras.LEGACY)
    assert methods(upstream.requests).count("tools/call") == 1
    answer = caller.modern("tools/call", {"name": "echo"}).json()["result"]
    assert answer["isError"] is False
    assert methods(upstream.requests).count("tools/call") == 2


@pytest.mark.parametrize("path", [Server.Path.TRANSPARENT, Server.Path.AUTO])
def test_without_translation_a_new_client_gets_the_old_servers_own_refusal(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, path: str
) -> None:
    upstream.script = legacy_server
    Server.objects.filter(pk=cast.server.pk).update(path=path)
    speaking(cast.server, Eras.LEGACY)
    response = member_of(gateway, cast).modern("tools/list")
    if path == Server.Path.TRANSPARENT:
        assert response.body == legacy_server(upstream.requests[0]).body
        assert methods(upstream.requests) == ["tools/list"]
    else:
        assert response.status == 200


# Being asked


@pytest.mark.requirement("CL-24")
def test_a_server_is_asked_once_for_all_who_wait_with_the_credential_of_a_caller(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    secret = store.set_secret(tenant=cast.tenant, group="calculator", key="token", value="s3cret", actor="admin")
    config = AuthConfig.objects.get(server=cast.server)
    config.method = AuthConfig.Method.SHARED_HEADER
    config.set_header_templates([("Authorization", f"Bearer {secret.fqn}")])
    config.save()
    both_refused = threading.Event()

    def script(request: Request) -> Any:
        if request.header("authorization") != "Bearer s3cret":
            return Answer(401)
        if request.body and request.json()["method"] == "server/discover":
            assert both_refused.wait(10)
        if methods(upstream.requests).count("tools/list") == 2:
            both_refused.set()
        return legacy_server(request)

    upstream.script = script
    caller = member_of(gateway, cast)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: caller.modern("tools/list"), range(2)))
    assert [answer.status for answer in answers] == [200, 200]
    asked = methods(upstream.requests)
    assert (asked.count("server/discover"), asked.count("DELETE")) == (1, 1)


@pytest.mark.requirement("T9", "CL-24")
def test_others_who_wait_are_answered_when_whoever_began_to_ask_loses_the_right(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    asked, release = threading.Event(), threading.Event()

    def script(request: Request) -> Any:
        if request.body and request.json()["method"] == "server/discover":
            asked.set()
            assert release.wait(20)
        return legacy_server(request)

    upstream.script = script
    first, second = member_of(gateway, cast), caller_for(gateway, cast.server, cast.manager)
    with ThreadPoolExecutor(2) as pool:
        one = pool.submit(first.modern, "tools/list")
        assert asked.wait(20)
        other = pool.submit(second.modern, "tools/list")
        wait_until(lambda: methods(upstream.requests).count("tools/list") == 2, "both were refused")
        for _ in range(20):  # by then the gateway has read the second refusal too
            assert first.send("PUT").status == 405
        revoke_key(ApiKey.objects.get(owner=cast.member), actor="tests")
        lost = one.result(20)
        release.set()
        answered = other.result(20)
    # The refusal that was there already, or that of the gateway; never a connection that just ends.
    refused = legacy_server(upstream.requests[0]).status
    assert lost.status in (refused, 403)
    assert answered.status in (200, refused)
    assert answered.json()["jsonrpc"] == lost.json()["jsonrpc"] == "2.0"


@pytest.mark.requirement("T52", "CL-24")
@pytest.mark.parametrize("status", [401, 403, 407, 408, 429, 500, 503])
@pytest.mark.parametrize("known", [Eras.UNKNOWN, Eras.DUAL])
def test_an_outage_while_a_server_is_asked_changes_nothing_that_is_known(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, status: int, known: Server.Eras
) -> None:
    def script(request: Request) -> Any:
        if request.body and request.json()["method"] == "server/discover":
            return Answer(status, (("Content-Type", "application/json"),), b'{"error": {"code": -32601}}')
        return legacy_server(request)

    upstream.script = script
    if known:
        was_known(cast, known)
    refused = member_of(gateway, cast).modern("tools/list")
    assert refused.body == legacy_server(upstream.requests[0]).body
    assert methods(upstream.requests) == ["tools/list", "server/discover"]
    assert row(cast).eras == known


@pytest.mark.requirement("T52")
def test_an_outage_of_a_call_itself_is_no_reason_to_ask(gateway: LiveGateway, cast: Cast, upstream: Upstream) -> None:
    upstream.script = lambda _: Answer(503)
    caller = member_of(gateway, cast)
    assert caller.modern("tools/list").status == 502
    assert caller.post(INITIALIZE).status == 502
    assert methods(upstream.requests) == ["tools/list", "initialize"]
    assert row(cast).eras == Eras.UNKNOWN


@pytest.mark.requirement("T52", "CL-24")
def test_a_server_that_became_an_older_one_is_found_out_by_its_refusal(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    upstream.script = legacy_server
    was_known(cast, Eras.DUAL)
    caller = member_of(gateway, cast)
    assert caller.modern("tools/list").json()["result"]["tools"][0]["name"] == "echo"
    becomes(cast, Eras.LEGACY)


@pytest.mark.requirement("CL-24")
def test_a_server_that_became_a_new_one_is_found_out_in_the_same_request(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    upstream.script = modern_server
    was_known(cast, Eras.DUAL)
    assert member_of(gateway, cast).post(INITIALIZE).status == 200
    becomes(cast, Eras.MODERN)


def test_refusals_that_new_servers_give_are_no_reason_to_doubt_one(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    upstream.script = modern_server
    was_known(cast, Eras.MODERN)
    caller = member_of(gateway, cast)
    assert code(caller.modern("prompts/list")) == -32601
    upstream.script = lambda request: error(request, -32602, "Invalid params")
    assert code(caller.modern("tools/list", {"cursor": "x"})) == -32602
    assert methods(upstream.requests) == ["prompts/list", "tools/list"]


def test_a_server_that_speaks_neither_is_not_asked_for_every_refusal(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    upstream.script = lambda _: Answer(404, (("Content-Type", "text/plain"),), b"not here")
    caller = member_of(gateway, cast)
    for _ in range(3):
        assert caller.modern("tools/list").body == b"not here"
    assert methods(upstream.requests) == ["tools/list", "server/discover", "initialize", "tools/list", "tools/list"]
    assert row(cast).eras == Eras.UNKNOWN


def test_an_old_verdict_is_looked_at_again_while_it_still_serves(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    upstream.script = dual_server
    was_known(cast, Eras.LEGACY, hours=24)
    caller = member_of(gateway, cast)
    assert caller.modern("tools/call", {"name": "echo"}).json()["result"]["isError"] is False
    becomes(cast, Eras.DUAL)


# The row


@pytest.mark.requirement("T29")
def test_another_address_is_another_server(cast: Cast) -> None:
    speaking(cast.server, Eras.LEGACY)
    server = row(cast)
    server.name = "Renamed"
    server.save()
    assert (row(cast).eras, row(cast).versions) == (Eras.LEGACY, [LEGACY])
    server.url = "http://127.0.0.1:9/other"
    server.save(update_fields=["url"])
    assert (row(cast).eras, row(cast).eras_at, row(cast).versions) == (Eras.UNKNOWN, None, [])


def test_what_was_found_out_about_another_address_or_earlier_is_not_kept(cast: Cast) -> None:
    now = timezone.now().timestamp()
    assert eras.remember(cast.server.pk, url=cast.server.url, eras=Eras.DUAL, versions=[LEGACY], at=now)
    assert not eras.remember(cast.server.pk, url=cast.server.url, eras=Eras.LEGACY, versions=[], at=now - 1)
    assert not eras.remember(cast.server.pk, url="http://elsewhere/mcp", eras=Eras.LEGACY, versions=[], at=now + 1)
    assert row(cast).eras == Eras.DUAL


@pytest.mark.parametrize(
    ("script", "found"), [(legacy_server, "legacy"), (modern_server, "modern"), (dual_server, "dual")]
)
def test_a_connection_test_tells_the_eras(
    cast: Cast, upstream: Upstream, script: Callable[[Request], Any], found: str
) -> None:
    upstream.script = script
    result = probe(shared_target(row(cast)))
    assert (result.ok, result.eras) == (True, found)
    assert result.legacy_versions == (() if found == "modern" else (LEGACY,))


@pytest.mark.requirement("T52")
def test_a_connection_test_that_saw_one_half_tells_no_eras(cast: Cast, upstream: Upstream) -> None:
    def script(request: Request) -> Any:
        if request.body and request.json()["method"] == "server/discover":
            return Answer(503)
        return legacy_server(request)

    upstream.script = script
    result = probe(shared_target(row(cast)))
    assert (result.ok, result.eras) == (True, "")
