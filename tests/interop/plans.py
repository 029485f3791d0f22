"""What a client does on its tour of each upstream; `tests/support/peers/tour.py` reads these."""

from __future__ import annotations

from typing import Any

Plan = list[dict[str, Any]]


def call(name: str, *, notes: int = 0, standing: bool = False, **arguments: Any) -> dict[str, Any]:
    """Call a tool; `notes` notifications are expected during it."""
    return {"do": "call", "name": name, "arguments": arguments, "notes": notes, "standing": standing}


LISTS: Plan = [{"do": "list", "what": what} for what in ("tools", "resources", "templates", "prompts")]

# Answers that every everything server gives, whatever its transport.
ANSWERS: Plan = [
    *LISTS,
    call("add", a=2, b=40),
    call("test_simple_text"),
    call("test_image_content"),
    call("test_audio_content"),
    call("test_embedded_resource"),
    call("test_multiple_content_types"),
    call("test_error_handling"),
    call("unusual_characters"),
    call("large_result"),
    call("structured"),
    call("links"),
    call("crash"),
    call("own_error"),
    call("visit_first"),
    call("no such tool", word="ünïcode \u2028 \U0001f600"),
    {"do": "read", "uri": "test://static-text"},
    {"do": "read", "uri": "test://static-binary"},
    {"do": "read", "uri": "test://template/x%20y/data"},
    {"do": "read", "uri": "test://not/there"},
    {"do": "prompt", "name": "test_simple_prompt"},
    {"do": "prompt", "name": "test_prompt_with_arguments", "arguments": {"arg1": "één", "arg2": 'a"b'}},
    {"do": "prompt", "name": "test_prompt_with_image"},
    {"do": "prompt", "name": "not there"},
    {
        "do": "complete",
        "ref": {"type": "ref/prompt", "name": "test_prompt_with_arguments"},
        "argument": {"name": "arg1", "value": "par"},
    },
    {
        "do": "complete",
        "ref": {"type": "ref/resource", "uri": "test://template/{id}/data"},
        "argument": {"name": "id", "value": "pari"},
    },
    {"do": "ping"},
    {"do": "level", "level": "debug"},
]

# What comes on the stream of a call before its result.
DURING_A_CALL: Plan = [
    call("test_tool_with_progress", notes=3),
    call("test_tool_with_logging", notes=3),
    {"do": "gate", "key": "gate"},
    {"do": "cancel", "key": "cancel"},
]

# The older revisions with a session: questions in both directions, the standing stream, resumption.
SESSION: Plan = [
    *ANSWERS,
    *DURING_A_CALL,
    call("test_elicitation", message="Who are you?"),
    call("test_sampling", prompt="Say something"),
    call("roots", standing=True),
    call("test_reconnection"),
    {"do": "subscribe", "uri": "test://watched-resource"},
    {"do": "hear", "kind": "watched", "standing": True},
    {"do": "unsubscribe", "uri": "test://watched-resource"},
    *[{"do": "hear", "kind": kind, "standing": True} for kind in ("tools", "prompts", "resources")],
]

MODERN: Plan = [
    *ANSWERS,
    *DURING_A_CALL,
    call("test_x_mcp_header", region="eu-wëst 1"),
    call("test_input_required_result_elicitation"),
    call("test_input_required_result_sampling"),
    call("test_input_required_result_list_roots"),
    call("test_input_required_result_request_state"),
    call("test_input_required_result_multiple_inputs"),
    call("test_input_required_result_multi_round"),
    call("test_missing_capability"),
    {"do": "prompt", "name": "test_input_required_result_prompt"},
    # These ask in the old way, which this revision does not have: the refusals must be the same as well.
    call("test_elicitation", message="Who are you?"),
    call("roots"),
    *[{"do": "hear", "kind": kind} for kind in ("tools", "prompts", "resources", "watched")],
]

# A reference server of the protocol's own project.
REFERENCE: Plan = [
    *LISTS,
    call("echo", message="Grüße, 世界"),
    call("get-sum", a=2.5, b=40),
    call("get-sum", a="not a number"),
    call("get-tiny-image"),
    call("get-structured-content", location="New York"),
    call("get-resource-links", count=3),
    call("get-annotated-message", messageType="error", includeImage=True),
    call("trigger-long-running-operation", notes=3, duration=0.3, steps=3),
    call("trigger-elicitation-request"),
    call("trigger-sampling-request", prompt="Say something", maxTokens=20),
    call("no such tool"),
    {"do": "read", "uri": "demo://resource/dynamic/text/1"},
    {"do": "read", "uri": "demo://resource/static/document/architecture.md"},
    {"do": "prompt", "name": "simple-prompt"},
    {"do": "prompt", "name": "args-prompt", "arguments": {"city": "Ulm", "state": "BW"}},
    {
        "do": "complete",
        "ref": {"type": "ref/prompt", "name": "completable-prompt"},
        "argument": {"name": "department", "value": "E"},
    },
    {"do": "ping"},
    {"do": "level", "level": "debug"},
]

# A server without sessions, whose tool answers with random figures: only its shape is asked for.
SESSIONLESS: Plan = [
    {"do": "list", "what": "tools"},
    {"do": "list", "what": "resources"},
    {"do": "read", "uri": "ui://budget-allocator/mcp-app.html"},
    call("no such tool"),
]

# A server that drives a browser: the lists, and a call that is refused before a browser is needed.
BROWSER: Plan = [*LISTS, call("browser_navigate"), call("no such tool")]

# A server with a database.
DATABASE: Plan = [
    *LISTS,
    call("execute_query", sql="SELECT 6 * 7 AS answer, 'Zürich' AS place, NULL AS nothing"),
    call("execute_query", sql="CREATE OR REPLACE TABLE visits AS SELECT range AS day FROM range(500)"),
    call("execute_query", sql="SELECT sum(day) FROM visits"),
    call("execute_query", sql="SELECT * FROM visits ORDER BY day"),
    call("execute_query", sql="SELEKT"),
    call("list_tables"),
    call("list_columns", table="visits"),
]
