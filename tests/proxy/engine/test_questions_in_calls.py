"""A member asks in the middle of a call: what reaches the client, and its answer (the matrix of virtual servers)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError, types
from mcp.client.streamable_http import streamable_http_client
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from pydantic import BaseModel

from authflows.models import PassedAnswer
from servers.models import Server
from tests.conftest import Cast
from tests.support.calls import LEGACY, Caller, caller_for, message, tool_call
from tests.support.gateway import LiveGateway
from tests.support.mcp_upstream import App, legacy_only, modern_only, serving
from tests.support.process_gateway import ProcessGateway
from tests.support.raw_http import RawConnection, Response, encoded
from tests.support.virtual import add_server, set_catalogue, tool, virtual_server


class Name(BaseModel):
    name: str


class Login(BaseModel):
    password: str


def inquisitive() -> App:
    """A server whose tools ask: by requests of its own where the client is old, by its result where it is new."""
    server = MCPServer("Inquisitive")

    @server.tool()
    async def greet(context: Context) -> Any:
        """Asks for a name."""
        return await _asked(context, "Who are you?", Name, lambda answer: f"Hello, {answer['name']}")

    @server.tool()
    async def log_in(context: Context) -> Any:
        """Asks for a password, which no server should."""
        return await _asked(context, "Log in", Login, lambda answer: f"{len(answer['password'])} letters")

    return server.streamable_http_app()


async def _asked(context: Context, message: str, schema: type[BaseModel], then: Any) -> Any:
    if context.session.protocol_version >= "2026":
        responses = context.input_responses
        if not responses:
            params = {"mode": "form", "message": message, "requestedSchema": schema.model_json_schema()}
            requests = {"question": {"method": "elicitation/create", "params": params}}
            asks = {"resultType": "input_required", "inputRequests": requests, "requestState": "half way"}
            return types.InputRequiredResult.model_validate(asks)
        answer = responses["question"]
        assert context.request_state == "half way"
        return then(answer.content) if answer.action == "accept" else f"They said {answer.action}"
    result = await context.elicit(message, schema)
    return then(result.data.model_dump()) if result.action == "accept" else f"They said {result.action}"


@pytest.fixture(params=["legacy", "modern"])
def member(request: pytest.FixtureRequest, cast: Cast, gateway: LiveGateway) -> Iterator[Server]:
    """A virtual server with one member that asks."""
    only = {"legacy": legacy_only, "modern": modern_only}[request.param]
    with serving(only(inquisitive())) as url:
        server = add_server(cast, "host", url, eras=request.param)
        set_catalogue(server, {"tool": [tool("greet"), tool("log_in")]})
        yield virtual_server(cast, (server, "host"))


@asynccontextmanager
async def client_of(gateway: LiveGateway, cast: Cast, server: Server, mode: Any, **options: Any) -> Any:
    """The SDK's client as the member of the cast."""
    caller = caller_for(gateway, server, cast.member)
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {caller.key}"}, timeout=40) as http,
        Client(streamable_http_client(caller.url, http_client=http), mode=mode, **options) as client,
    ):
        yield client


def call(gateway: LiveGateway, cast: Cast, server: Server, mode: Any, name: str, **options: Any) -> Any:
    """One call with the SDK's client."""

    async def run() -> Any:
        async with client_of(gateway, cast, server, mode, **options) as client:
            try:
                return await client.call_tool(name, {})
            except MCPError as error:
                return error

    return asyncio.run(run())


def speaks(member: Server) -> str:
    """The era of the virtual server's only member."""
    return member.members.get().server.eras


async def ada(context: Any, params: Any) -> types.ElicitResult:
    """A person who answers."""
    return types.ElicitResult(action="accept", content={"name": "Ada", "password": "open"})


def text_of(result: Any) -> str:
    """The text of a tool's result."""
    text: str = result.content[0].text
    return text


@pytest.mark.requirement("F-605", "F-702", "T33")
@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
def test_a_question_reaches_the_client_and_its_answer_the_member(
    gateway: LiveGateway, cast: Cast, member: Server, mode: Any
) -> None:
    asked: list[str] = []

    async def answer(context: Any, params: Any) -> types.ElicitResult:
        asked.append(params.message)
        return await ada(context, params)

    result = call(gateway, cast, member, mode, "host__greet", elicitation_callback=answer)
    if mode != "legacy" and speaks(member) == "legacy":
        # The member was told that its client cannot be asked, so it said so by itself.
        assert result.is_error
        assert not asked
        return
    assert text_of(result) == "Hello, Ada"
    assert asked == ["Host: Who are you?"]


@pytest.mark.requirement("F-702")
def test_what_a_person_declines_is_declined_at_the_member(gateway: LiveGateway, cast: Cast, member: Server) -> None:
    async def no(context: Any, params: Any) -> types.ElicitResult:
        return types.ElicitResult(action="decline")

    result = call(gateway, cast, member, "legacy", "host__greet", elicitation_callback=no)
    assert text_of(result) == "They said decline"


@pytest.mark.requirement("T48")
def test_a_form_that_asks_for_a_password_comes_with_a_warning(gateway: LiveGateway, cast: Cast, member: Server) -> None:
    asked: list[str] = []

    async def careful(context: Any, params: Any) -> types.ElicitResult:
        asked.append(params.message)
        return types.ElicitResult(action="decline")

    call(gateway, cast, member, "legacy", "host__log_in", elicitation_callback=careful)
    assert len(asked) == 1
    assert "what looks like a secret" in asked[0]


@pytest.mark.requirement("CL-27", "F-702")
def test_a_member_is_told_that_nobody_can_be_asked_where_the_client_cannot(
    gateway: LiveGateway, cast: Cast, member: Server
) -> None:
    result = call(gateway, cast, member, "legacy", "host__greet")
    assert "cannot be asked" in (str(result) if isinstance(result, MCPError) else text_of(result))


# By hand, as a client would not


def _posted(caller: Caller, body: dict[str, Any], session: str) -> Response:
    headers = [("Mcp-Session-Id", session), ("MCP-Protocol-Version", LEGACY)]
    return caller.post(body, headers)


class Asked:
    """A call of an older client that waits for the answer to a question; a context manager."""

    def __init__(self, caller: Caller) -> None:
        capabilities = {"elicitation": {}}
        params = {"protocolVersion": LEGACY, "capabilities": capabilities, "clientInfo": {"name": "t", "version": "1"}}
        self.session = caller.post(message("initialize", params)).header("Mcp-Session-Id") or ""
        self.stream = RawConnection(caller.url)
        body = json.dumps(tool_call("host__greet", id=7)).encode()
        headers = [*caller.headers, ("Mcp-Session-Id", self.session), ("MCP-Protocol-Version", LEGACY)]
        self.stream.send(encoded("POST", caller.url, headers, body))
        self.number = re.findall(r'"id":"(gw-[^"]+)"', self.until("elicitation/create"))[-1]

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    @property
    def answer(self) -> dict[str, Any]:
        """What the client says."""
        return {"jsonrpc": "2.0", "id": self.number, "result": {"action": "accept", "content": {"name": "Ada"}}}

    def until(self, text: str) -> str:
        """The line of the stream that holds this text."""
        while text not in (line := self.stream.line().decode()):
            assert line, "the stream has ended"
        return line

    def result(self) -> str:
        """What comes of the call in the end."""
        return self.until('"id":7')


@pytest.mark.requirement("T47")
def test_an_answer_of_another_session_is_none(gateway: LiveGateway, cast: Cast, member: Server) -> None:
    caller = caller_for(gateway, member, cast.member)
    with Asked(caller) as asked:
        assert _posted(caller, {**asked.answer, "result": {"action": "decline"}}, caller.open_session()).status == 202
        assert _posted(caller, asked.answer, asked.session).status == 202
        assert "Hello, Ada" in asked.result()


@pytest.mark.requirement("F-704", "F-702")
def test_an_answer_may_come_to_another_process(gateway: LiveGateway, cast: Cast, member: Server) -> None:
    caller = caller_for(gateway, member, cast.member)
    with Asked(caller) as asked, ProcessGateway(PUBLIC_URL=gateway.origin) as other:
        elsewhere = Caller(f"{other.origin}{member.mcp_path}", caller.key)
        assert _posted(elsewhere, asked.answer, asked.session).status == 202
        assert "Hello, Ada" in asked.result()
    assert not PassedAnswer.objects.exists()
