"""The tools of the everything server on SDK 2.x: what a fixed result cannot show."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import fixtures
import witness
from fixtures import FLAG, TEXT, WHOLE, fields
from mcp import types
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ToolsListChanged,
)
from mcp.shared.exceptions import MCPError, UrlElicitationRequiredError
from mcp.shared.message import ServerMessageMetadata

Context = Any
Arguments = dict[str, Any]
Handler = Callable[[Context, types.CallToolRequestParams], Awaitable[Any]]

bus = InMemorySubscriptionBus()
HANDLERS: dict[str, Handler] = {}
TOOLS: list[dict[str, Any]] = []


def describe(name: str, description: str, schema: dict[str, Any] | None = None) -> None:
    """Add a tool to the list."""
    tool = {"name": name, "description": description, "inputSchema": schema or fields()}
    if name in fixtures.OUTPUT_SCHEMAS:
        tool["outputSchema"] = fixtures.OUTPUT_SCHEMAS[name]
    TOOLS.append(tool)


def tool(description: str, schema: dict[str, Any] | None = None) -> Callable[[Handler], Handler]:
    """Make a tool of a handler; its name is the tool's name."""

    def register(handler: Handler) -> Handler:
        describe(handler.__name__, description, schema)
        HANDLERS[handler.__name__] = handler
        return handler

    return register


def result(*blocks: dict[str, Any]) -> types.CallToolResult:
    return types.CallToolResult.model_validate({"content": list(blocks)})


def said(text: str) -> types.CallToolResult:
    return result(fixtures.text_block(text))


for fixed_name in fixtures.FIXED_RESULTS:
    describe(fixed_name, f"Fixed result: {fixed_name}", fixtures.INPUT_SCHEMAS.get(fixed_name))


async def call(context: Context, params: types.CallToolRequestParams) -> Any:
    """Run a tool; raises MCPError for a name that is not there."""
    if params.name in fixtures.FIXED_RESULTS:
        return types.CallToolResult.model_validate(fixtures.FIXED_RESULTS[params.name])
    if params.name not in HANDLERS:
        raise MCPError(code=types.INVALID_PARAMS, message=f"Unknown tool: {params.name}", data={"name": params.name})
    return await HANDLERS[params.name](context, params)


# --- While a call runs ----------------------------------------------------------------------------


@tool("Sends three log messages before the result")
async def test_tool_with_logging(context: Context, params: types.CallToolRequestParams) -> Any:
    for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await context.session.send_log_message("info", message, related_request_id=context.request_id)
        await anyio.sleep(0.05)
    return said("logged")


@tool("Sends one log message")
async def test_logging_tool(context: Context, params: types.CallToolRequestParams) -> Any:
    await context.session.send_log_message("info", "one message", related_request_id=context.request_id)
    return said("logged")


@tool("Reports progress 0, 50 and 100")
async def test_tool_with_progress(context: Context, params: types.CallToolRequestParams) -> Any:
    for done in (0, 50, 100):
        await context.session.report_progress(done, 100, f"{done} %")
        await anyio.sleep(0.05)
    return said("done")


@tool("Closes its own event stream before it answers")
async def test_reconnection(context: Context, params: types.CallToolRequestParams) -> Any:
    if context.close_sse_stream:
        await context.close_sse_stream()
    await anyio.sleep(0.1)
    return said("answered after the stream was closed")


@tool("Reports one step, then goes on only when the test lets it", fields("key", key=TEXT))
async def gated(context: Context, params: types.CallToolRequestParams) -> Any:
    key = (params.arguments or {})["key"]
    await context.session.report_progress(1, 2, "before the gate")
    await witness.mark(f"started:{key}")
    await witness.wait_for(f"open:{key}", seconds=20)
    await context.session.report_progress(2, 2, "after the gate")
    return said(f"passed {key}")


@tool("Runs until it is cancelled", fields("key", key=TEXT))
async def endless(context: Context, params: types.CallToolRequestParams) -> Any:
    key = (params.arguments or {})["key"]
    try:
        await context.session.report_progress(1, None, "running")
        await witness.mark(f"started:{key}")
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        with anyio.CancelScope(shield=True):
            await witness.mark(f"cancelled:{key}")
        raise


@tool("Adds", fields("a", "b", a=WHOLE, b=WHOLE))
async def add(context: Context, params: types.CallToolRequestParams) -> Any:
    arguments = params.arguments or {}
    return said(str(arguments["a"] + arguments["b"]))


@tool("Fails inside")
async def crash(context: Context, params: types.CallToolRequestParams) -> Any:
    raise RuntimeError("the handler failed")


@tool("Answers with an error of its own code")
async def own_error(context: Context, params: types.CallToolRequestParams) -> Any:
    raise MCPError(code=-31999, message="Quota used up", data={"retryAfter": 30, "unit": "s"})


@tool("Wants a page visited first")
async def visit_first(context: Context, params: types.CallToolRequestParams) -> Any:
    raise UrlElicitationRequiredError(
        [
            types.ElicitRequestURLParams(
                message="Sign in at the provider", url="https://provider.example/start", elicitation_id="e-1"
            )
        ]
    )


@tool("Wants a page visited the first time", fields("key", key=TEXT))
async def visit_once(context: Context, params: types.CallToolRequestParams) -> Any:
    if fixtures.visited((params.arguments or {})["key"]):
        return said("visited")
    return await visit_first(context, params)


@tool("An argument that travels in a header as well", fields(region={"type": "string", "x-mcp-header": "Region"}))
async def test_x_mcp_header(context: Context, params: types.CallToolRequestParams) -> Any:
    return said(f"region={(params.arguments or {}).get('region')}")


async def announced(context: Context, kind: str) -> types.CallToolResult:
    event, legacy = {
        "tools": (ToolsListChanged(), context.session.send_tool_list_changed),
        "prompts": (PromptsListChanged(), context.session.send_prompt_list_changed),
        "resources": (ResourcesListChanged(), context.session.send_resource_list_changed),
        "watched": (
            ResourceUpdated(uri="test://watched-resource"),
            lambda: context.session.send_resource_updated("test://watched-resource"),
        ),
    }[kind]
    await bus.publish(event)
    if context.protocol_version < "2026":
        await legacy()
    return said(f"announced {kind}")


async def changed(context: Context, kind: str) -> types.CallToolResult:
    fixtures.CHANGES[kind] += 1
    return await announced(context, kind)


@tool("Announces changed lists", fields("kind", kind=TEXT))
async def announce(context: Context, params: types.CallToolRequestParams) -> Any:
    return await announced(context, (params.arguments or {})["kind"])


@tool("Changes a list and announces it", fields("kind", kind=TEXT))
async def change(context: Context, params: types.CallToolRequestParams) -> Any:
    return await changed(context, (params.arguments or {})["kind"])


@tool("Changes the tool list")
async def test_trigger_tool_change(context: Context, params: types.CallToolRequestParams) -> Any:
    return await changed(context, "tools")


@tool("Changes the prompt list")
async def test_trigger_prompt_change(context: Context, params: types.CallToolRequestParams) -> Any:
    return await changed(context, "prompts")


def listed() -> list[dict[str, Any]]:
    """The tools as they are now."""
    counted = {"description": fixtures.counting("tools", "Changes a list and announces it")}
    return [{**one, **counted} if one["name"] == "change" else one for one in TOOLS]


# --- Questions to the client, in the middle of a call (until 2025-11-25) ----------------------------


@tool("Asks the client's model", fields("prompt", prompt=TEXT))
async def test_sampling(context: Context, params: types.CallToolRequestParams) -> Any:
    message = {"role": "user", "content": fixtures.text_block((params.arguments or {})["prompt"])}
    answer = await context.session.create_message(
        [types.SamplingMessage.model_validate(message)], max_tokens=100, related_request_id=context.request_id
    )
    return said(f"LLM response: {answer.content.text}")


async def _ask(context: Context, message: str, form: dict[str, Any]) -> types.CallToolResult:
    answer = await context.session.elicit_form(message, form, related_request_id=context.request_id)
    return said(f"User response: action={answer.action}, content={json.dumps(answer.content or {})}")


@tool("Asks the person", fields("message", message=TEXT))
async def test_elicitation(context: Context, params: types.CallToolRequestParams) -> Any:
    return await _ask(context, (params.arguments or {})["message"], fixtures.USER_FORM)


@tool("Asks with defaults")
async def test_elicitation_sep1034_defaults(context: Context, params: types.CallToolRequestParams) -> Any:
    return await _ask(context, "Look at the defaults", fixtures.DEFAULTS_FORM)


@tool("Asks with choices")
async def test_elicitation_sep1330_enums(context: Context, params: types.CallToolRequestParams) -> Any:
    return await _ask(context, "Choose", fixtures.ENUMS_FORM)


@tool("Asks for the client's roots on the stream of the call")
async def roots_during_call(context: Context, params: types.CallToolRequestParams) -> Any:
    answer = await context.session.send_request(
        types.ListRootsRequest(),
        types.ListRootsResult,
        metadata=ServerMessageMetadata(related_request_id=context.request_id),
    )
    return said(", ".join(str(root.uri) for root in answer.roots))


@tool("Asks for the client's roots on its own stream")
async def roots(context: Context, params: types.CallToolRequestParams) -> Any:
    answer = await context.session.list_roots()
    return said(", ".join(str(root.uri) for root in answer.roots))


# --- `input_required` results (from 2026-07-28) -----------------------------------------------------

ROOTS = {"method": "roots/list", "params": {}}


def asks(state: str | None = None, **requests: dict[str, Any]) -> types.InputRequiredResult:
    """A result that asks for input before the call can be answered."""
    body: dict[str, Any] = {"resultType": "input_required", "inputRequests": requests}
    if state is not None:
        body["requestState"] = state
    return types.InputRequiredResult.model_validate(body)


def form(message: str, **properties: Any) -> dict[str, Any]:
    schema = fields(*properties, **properties)
    params = {"mode": "form", "message": message, "requestedSchema": schema}
    return {"method": "elicitation/create", "params": params}


def sample(prompt: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": fixtures.text_block(prompt)}]
    return {"method": "sampling/createMessage", "params": {"messages": messages, "maxTokens": 100}}


CONFIRM = form("Please confirm", ok=FLAG)


def given(params: Any, key: str, field: str) -> Any:
    """What the person put into a field of the form `key`; None when it was not answered."""
    content = getattr((params.input_responses or {}).get(key), "content", None)
    return content.get(field) if isinstance(content, dict) else None


@tool("Needs a name")
async def test_input_required_result_elicitation(context: Context, params: types.CallToolRequestParams) -> Any:
    name = given(params, "user_name", "name")
    return said(f"Hello, {name}!") if name else asks(user_name=form("What is your name?", name=TEXT))


@tool("Needs a name, asked on a stream")
async def test_streaming_elicitation(context: Context, params: types.CallToolRequestParams) -> Any:
    return await test_input_required_result_elicitation(context, params)


@tool("Needs the client's model")
async def test_input_required_result_sampling(context: Context, params: types.CallToolRequestParams) -> Any:
    answer = (params.input_responses or {}).get("capital_question")
    if answer is None:
        return asks(capital_question=sample("What is the capital of France?"))
    return said(f"The model said: {answer.content.text}")


@tool("Needs the client's roots")
async def test_input_required_result_list_roots(context: Context, params: types.CallToolRequestParams) -> Any:
    answer = (params.input_responses or {}).get("client_roots")
    if answer is None:
        return asks(client_roots=ROOTS)
    return said("Roots: " + ", ".join(str(root.uri) for root in answer.roots))


@tool("Keeps state between the rounds")
async def test_input_required_result_request_state(context: Context, params: types.CallToolRequestParams) -> Any:
    if params.request_state == "confirming" and given(params, "confirm", "ok") is not None:
        return said("state-ok")
    return asks("confirming", confirm=CONFIRM)


@tool("Refuses state that was tampered with")
async def test_input_required_result_tampered_state(context: Context, params: types.CallToolRequestParams) -> Any:
    return said("state-ok") if params.request_state == "confirming" else asks("confirming", confirm=CONFIRM)


@tool("Needs three things at once")
async def test_input_required_result_multiple_inputs(context: Context, params: types.CallToolRequestParams) -> Any:
    wanted = {
        "user_name": form("What is your name?", name=TEXT),
        "greeting": sample("Generate a greeting"),
        "client_roots": ROOTS,
    }
    if wanted.keys() <= (params.input_responses or {}).keys():
        return said("all inputs received")
    return asks("collecting", **wanted)


@tool("Asks twice, one after the other")
async def test_input_required_result_multi_round(context: Context, params: types.CallToolRequestParams) -> Any:
    stage, _, name = (params.request_state or "").partition(":")
    if stage == "color" and (color := given(params, "step2", "color")):
        return said(f"{name} likes {color}")
    if stage == "name" and (name := given(params, "step1", "name")):
        return asks(f"color:{name}", step2=form("Step 2: What is your favorite color?", color=TEXT))
    return asks("name", step1=form("Step 1: What is your name?", name=TEXT))


def declares(context: Context, capability: str) -> bool:
    declared = context.session.client_capabilities
    return declared is None or getattr(declared, capability) is not None


@tool("Asks only for what the client can do")
async def test_input_required_result_capabilities(context: Context, params: types.CallToolRequestParams) -> Any:
    possible = {"sampling": sample("Say hello"), "elicitation": form("What is your name?", name=TEXT)}
    return asks("asked", **{name: wanted for name, wanted in possible.items() if declares(context, name)})


@tool("Works only for a client with sampling")
async def test_missing_capability(context: Context, params: types.CallToolRequestParams) -> Any:
    if not declares(context, "sampling"):
        raise MCPError(
            code=types.MISSING_REQUIRED_CLIENT_CAPABILITY,
            message="This tool needs sampling.",
            data={"requiredCapabilities": {"sampling": {}}},
        )
    return said("sampling declared")
