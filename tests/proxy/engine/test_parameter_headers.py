"""`Mcp-Param-*` headers that members want: made from the arguments, as the SDK makes them (CL-22, CL-23)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from mcp.shared.inbound import encode_header_value as sdk_encoded
from mcp.shared.inbound import mcp_param_headers, x_mcp_header_map

from proxy.engine.parameter_headers import annotated, parameter_headers
from proxy.header_values import encode_header_value
from servers.models import CatalogueItem
from tests.conftest import Cast
from tests.support.calls import caller_for, tool_call
from tests.support.gateway import LiveGateway
from tests.support.upstream import Answer, Request, Upstream, json_answer
from tests.support.virtual import add_server, set_catalogue, tool, virtual_server

NESTED: dict[str, Any] = {
    "type": "object",
    "properties": {
        "owner": {"type": "string", "x-mcp-header": "Owner"},
        "count": {"type": "integer", "x-mcp-header": "Count"},
        "sure": {"type": "boolean", "x-mcp-header": "Sure"},
        "place": {"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}},
        "plain": {"type": "string"},
    },
}
ARGUMENTS: list[Any] = [
    {"owner": "ada", "count": 3, "sure": True, "place": {"region": "north"}, "plain": "x"},
    {"owner": "\u00e1ckme", "count": 0, "sure": False},
    {"owner": " edge ", "place": {}},
    {"owner": None, "place": "nowhere", "count": 2**70},
    {"owner": "=?base64?eA==?=", "place": {"region": "a\r\nb: c"}},
    {"owner": ["a"], "count": {"a": 1}},
    {"owner": ""},
    {},
]


@pytest.mark.requirement("CL-22", "T53")
@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_the_headers_are_those_of_the_sdk(arguments: Any) -> None:
    ours = parameter_headers(annotated(json.dumps({"name": "t", "inputSchema": NESTED})), arguments)
    theirs = mcp_param_headers(x_mcp_header_map(NESTED), arguments)
    assert ours == {name.lower().encode(): value.encode() for name, value in theirs.items()}


@pytest.mark.requirement("CL-22")
@pytest.mark.parametrize(
    "text", ["", "plain", "with space", " edge", "tab\t", "\u00fc", "=?base64?eA==?=", "=?base64?", "a\nb"]
)
def test_values_are_encoded_as_the_sdk_does(text: str) -> None:
    assert encode_header_value(text) == sdk_encoded(text)


@pytest.mark.requirement("CL-23", "T50")
@pytest.mark.django_db(transaction=True)
def test_a_member_that_mirrors_other_parameters_by_now_is_read_again_and_asked_once_more(
    gateway: LiveGateway, cast: Cast
) -> None:
    now = {"type": "object", "properties": {"owner": {"type": "string", "x-mcp-header": "Owner"}}}
    ran: list[str | None] = []

    def strict(request: Request) -> Answer:
        sent = request.json()
        reply: dict[str, Any] = {"jsonrpc": "2.0", "id": sent.get("id")}
        complete: dict[str, Any] = {"resultType": "complete"}
        if sent["method"] == "server/discover":
            found = {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, "ttlMs": 0}
            return json_answer({**reply, "result": {**complete, **found}})
        if sent["method"] == "tools/list":
            return json_answer({**reply, "result": {**complete, "tools": [tool("create", inputSchema=now)]}})
        if request.header("Mcp-Param-Owner") is None:
            error = {"code": -32020, "message": "Header mismatch: Mcp-Param-Owner is missing"}
            return json_answer({**reply, "error": error}, 400)
        ran.append(request.header("Mcp-Param-Owner"))
        return json_answer({**reply, "result": {**complete, "content": []}})

    with Upstream(strict) as upstream:
        server = add_server(cast, "m", f"{upstream.origin}/mcp", eras="modern")
        set_catalogue(server, {"tool": [tool("create")]})
        caller = caller_for(gateway, virtual_server(cast, (server, "m")), cast.member)
        answer = caller.post(tool_call("m__create", {"owner": "ada"})).json()
    assert "isError" not in answer["result"], answer
    assert ran == ["ada"]
    assert "x-mcp-header" in CatalogueItem.objects.get(key="create").approved
