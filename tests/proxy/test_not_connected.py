"""What a client hears whose person has to connect an account first, in each of the ways that clients can take it."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from django.utils import timezone
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import ElicitResult

from authflows.inbound.api_keys import create_key
from authflows.inbound.virtual_accounts import create_virtual_account
from authflows.models import Connection, ConnectLink
from proxy import not_connected, runtime
from servers.models import AccessRule, AuthConfig, Role, Server
from tests.conftest import Cast, allow_private
from tests.proxy.test_connected_calls import asked_to_connect, lacking, told
from tests.proxy.wire import wait_until
from tests.support.calls import (
    CAPABILITIES_KEY,
    LEGACY,
    MODERN,
    VERSION_KEY,
    Caller,
    caller_for,
    member_of,
    message,
    modern_headers,
    speaking,
    tool_call,
)
from tests.support.connected import Guarded, guarded
from tests.support.gateway import LiveGateway
from tests.support.mcp_upstream import calculator, serving
from tests.support.raw_http import Response
from tests.support.upstream import mcp_server

OPENS_PAGES = {"elicitation": {"url": {}}}
FORMS_ONLY = {"elicitation": {"form": {}}}
KEY = "connect_calculator"
PARAMETERS = {
    "tools/call": {"name": "echo", "arguments": {"a": 1}},
    "prompts/get": {"name": "greet"},
    "resources/read": {"uri": "file:///a"},
}
every_asking_method = pytest.mark.parametrize("method", PARAMETERS)


@pytest.fixture
def drive(cast: Cast) -> Iterator[Guarded]:
    with guarded(cast) as found:
        speaking(cast.server)
        yield found


def ask(
    caller: Caller, method: str = "tools/call", *, capabilities: dict[str, Any] | None = None, id: Any = 11, **more: Any
) -> Response:
    """A 2026-07-28 request of a client that declares these capabilities."""
    meta = {VERSION_KEY: MODERN, CAPABILITIES_KEY: OPENS_PAGES if capabilities is None else capabilities}
    body = message(method, {**PARAMETERS.get(method, {}), "_meta": meta, **more}, id=id)
    return caller.post(body, modern_headers(body))


def again(caller: Caller, first: Response, action: str | None = "accept", *, id: Any = 12, **more: Any) -> Response:
    """The same request once more, with what became of the page."""
    responses = {"inputResponses": {KEY: {"action": action}}} if action else {}
    return ask(caller, id=id, **{**responses, "requestState": first.json()["result"]["requestState"], **more})


def link() -> ConnectLink:
    return ConnectLink.objects.get()


def messages_of(response: Response) -> list[Any]:
    """The messages of an event stream."""
    assert response.header("content-type") == "text/event-stream"
    return [json.loads(data) for data in re.findall(rb"^data: (.*)$", response.body, re.MULTILINE)]


# 2026-07-28


@pytest.mark.requirement("F-314")
@every_asking_method
def test_a_modern_client_that_opens_pages_is_given_one_to_open(
    gateway: LiveGateway, cast: Cast, drive: Guarded, method: str
) -> None:
    response = ask(member_of(gateway, cast), method)
    assert response.status == 200
    answer = response.json()
    state = answer["result"].pop("requestState")
    assert answer == {
        "jsonrpc": "2.0",
        "id": 11,
        "result": {
            "resultType": "input_required",
            "inputRequests": {
                KEY: {
                    "method": "elicitation/create",
                    "params": {
                        "mode": "url",
                        "message": "Calculator is not connected to your account yet. Open this page to connect it, "
                        "then continue.",
                        "url": f"{gateway.origin}/connect/{link().pk}",
                    },
                }
            },
        },
    }
    assert "member" not in state
    assert link().user == cast.member
    assert link().server == cast.server
    assert drive.upstream.requests == []


@pytest.mark.requirement("F-314")
@pytest.mark.parametrize("capabilities", [{}, {"elicitation": {}}, FORMS_ONLY, {"elicitation": {"url": True}}])
def test_a_modern_client_that_does_not_is_told_the_address_in_words(
    gateway: LiveGateway, cast: Cast, drive: Guarded, capabilities: dict[str, Any]
) -> None:
    response = ask(member_of(gateway, cast), capabilities=capabilities)
    url = f"{gateway.origin}/connect/{link().pk}"
    assert response.json() == {
        "jsonrpc": "2.0",
        "id": 11,
        "result": {
            "content": [
                {
                    "type": "text",
                    "text": f"Calculator is not connected to your account yet. Ask the user to open {url} in a "
                    "browser where they are signed in to connect it, and to repeat the request afterwards. This link "
                    "works only for the user who made this request and expires in 15 minutes.",
                }
            ],
            "isError": True,
            "_meta": {
                "gatehouse/connect": {
                    "url": url,
                    "server": "calculator",
                    "expiresAt": link().expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
                }
            },
            "resultType": "complete",
        },
    }


@pytest.mark.requirement("F-314")
def test_who_comes_back_connected_gets_the_answer_of_the_server(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    caller = member_of(gateway, cast)
    first = ask(caller)
    drive.connect(cast.member)
    second = again(caller, first)
    assert second.json()["result"]["content"][0]["text"] == '{"a": 1}'
    [seen] = drive.upstream.requests
    sent = seen.json()
    assert sent["id"] == 12
    assert set(sent["params"]) == {"name", "arguments", "_meta"}
    assert b"requestState" not in seen.raw


@pytest.mark.requirement("F-314")
def test_who_comes_back_early_is_waited_for_on_a_stream_and_told_to_send_it_again(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    caller = member_of(gateway, cast)
    first = ask(caller)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(again, caller, first)
        wait_until(lambda: waiting_streams() == 1, "the stream")
        drive.connect(cast.member)
        response = waiting.result()
    [answer] = messages_of(response)
    assert set(answer["result"]) == {"resultType", "requestState"}
    assert answer["result"]["resultType"] == "input_required"
    assert drive.upstream.requests == []
    body = {**PARAMETERS["tools/call"], "requestState": answer["result"]["requestState"]}
    assert "isError" in ask(caller, id=13, **body).json()["result"]
    assert len(drive.upstream.requests) == 1


def waiting_streams() -> int:
    """How many streams wait for their person, anywhere in this process."""
    return sum(bool(call.waiting) for here in list(runtime._runtimes.values()) for call in here.in_flight._calls)


@pytest.mark.requirement("F-314")
def test_the_same_page_is_asked_for_five_times_and_then_no_more(
    gateway: LiveGateway, cast: Cast, drive: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(not_connected, "WAIT_SECONDS", 0.05)
    caller = member_of(gateway, cast)
    response = ask(caller)
    urls = [response.json()["result"]["inputRequests"][KEY]["params"]["url"]]
    state = response.json()["result"]["requestState"]
    for number in range(10):
        body = {"inputResponses": {KEY: {"action": "accept"}}, "requestState": state}
        [answer] = messages_of(ask(caller, id=number + 20, **body))
        assert answer["id"] == number + 20
        if answer["result"]["resultType"] == "complete":
            break
        urls.append(answer["result"]["inputRequests"][KEY]["params"]["url"])
        state = answer["result"]["requestState"]
    assert urls == [f"{gateway.origin}/connect/{link().pk}"] * 5
    assert answer["result"]["isError"] is True
    assert urls[0] in answer["result"]["content"][0]["text"]


@pytest.mark.requirement("F-314")
@pytest.mark.parametrize("action", ["decline", "cancel"])
@pytest.mark.parametrize("connected", [False, True])
def test_a_no_is_a_no(gateway: LiveGateway, cast: Cast, drive: Guarded, action: str, connected: bool) -> None:
    caller = member_of(gateway, cast)
    first = ask(caller)
    if connected:
        drive.connect(cast.member)
    text = told(again(caller, first, action))
    assert "chose not to connect" in text
    assert "/connect/" not in text
    assert drive.upstream.requests == []


@pytest.mark.requirement("F-314")
def test_without_a_word_about_the_page_it_is_asked_for_again(gateway: LiveGateway, cast: Cast, drive: Guarded) -> None:
    caller = member_of(gateway, cast)
    first = ask(caller)
    second = again(caller, first, None).json()["result"]
    assert second["inputRequests"] == first.json()["result"]["inputRequests"]


@pytest.mark.requirement("T43", "SE-1")
@pytest.mark.parametrize("connected", [False, True])
def test_a_state_is_good_for_its_own_person_key_server_and_request_only(
    gateway: LiveGateway, cast: Cast, drive: Guarded, connected: bool
) -> None:
    caller = member_of(gateway, cast)
    first = ask(caller)
    state = first.json()["result"]["requestState"]
    other = Server.objects.create(tenant=cast.tenant, slug="other", name="Other", url=drive.upstream.url)
    config = AuthConfig.objects.get(server=cast.server)
    AuthConfig.objects.create(server=other, method=config.method, settings=config.settings)
    AccessRule.objects.create(server=other, team=cast.readers, role=Role.USER)
    if connected:
        drive.connect(cast.member)
        drive.connect(cast.manager)
    tampered = state[:-2] + ("AA" if state[-2:] != "AA" else "BB")
    wrong = {
        "another person": again(caller_for(gateway, cast.server, cast.manager), first),
        "another key": again(member_of(gateway, cast), first),
        "another server": again(Caller(gateway.mcp_url(other), caller.key), first),
        "other arguments": again(caller, first, arguments={"a": 2}),
        "another method": ask(caller, "prompts/get", requestState=state),
        "edited": again(caller, first, requestState=tampered),
        "made up": again(caller, first, requestState="gatehouse-connect:v1:k:AAAA"),
    }
    for why, response in wrong.items():
        assert response.json()["error"]["code"] == -32602, why
    assert drive.upstream.requests == []


@pytest.mark.requirement("T43")
def test_a_state_expires(gateway: LiveGateway, cast: Cast, drive: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = member_of(gateway, cast)
    first = ask(caller)
    monkeypatch.setattr(not_connected, "time", lambda: time.time() + 16 * 60)
    assert again(caller, first).json()["error"]["code"] == -32602


@pytest.mark.requirement("F-701")
def test_a_state_of_the_server_itself_passes_untouched(gateway: LiveGateway, cast: Cast, drive: Guarded) -> None:
    drive.connect(cast.member)
    ask(member_of(gateway, cast), requestState="the server's own", inputResponses={"q": {"action": "accept"}})
    [seen] = drive.upstream.requests
    assert seen.json()["params"]["requestState"] == "the server's own"
    assert seen.json()["params"]["inputResponses"] == {"q": {"action": "accept"}}


@pytest.mark.requirement("CL-13", "F-314")
def test_a_scope_that_is_lacking_is_asked_for_in_the_same_way_and_the_call_runs_afterwards(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    drive.connect(cast.member, account="ada")
    drive.script = lambda _: lacking("files.write")
    caller = member_of(gateway, cast)
    first = ask(caller)
    assert "files.write" in first.json()["result"]["inputRequests"][KEY]["params"]["message"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(again, caller, first)
        wait_until(lambda: waiting_streams() == 1, "the stream")
        assert len(drive.upstream.requests) == 1  # not sent again with the same rights
        drive.script = mcp_server
        drive.connect(cast.member, account="ada")
        [answer] = messages_of(waiting.result())
    assert set(answer["result"]) == {"resultType", "requestState"}
    assert "isError" in ask(caller, id=13, requestState=answer["result"]["requestState"]).json()["result"]


# Older clients


def open_session(caller: Caller, version: str, capabilities: dict[str, Any]) -> list[tuple[str, str]]:
    parameters = {"protocolVersion": version, "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"}}
    response = caller.post(message("initialize", parameters))
    assert response.status == 200, response.body
    assert response.json()["result"]["protocolVersion"] == version
    session = response.header("Mcp-Session-Id")
    assert session is not None
    return [("Mcp-Session-Id", session), ("MCP-Protocol-Version", version)]


@pytest.mark.requirement("F-314")
@pytest.mark.parametrize("began", ["before", "while connected"])
@every_asking_method
def test_a_client_of_2025_11_25_that_opens_pages_gets_its_error_for_that(
    gateway: LiveGateway, cast: Cast, drive: Guarded, began: str, method: str
) -> None:
    caller = member_of(gateway, cast)
    connection = drive.connect(cast.member) if began == "while connected" else None
    session = open_session(caller, LEGACY, OPENS_PAGES)
    if connection is not None:
        Connection.objects.all().delete()
    response = caller.post(message(method, PARAMETERS[method], id=11), session)
    assert response.status == 200
    answer = response.json()
    [elicitation] = answer["error"]["data"]["elicitations"]
    assert elicitation.pop("elicitationId").startswith("el_")
    assert elicitation == {
        "mode": "url",
        "url": f"{gateway.origin}/connect/{link().pk}",
        "message": "Calculator is not connected to your account yet. Open this page to connect it.",
    }
    assert (answer["id"], answer["error"]["code"]) == (11, -32042)


@pytest.mark.requirement("F-314")
@pytest.mark.parametrize(
    ("version", "capabilities"),
    [(LEGACY, {"elicitation": {}}), (LEGACY, FORMS_ONLY), ("2025-06-18", OPENS_PAGES), ("2025-03-26", {})],
)
def test_every_other_older_client_is_told_in_words(
    gateway: LiveGateway, cast: Cast, drive: Guarded, version: str, capabilities: dict[str, Any]
) -> None:
    caller = member_of(gateway, cast)
    session = open_session(caller, version, capabilities)
    text = asked_to_connect(caller.post(tool_call(), session))
    assert f"open {gateway.origin}/connect/{link().pk} in" in text
    response = caller.post(message("prompts/get", {"name": "greet"}), session)
    error = response.json()["error"]
    assert (response.status, error["code"]) == (200, 1428)
    assert error["data"]["url"] in error["message"]


@pytest.mark.requirement("F-314", "T39")
def test_each_call_of_a_batch_is_told(gateway: LiveGateway, cast: Cast, drive: Guarded) -> None:
    caller = member_of(gateway, cast)
    batch = [tool_call(id=1), message("tools/list", id=2), message("resources/subscribe", {"uri": "a:b"}, id=3)]
    answers = caller.post([*batch, {"jsonrpc": "2.0", "method": "notifications/initialized"}]).json()
    assert [answer["id"] for answer in answers] == [1, 2, 3]
    assert answers[0]["result"]["isError"] is True
    assert answers[1]["result"]["tools"]
    assert answers[2]["error"]["code"] == -32601


@pytest.mark.requirement("F-314")
def test_one_link_serves_all_answers_until_it_is_about_to_end(gateway: LiveGateway, cast: Cast, drive: Guarded) -> None:
    caller = member_of(gateway, cast)
    for _ in range(3):
        asked_to_connect(caller.post(tool_call()))
    assert ConnectLink.objects.count() == 1
    asked_to_connect(caller_for(gateway, cast.server, cast.manager).post(tool_call()))
    assert set(ConnectLink.objects.values_list("user", flat=True)) == {cast.member.pk, cast.manager.pk}
    ConnectLink.objects.update(expires_at=timezone.now() + timedelta(minutes=1))
    asked_to_connect(caller.post(tool_call()))
    assert ConnectLink.objects.filter(user=cast.member).count() == 2


@pytest.mark.requirement("F-314")
@pytest.mark.parametrize("capabilities", [{}, OPENS_PAGES])
def test_a_program_is_told_what_the_manager_can_do(
    gateway: LiveGateway, cast: Cast, drive: Guarded, capabilities: dict[str, Any]
) -> None:
    account = create_virtual_account(cast.tenant, name="night-shift", description="", actor="admin")
    AccessRule.objects.create(server=cast.server, user=account.user, role=Role.USER)
    _, key = create_key(owner=account.user, name="k", actor="admin")
    caller = Caller(gateway.mcp_url(cast.server), key)
    text = told(ask(caller, capabilities=capabilities))
    assert "night-shift" in text
    assert "manager of Calculator" in text
    assert "/connect/" not in text
    assert not ConnectLink.objects.exists()


@pytest.mark.requirement("F-314", "RS-12")
def test_who_has_no_right_is_not_told_of_connecting(gateway: LiveGateway, cast: Cast, drive: Guarded) -> None:
    response = caller_for(gateway, cast.server, cast.outsider).post(tool_call())
    assert response.status == 403
    assert not ConnectLink.objects.exists()


# The SDK's own client


@asynccontextmanager
async def toolbox(gateway: LiveGateway, cast: Cast, key: str, **options: Any) -> AsyncIterator[Client]:
    """The SDK's client, calling the cast's server."""
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=40) as http:
        transport = streamable_http_client(gateway.mcp_url(cast.server), http_client=http)
        async with Client(transport, **options) as client:
            yield client


@pytest.mark.requirement("F-314", "F-303")
def test_the_sdks_modern_client_opens_the_page_and_goes_on_by_itself(
    gateway: LiveGateway, cast: Cast, drive: Guarded
) -> None:
    key = member_of(gateway, cast).key
    opened: list[str] = []

    async def open_page(context: Any, params: Any) -> ElicitResult:
        opened.append(params.url)
        await asyncio.to_thread(drive.connect, cast.member)
        return ElicitResult(action="accept")

    async def use() -> Any:
        async with toolbox(gateway, cast, key, elicitation_callback=open_page) as client:
            assert client.protocol_version == MODERN
            assert [tool.name for tool in (await client.list_tools()).tools] == [KEY]
            return await client.call_tool("add", {"a": 2, "b": 3})

    with serving(drive.guard(calculator())) as url:
        Server.objects.filter(pk=cast.server.pk).update(url=url)
        allow_private(url)
        result = asyncio.run(use())
    assert result.is_error is False
    assert result.structured_content == {"result": 5}
    assert opened == [f"{gateway.origin}/connect/{link().pk}"]
