"""An MCP server with everything in it, on SDK 1.x: only the revisions until 2025-11-25.

    python everything1.py [--json] [--stateless]

Runs in an environment of its own and prints its URL as the first line.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import fixtures
import witness
from events import EventLog
from mcp import types
from mcp.server.lowlevel import NotificationOptions, Server
from mcp.server.streamable_http import EventMessage, EventStore
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.shared.exceptions import McpError, UrlElicitationRequiredError
from mcp.shared.message import ServerMessageMetadata
from pydantic import AnyUrl
from starlette.applications import Starlette
from starlette.routing import Mount


class Declaring(Server[Any, Any]):
    """Says in the handshake that its lists change, as it does when they do."""

    def create_initialization_options(self, *arguments: Any, **named: Any) -> Any:
        return super().create_initialization_options(NotificationOptions(True, True, True))


server = Declaring("gatehouse-everything", version="1.0", instructions="Every old feature once.")
TOOLS: list[types.Tool] = []
HANDLERS: dict[str, Callable[[dict[str, Any]], Awaitable[types.CallToolResult]]] = {}


class Events(EventLog, EventStore):
    message_class = EventMessage


def failure(message: str, *, code: int = types.INVALID_PARAMS, data: Any = None) -> McpError:
    return McpError(types.ErrorData(code=code, message=message, data=data))


def said(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(type="text", text=text)])


def describe(name: str, schema: dict[str, Any] | None = None) -> None:
    output = fixtures.OUTPUT_SCHEMAS.get(name)
    tool = {"name": name, "description": f"The tool {name}", "inputSchema": schema or fixtures.fields()}
    TOOLS.append(types.Tool.model_validate({**tool, "outputSchema": output} if output else tool))


def tool(*required: str, **properties: Any) -> Callable[[Any], Any]:
    """Make a tool of a handler; its name is the tool's name."""

    def register(handler: Any) -> Any:
        describe(handler.__name__, fixtures.fields(*required, **properties))
        HANDLERS[handler.__name__] = handler
        return handler

    return register


for fixed_name in fixtures.FIXED_RESULTS:
    describe(fixed_name, fixtures.INPUT_SCHEMAS.get(fixed_name))


async def report(done: float, total: float | None, message: str) -> None:
    context = server.request_context
    token = context.meta.progressToken if context.meta else None
    if token is not None:
        await context.session.send_progress_notification(
            token, done, total, message, related_request_id=str(context.request_id)
        )


@tool("a", "b", a=fixtures.WHOLE, b=fixtures.WHOLE)
async def add(arguments: dict[str, Any]) -> types.CallToolResult:
    return said(str(arguments["a"] + arguments["b"]))


@tool()
async def test_tool_with_logging(arguments: dict[str, Any]) -> types.CallToolResult:
    context = server.request_context
    for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await context.session.send_log_message("info", message, related_request_id=str(context.request_id))
    return said("logged")


@tool()
async def test_tool_with_progress(arguments: dict[str, Any]) -> types.CallToolResult:
    for done in (0, 50, 100):
        await report(done, 100, f"{done} %")
    return said("done")


@tool()
async def test_reconnection(arguments: dict[str, Any]) -> types.CallToolResult:
    if server.request_context.close_sse_stream:
        await server.request_context.close_sse_stream()
    await anyio.sleep(0.1)
    return said("answered after the stream was closed")


@tool("key", key=fixtures.TEXT)
async def gated(arguments: dict[str, Any]) -> types.CallToolResult:
    key = arguments["key"]
    await report(1, 2, "before the gate")
    await witness.mark(f"started:{key}")
    await witness.wait_for(f"open:{key}", seconds=20)
    await report(2, 2, "after the gate")
    return said(f"passed {key}")


@tool("key", key=fixtures.TEXT)
async def endless(arguments: dict[str, Any]) -> types.CallToolResult:
    key = arguments["key"]
    try:
        await report(1, None, "running")
        await witness.mark(f"started:{key}")
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):
            await witness.mark(f"cancelled:{key}")
        raise
    return said("never")


@tool()
async def crash(arguments: dict[str, Any]) -> types.CallToolResult:
    raise RuntimeError("the handler failed")


@tool()
async def own_error(arguments: dict[str, Any]) -> types.CallToolResult:
    raise failure("Quota used up", code=-31999, data={"retryAfter": 30, "unit": "s"})


@tool()
async def visit_first(arguments: dict[str, Any]) -> types.CallToolResult:
    page = types.ElicitRequestURLParams(
        message="Sign in at the provider", url="https://provider.example/start", elicitationId="e-1"
    )
    raise UrlElicitationRequiredError([page])


@tool("kind", kind=fixtures.TEXT)
async def announce(arguments: dict[str, Any]) -> types.CallToolResult:
    session, kind = server.request_context.session, arguments["kind"]
    if kind == "watched":
        await session.send_resource_updated(AnyUrl("test://watched-resource"))
    else:
        send = {
            "tools": session.send_tool_list_changed,
            "prompts": session.send_prompt_list_changed,
            "resources": session.send_resource_list_changed,
        }
        await send[kind]()
    return said(f"announced {kind}")


@tool("kind", kind=fixtures.TEXT)
async def change(arguments: dict[str, Any]) -> types.CallToolResult:
    fixtures.CHANGES[arguments["kind"]] += 1
    return await announce(arguments)


@tool("prompt", prompt=fixtures.TEXT)
async def test_sampling(arguments: dict[str, Any]) -> types.CallToolResult:
    context = server.request_context
    content = types.TextContent(type="text", text=arguments["prompt"])
    answer = await context.session.create_message(
        [types.SamplingMessage(role="user", content=content)],
        max_tokens=100,
        related_request_id=str(context.request_id),
    )
    return said(f"LLM response: {getattr(answer.content, 'text', None)}")


@tool("message", message=fixtures.TEXT)
async def test_elicitation(arguments: dict[str, Any]) -> types.CallToolResult:
    context = server.request_context
    answer = await context.session.elicit_form(
        arguments["message"], fixtures.USER_FORM, related_request_id=str(context.request_id)
    )
    return said(f"User response: action={answer.action}, content={json.dumps(answer.content or {})}")


@tool()
async def roots_during_call(arguments: dict[str, Any]) -> types.CallToolResult:
    context = server.request_context
    answer = await context.session.send_request(
        types.ServerRequest(types.ListRootsRequest()),
        types.ListRootsResult,
        metadata=ServerMessageMetadata(related_request_id=str(context.request_id)),
    )
    return said(", ".join(str(root.uri) for root in answer.roots))


@tool("key", key=fixtures.TEXT)
async def visit_once(arguments: dict[str, Any]) -> types.CallToolResult:
    if fixtures.visited(arguments["key"]):
        return said("visited")
    return await visit_first(arguments)


@tool()
async def roots(arguments: dict[str, Any]) -> types.CallToolResult:
    answer = await server.request_context.session.list_roots()
    return said(", ".join(str(root.uri) for root in answer.roots))


# --- Handlers: set directly, since the decorators turn every error of a tool into a result ----------


async def call_tool(request: types.CallToolRequest) -> types.ServerResult:
    name = request.params.name
    if name in fixtures.FIXED_RESULTS:
        return types.ServerResult(types.CallToolResult.model_validate(fixtures.FIXED_RESULTS[name]))
    if name not in HANDLERS:
        raise failure(f"Unknown tool: {name}", data={"name": name})
    return types.ServerResult(await HANDLERS[name](request.params.arguments or {}))


async def list_tools(request: types.ListToolsRequest) -> types.ServerResult:
    cursor = request.params.cursor if request.params else None
    counted = {"description": fixtures.counting("tools", "The tool change")}
    shown = [one.model_copy(update=counted) if one.name == "change" else one for one in TOOLS]
    tools, following = fixtures.page(shown, cursor, size=fixtures.PAGE // 2)
    return types.ServerResult(types.ListToolsResult(tools=tools, nextCursor=following))


async def list_resources(request: types.ListResourcesRequest) -> types.ServerResult:
    resources = [
        {"uri": uri, "name": uri.split("//")[1], "mimeType": body["mimeType"]}
        for uri, body in fixtures.RESOURCES.items()
    ]
    resources[0]["description"] = fixtures.counting("resources", "Text")
    return types.ServerResult(types.ListResourcesResult.model_validate({"resources": resources}))


async def list_templates(request: types.ListResourceTemplatesRequest) -> types.ServerResult:
    template = types.ResourceTemplate(uriTemplate=fixtures.TEMPLATE, name="template", mimeType="application/json")
    return types.ServerResult(types.ListResourceTemplatesResult(resourceTemplates=[template]))


async def read_resource(request: types.ReadResourceRequest) -> types.ServerResult:
    uri = str(request.params.uri)
    contents = fixtures.read(uri)
    if contents is None:
        raise failure("Resource not found", code=-32002, data={"uri": uri})
    return types.ServerResult(types.ReadResourceResult.model_validate({"contents": [contents]}))


async def list_prompts(request: types.ListPromptsRequest) -> types.ServerResult:
    prompts = [
        types.Prompt(
            name=name,
            description=fixtures.counting("prompts", name),
            arguments=[types.PromptArgument(name=argument) for argument in arguments],
        )
        for name, arguments in fixtures.PROMPTS.items()
    ]
    cursor = request.params.cursor if request.params else None
    shown, following = fixtures.page(prompts, cursor, size=fixtures.PROMPT_PAGE)
    return types.ServerResult(types.ListPromptsResult(prompts=shown, nextCursor=following))


async def get_prompt(request: types.GetPromptRequest) -> types.ServerResult:
    blocks = fixtures.prompt_blocks(request.params.name, request.params.arguments or {})
    if blocks is None:
        raise failure(f"Unknown prompt: {request.params.name}")
    messages = [{"role": "user", "content": block} for block in blocks]
    return types.ServerResult(types.GetPromptResult.model_validate({"messages": messages}))


async def complete(request: types.CompleteRequest) -> types.ServerResult:
    answer = fixtures.completions(request.params.argument.value)
    return types.ServerResult(types.CompleteResult(completion=types.Completion.model_validate(answer)))


async def empty(request: Any) -> types.ServerResult:
    return types.ServerResult(types.EmptyResult())


server.request_handlers.update(
    {
        types.CallToolRequest: call_tool,
        types.ListToolsRequest: list_tools,
        types.ListResourcesRequest: list_resources,
        types.ListResourceTemplatesRequest: list_templates,
        types.ReadResourceRequest: read_resource,
        types.ListPromptsRequest: list_prompts,
        types.GetPromptRequest: get_prompt,
        types.CompleteRequest: complete,
        types.SubscribeRequest: empty,
        types.UnsubscribeRequest: empty,
        types.SetLevelRequest: empty,
    }
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true", help="answer with JSON bodies instead of event streams")
    parser.add_argument("--stateless", action="store_true", help="hand out no sessions")
    options = parser.parse_args()
    manager = StreamableHTTPSessionManager(
        server,
        event_store=None if options.stateless or options.json else Events(),
        json_response=options.json,
        stateless=options.stateless,
        retry_interval=100,
    )

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with manager.run():
            yield

    routes = [Mount("/mcp", app=manager.handle_request)]
    witness.run(witness.Witness(_without_slash(Starlette(routes=routes, lifespan=lifespan))))


def _without_slash(app: Any) -> Any:
    """A mount answers only below its path; the endpoint is the path itself."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/mcp":
            scope["path"] = "/mcp/"
        await app(scope, receive, send)

    return wrapped


if __name__ == "__main__":
    main()
