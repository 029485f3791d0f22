"""An MCP server with everything in it, on SDK 2.x: both protocol eras at one URL, and the conformance target.

    python everything2.py [--json] [--stateless] [--only older|modern]

Prints its URL as the first line.
"""

from __future__ import annotations

import argparse
import json
import warnings
from typing import Any

import fixtures
import tools2
from events import EventLog
from mcp import types
from mcp.server.caching import CacheHint
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.request_state import RequestStateBoundary, RequestStateSecurity
from mcp.server.streamable_http import EventMessage, EventStore
from mcp.server.subscriptions import ListenHandler
from mcp.shared.exceptions import MCPError
from witness import Witness, run


class Events(EventLog, EventStore):
    message_class = EventMessage


async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
    tools, following = fixtures.page(tools2.listed(), params and params.cursor, size=fixtures.PAGE)
    return types.ListToolsResult.model_validate({"tools": tools, "nextCursor": following})


async def list_resources(context: Any, params: Any) -> types.ListResourcesResult:
    resources = [
        {"uri": uri, "name": uri.split("//")[1], "mimeType": body["mimeType"], "size": len(body.get("text", ""))}
        for uri, body in fixtures.RESOURCES.items()
    ]
    resources[0]["description"] = fixtures.counting("resources", "Text")
    return types.ListResourcesResult.model_validate({"resources": resources})


async def list_templates(context: Any, params: Any) -> types.ListResourceTemplatesResult:
    template = {"uriTemplate": fixtures.TEMPLATE, "name": "template", "mimeType": "application/json"}
    return types.ListResourceTemplatesResult.model_validate({"resourceTemplates": [template]})


async def read_resource(context: Any, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    uri = str(params.uri)
    contents = fixtures.read(uri)
    if contents is None:
        raise MCPError(code=types.INVALID_PARAMS, message="Resource not found", data={"uri": uri})
    return types.ReadResourceResult.model_validate({"contents": [contents]})


async def list_prompts(context: Any, params: Any) -> types.ListPromptsResult:
    prompts = [
        {
            "name": name,
            "description": fixtures.counting("prompts", f"The prompt {name}"),
            "arguments": [{"name": argument, "required": True} for argument in arguments],
        }
        for name, arguments in fixtures.PROMPTS.items()
    ]
    shown, following = fixtures.page(prompts, params and params.cursor, size=fixtures.PROMPT_PAGE)
    return types.ListPromptsResult.model_validate({"prompts": shown, "nextCursor": following})


async def get_prompt(context: Any, params: types.GetPromptRequestParams) -> Any:
    blocks = fixtures.prompt_blocks(params.name, params.arguments or {})
    if params.name == "test_input_required_result_prompt":
        given = tools2.given(params, "user_context", "context")
        if given is None:
            question = tools2.form("What context should the prompt use?", context=fixtures.TEXT)
            return tools2.asks(user_context=question)
        blocks = [fixtures.text_block(f"Context: {given}")]
    if blocks is None:
        raise MCPError(code=types.INVALID_PARAMS, message=f"Unknown prompt: {params.name}")
    messages = [{"role": "user", "content": block} for block in blocks]
    return types.GetPromptResult.model_validate({"messages": messages})


async def complete(context: Any, params: types.CompleteRequestParams) -> types.CompleteResult:
    answer = fixtures.completions(params.argument.value)
    return types.CompleteResult.model_validate({"completion": answer})


async def empty(context: Any, params: Any) -> types.EmptyResult:
    return types.EmptyResult()


def input_schema(name: str) -> dict[str, Any] | None:
    found = [tool["inputSchema"] for tool in tools2.TOOLS if tool["name"] == name]
    return found[0] if found else None


class Declaring(Server[Any]):
    """Says in the older handshake as well that its lists change, as it does when they do."""

    def create_initialization_options(self, *arguments: Any, **named: Any) -> Any:
        return super().create_initialization_options(NotificationOptions(True, True, True))


CACHEABLE = ("tools/list", "prompts/list", "resources/list", "resources/templates/list", "resources/read")


def make_server() -> Server[Any]:
    hint = CacheHint(ttl_ms=1000, scope="private")
    server = Declaring(
        "gatehouse-everything",
        version="2.0",
        title="Everything, 2.x",
        instructions="Every feature once.",
        on_list_tools=list_tools,
        on_call_tool=tools2.call,
        on_list_resources=list_resources,
        on_list_resource_templates=list_templates,
        on_read_resource=read_resource,
        on_list_prompts=list_prompts,
        on_get_prompt=get_prompt,
        on_completion=complete,
        on_subscribe_resource=empty,
        on_unsubscribe_resource=empty,
        on_subscriptions_listen=ListenHandler(tools2.bus),
        get_tool_input_schema=input_schema,
        cache_hints=dict.fromkeys(CACHEABLE, hint),
    )
    server.add_request_handler("logging/setLevel", types.SetLevelRequestParams, empty)
    security = RequestStateSecurity(keys=[b"only the tests use this key, it guards nothing"])
    server.middleware.append(RequestStateBoundary(security, default_audience="gatehouse-everything"))
    return server


def speaking_only(era: str, app: Any) -> Any:
    """The same server, refusing the requests of the other era as servers do that do not have it."""

    async def limited(scope: Any, receive: Any, send: Any) -> None:
        modern = dict(scope.get("headers", ())).get(b"mcp-protocol-version") == b"2026-07-28"
        if scope["type"] != "http" or modern is (era == "modern"):
            await app(scope, receive, send)
            return
        error: dict[str, Any] = {"code": -32600, "message": "Bad Request: Unsupported protocol version"}
        if era == "modern":
            data = {"supported": ["2026-07-28"], "requested": "2025-11-25"}
            error = {"code": -32022, "message": "Unsupported protocol version", "data": data}
        body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 400, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return limited


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true", help="answer with JSON bodies instead of event streams")
    parser.add_argument("--stateless", action="store_true", help="hand out no sessions")
    parser.add_argument("--only", choices=("older", "modern"), help="speak this era and not the other")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    store = None if options.stateless or options.json else Events()
    app = make_server().streamable_http_app(
        json_response=options.json, stateless_http=options.stateless, event_store=store, retry_interval=100
    )
    run(Witness(speaking_only(options.only, app) if options.only else app))


if __name__ == "__main__":
    main()
