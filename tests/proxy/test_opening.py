"""A server whose person is not connected yet opens and lists all the same, and its sessions go on afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from authflows.models import Connection, MemberSession
from servers import changes
from servers.models import Server
from tests.conftest import Cast, allow_private
from tests.proxy.test_connected_calls import asked_to_connect
from tests.proxy.test_not_connected import ask, messages_of, open_session, toolbox, waiting_streams
from tests.proxy.wire import wait_until
from tests.support.calls import LEGACY, MODERN, Caller, caller_for, member_of, message, speaking, tool_call
from tests.support.connected import Guarded, expire, guarded
from tests.support.gateway import LiveGateway
from tests.support.mcp_upstream import calculator, legacy_only, serving
from tests.support.raw_http import RawConnection, Response, encoded
from tests.support.upstream import Answer, Request, event, json_answer, mcp_server

KEY = "connect_calculator"
LIST = message("tools/list")
INITIALIZED = {"jsonrpc": "2.0", "method": "notifications/initialized"}


@pytest.fixture
def drive(cast: Cast) -> Iterator[Guarded]:
    with guarded(cast) as found:
        yield found


def initialize(caller: Caller, version: str = LEGACY) -> Response:
    info = {"name": "test", "version": "1"}
    parameters = {"protocolVersion": version, "capabilities": {"roots": {}}, "clientInfo": info}
    return caller.post(message("initialize", parameters))


def tools(response: Response) -> list[str]:
    return [tool["name"] for tool in response.json()["result"]["tools"]]


# Answers in the server's place


@pytest.mark.requirement("F-314")
@pytest.mark.parametrize("version", [LEGACY, "2025-06-18", "2025-03-26", "1999-01-01"])
def test_a_session_opens(gateway: LiveGateway, cast: Cast, drive: Guarded, version: str) -> None:
    response = initialize(member_of(gateway, cast), version)
    result = response.json()["result"]
    assert result["protocolVersion"] == (version if version != "1999-01-01" else LEGACY)
    assert result["serverInfo"]["name"] == "Calculator"
    assert set(result["capabilities"]) == {"tools", "prompts", "resources"}
    assert response.header("Mcp-Session-Id")
    assert drive.upstream.requests == []


@pytest.mark.requirement("F-314")
def test_everything_that_opens_or_lists_is_answered_in_an_older_session(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    caller = member_of(gateway, cast)
    session = open_session(caller, LEGACY, {})

    def result(method: str) -> Any:
        response = caller.post(message(method, {}), session)
        assert response.status == 200
        return response.json()["result"]

    assert caller.post(INITIALIZED, session).status == 202
    [tool] = result("tools/list")["tools"]
    assert tool["name"] == KEY
    assert tool["inputSchema"]["type"] == "object"
    assert result("prompts/list") == {"prompts": []}
    assert result("resources/list") == {"resources": []}
    assert result("resources/templates/list") == {"resourceTemplates": []}
    assert result("ping") == {}
    unknown = caller.post(message("tasks/list", {}), session)
    assert (unknown.status, unknown.json()["error"]["code"]) == (200, -32601)
    asked_to_connect(caller.post(tool_call(KEY), session))
    assert caller.send("DELETE", session).status == 204
    assert drive.upstream.requests == []
    assert not MemberSession.objects.exists()


@pytest.mark.requirement("F-314")
def test_everything_that_opens_or_lists_is_answered_in_the_modern_way(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    caller = member_of(gateway, cast)
    discovered = ask(caller, "server/discover").json()["result"]
    assert discovered["supportedVersions"][0] == MODERN
    assert discovered["resultType"] == "complete"
    for method, name in (("tools/list", "tools"), ("prompts/list", "prompts"), ("resources/list", "resources")):
        result = ask(caller, method).json()["result"]
        assert (result["resultType"], result["ttlMs"], result["cacheScope"]) == ("complete", 0, "private")
        assert [item["name"] for item in result[name]] == ([KEY] if name == "tools" else [])
    unknown = ask(caller, "tasks/get", taskId="1")
    assert (unknown.status, unknown.json()["error"]["code"]) == (404, -32601)
    assert ask(caller, "ping").status == 404
    assert drive.upstream.requests == []


@pytest.mark.requirement("T52", "F-314")
@pytest.mark.parametrize(
    ("eras", "path", "refused", "supported"),
    [
        (Server.Eras.LEGACY, Server.Path.AUTO, "server/discover", [LEGACY]),
        (Server.Eras.LEGACY, Server.Path.TRANSPARENT, "server/discover", [LEGACY]),
        (Server.Eras.MODERN, Server.Path.TRANSPARENT, "initialize", [MODERN]),
        # What the engine translates is promised.
        (Server.Eras.MODERN, Server.Path.AUTO, "", []),
        (Server.Eras.LEGACY, Server.Path.ENGINE, "", []),
        (Server.Eras.DUAL, Server.Path.AUTO, "", []),
    ],
)
def test_an_era_that_the_server_is_known_not_to_speak_is_not_promised(
    gateway: LiveGateway, cast: Cast, drive: Guarded, eras: Server.Eras, path: str, refused: str, supported: list[str]
) -> None:
    Server.objects.filter(pk=cast.server.pk).update(path=path)
    speaking(cast.server, eras)
    caller = member_of(gateway, cast)
    answers = {"server/discover": ask(caller, "server/discover"), "initialize": initialize(caller)}
    if refused:
        error = answers.pop(refused)
        assert (error.status, error.json()["error"]["code"]) == (400, -32022)
        assert error.json()["error"]["data"]["supported"] == supported
    assert {answer.status for answer in answers.values()} == {200}
    assert drive.upstream.requests == []


@pytest.mark.requirement("F-314")
def test_a_long_name_gives_a_tool_that_clients_accept(gateway: LiveGateway, cast: Cast, drive: Guarded) -> None:
    cast.server.slug = "a-" * 30 + "b"
    Server.objects.filter(pk=cast.server.pk).update(slug=cast.server.slug)
    changes.forget_everything()
    [name] = tools(member_of(gateway, cast).post(LIST))
    assert len(name) == 64
    assert name.replace("_", "").isalnum()


@pytest.mark.requirement("F-314")
def test_a_stream_stays_open_and_says_when_there_is_something_else_to_list(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    caller = member_of(gateway, cast)
    session = open_session(caller, LEGACY, {})
    with RawConnection(gateway.origin) as listening:
        listening.send(encoded("GET", caller.url, [*caller.headers, *session]))
        wait_until(lambda: waiting_streams() == 1, "the stream")
        drive.connect(cast.member)
        said = listening.read()
    assert said.header("content-type") == "text/event-stream"
    assert messages_of(said) == [{"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}]
    assert drive.upstream.requests == []


# Sessions that go on


@pytest.mark.requirement("F-314", "F-704", "F-303")
def test_a_session_goes_on_with_the_server_once_its_person_is_connected(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    caller = member_of(gateway, cast)
    session = open_session(caller, LEGACY, {"roots": {}})
    asked_to_connect(caller.post(tool_call(), session))
    drive.connect(cast.member)
    response = caller.post(tool_call("echo", {"a": 1}), session)
    assert response.json()["result"]["content"][0]["text"] == '{"a": 1}'
    assert "mcp-session-id" not in response.names()
    opened, initialized, called = drive.upstream.requests
    assert opened.json()["params"] == {
        "protocolVersion": LEGACY,
        "capabilities": {"roots": {}},
        "clientInfo": {"name": "t", "version": "1"},
    }
    assert initialized.json() == INITIALIZED
    assert [request.header("mcp-session-id") for request in (opened, initialized, called)] == [
        None,
        "upstream-session-1",
        "upstream-session-1",
    ]
    assert tools(caller.post(LIST, session)) == ["echo"]
    assert len(drive.upstream.requests) == 4
    assert "upstream-session" not in json.dumps(list(MemberSession.objects.values()), default=str)


@pytest.mark.requirement("F-704")
def test_any_replica_goes_on_with_it(gateway: LiveGateway, cast: Cast, drive: Guarded) -> None:
    caller = member_of(gateway, cast)
    session = open_session(caller, LEGACY, {})
    drive.connect(cast.member)
    with LiveGateway() as other:
        elsewhere = Caller(other.mcp_url(cast.server), caller.key)
        assert tools(elsewhere.post(LIST, session)) == ["echo"]
        assert tools(caller.post(LIST, session)) == ["echo"]
    methods = [request.json()["method"] for request in drive.upstream.requests]
    assert methods == ["initialize", "notifications/initialized", "tools/list", "tools/list"]
    assert {request.header("mcp-session-id") for request in drive.upstream.requests} == {None, "upstream-session-1"}


@pytest.mark.requirement("T54")
def test_requests_that_come_at_once_open_one_session(gateway: LiveGateway, cast: Cast, drive: Guarded) -> None:
    caller = member_of(gateway, cast)
    session = open_session(caller, LEGACY, {})
    drive.connect(cast.member)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: tools(caller.post(LIST, session)), range(10)))
    assert answers == [["echo"]] * 10
    opened = [request for request in drive.upstream.requests if request.json()["method"] == "initialize"]
    assert len(opened) == 1


@pytest.mark.requirement("F-314")
def test_the_connect_tool_says_that_all_is_done(gateway: LiveGateway, cast: Cast, drive: Guarded) -> None:
    caller = member_of(gateway, cast)
    session = open_session(caller, LEGACY, {})
    drive.connect(cast.member)
    for response in (caller.post(tool_call(KEY), session), caller.modern("tools/call", {"name": KEY})):
        result = response.json()["result"]
        assert result["isError"] is False
        assert "List the tools again" in result["content"][0]["text"]
    assert drive.upstream.requests == []


@pytest.mark.requirement("F-701")
def test_in_a_session_of_the_servers_own_that_name_is_the_servers(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    drive.connect(cast.member)
    caller = member_of(gateway, cast)
    session = open_session(caller, LEGACY, {})
    caller.post(tool_call(KEY), session)
    assert drive.upstream.requests[-1].json()["params"]["name"] == KEY


@pytest.mark.requirement("F-314")
def test_the_server_is_told_the_version_that_it_agreed_to(gateway: LiveGateway, cast: Cast, drive: Guarded) -> None:
    def older(request: Request) -> Any:
        answer = mcp_server(request)
        if request.json().get("method") == "initialize":
            result = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "o", "version": "1"}}
            body = {"jsonrpc": "2.0", "id": request.json()["id"], "result": result}
            return Answer(200, (("Content-Type", "text/event-stream"), ("Mcp-Session-Id", "s")), event(body))
        return answer

    drive.script = older
    caller = member_of(gateway, cast)
    session = open_session(caller, LEGACY, {})
    drive.connect(cast.member)
    caller.post(LIST, session)
    assert [request.header("mcp-protocol-version") for request in drive.upstream.requests] == [
        None,
        "2025-06-18",
        "2025-06-18",
    ]


@pytest.mark.requirement("F-314")
def test_a_server_without_sessions_is_called_without_one(gateway: LiveGateway, cast: Cast, drive: Guarded) -> None:
    def plain(request: Request) -> Any:
        answer = mcp_server(request)
        kept = tuple(pair for pair in answer.headers if pair[0].lower() != "mcp-session-id")
        return Answer(answer.status, kept, answer.body)

    drive.script = plain
    caller = member_of(gateway, cast)
    session = open_session(caller, LEGACY, {})
    drive.connect(cast.member)
    for _ in range(2):
        assert tools(caller.post(LIST, session)) == ["echo"]
    assert {request.header("mcp-session-id") for request in drive.upstream.requests} == {None}
    assert len(drive.upstream.requests) == 4


@pytest.mark.requirement("CL-21", "F-314")
def test_a_token_that_is_refused_at_the_opening_is_renewed_too(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    caller = member_of(gateway, cast)
    session = open_session(caller, LEGACY, {})
    drive.connect(cast.member)
    drive.refused.add(drive.token_of(cast.member))
    assert tools(caller.post(LIST, session)) == ["echo"]
    assert drive.refreshes() == 1


@pytest.mark.requirement("F-314", "T52")
@pytest.mark.parametrize("answer", [Answer(500), Answer(400), json_answer({"jsonrpc": "2.0", "id": 1, "error": {}})])
def test_a_server_that_does_not_open_is_an_outage_and_may_open_later(
    gateway: LiveGateway, cast: Cast, drive: Guarded, answer: Answer
) -> None:
    caller = member_of(gateway, cast)
    session = open_session(caller, LEGACY, {})
    drive.connect(cast.member)
    drive.script = lambda _: answer
    response = caller.post(LIST, session)
    assert (response.status, response.json()["error"]["code"]) == (502, 1502)
    drive.script = mcp_server
    assert tools(caller.post(LIST, session)) == ["echo"]


@pytest.mark.requirement("F-314")
def test_a_session_lists_again_as_before_when_its_person_is_no_longer_connected(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    drive.connect(cast.member)
    caller = member_of(gateway, cast)
    session = open_session(caller, LEGACY, {})
    expire(Connection.objects.get())
    Connection.objects.all().delete()
    assert tools(caller.post(LIST, session)) == [KEY]
    asked_to_connect(caller.post(tool_call(), session))


@pytest.mark.requirement("SE-4", "T40", "SE-5")
def test_such_a_session_is_as_bound_as_any_other(gateway: LiveGateway, cast: Cast, drive: Guarded) -> None:
    caller = member_of(gateway, cast)
    session = open_session(caller, LEGACY, {})
    strangers = [caller_for(gateway, cast.server, cast.manager), member_of(gateway, cast)]
    for stranger in strangers:
        assert stranger.post(LIST, session).status == 404
    drive.connect(cast.member, account="first")
    drive.connect(cast.manager)
    for stranger in strangers:
        assert stranger.post(LIST, session).status == 404
    assert caller.post(LIST, session).status == 200
    drive.connect(cast.member, account="second")
    response = caller.post(LIST, session)
    assert (response.status, response.json()["error"]["code"]) == (404, 1440)


@pytest.mark.requirement("SE-6")
def test_such_a_session_ends_with_its_row(gateway: LiveGateway, cast: Cast, drive: Guarded) -> None:
    caller = member_of(gateway, cast)
    session = open_session(caller, LEGACY, {})
    drive.connect(cast.member)
    MemberSession.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert caller.post(LIST, session).status == 404
    assert drive.upstream.requests == []


@pytest.mark.requirement("SE-10")
def test_the_end_of_such_a_session_reaches_the_server(gateway: LiveGateway, cast: Cast, drive: Guarded) -> None:
    caller = member_of(gateway, cast)
    session = open_session(caller, LEGACY, {})
    drive.connect(cast.member)
    caller.post(LIST, session)
    assert caller.send("DELETE", session).status == 200
    assert drive.upstream.requests[-1].header("mcp-session-id") == "upstream-session-1"


# The SDK's own client


@pytest.mark.requirement("F-314", "F-303", "F-704")
@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_sdks_client_stays_open_while_its_person_connects(
    gateway: LiveGateway, cast: Cast, drive: Guarded, mode: Any
) -> None:
    key = member_of(gateway, cast).key

    async def use() -> Any:
        async with toolbox(gateway, cast, key, mode=mode) as client:
            assert (client.protocol_version == MODERN) == (mode == "auto")
            assert [tool.name for tool in (await client.list_tools()).tools] == [KEY]
            refused = await client.call_tool(KEY, {})
            assert refused.is_error is True
            assert "/connect/" in refused.content[0].text
            await asyncio.to_thread(drive.connect, cast.member)
            assert sorted(tool.name for tool in (await client.list_tools()).tools) == ["add", "subtract"]
            return await client.call_tool("add", {"a": 2, "b": 3})

    app = calculator() if mode == "auto" else legacy_only(calculator())
    with serving(drive.guard(app)) as url:
        allow_private(url)
        Server.objects.filter(pk=cast.server.pk).update(url=url)
        result = asyncio.run(use())
    assert result.structured_content == {"result": 5}
