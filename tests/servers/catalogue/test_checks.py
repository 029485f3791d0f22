"""What of a server's offer cannot be served, and that finding out is bounded."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from mcp.shared.inbound import find_invalid_x_mcp_header
from mcp_types import Prompt, Resource, ResourceTemplate, Tool

from servers.catalogue.checks import MOST_BYTES, MOST_LEVELS, Checked, check, check_all
from servers.catalogue.readings import JsonText
from servers.catalogue.schemas import bad_header_annotation, is_deeper_than, reference_outside
from servers.items import ItemKind
from servers.models.catalogue import LONGEST_KEY

pytestmark = pytest.mark.requirement("F-804")

OBJECT = {"type": "object"}


def tool(name: Any = "search", **members: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": OBJECT, **members}


def inputs(**properties: Any) -> dict[str, Any]:
    return tool(inputSchema={"type": "object", "properties": properties})


def checked(definition: Any, kind: ItemKind = ItemKind.TOOL) -> Checked:
    return check(kind, definition)


def nested(levels: int, leaf: Any = None) -> Any:
    value = leaf
    for _ in range(levels):
        value = {"not": value}
    return value


def test_a_definition_that_can_be_served_is_kept_as_the_server_wrote_it() -> None:
    offered = tool(
        title="Search",
        description="Finds; ünïcode stays.",
        annotations={"readOnlyHint": True},
        outputSchema={"type": "object", "properties": {"n": {"type": "integer"}}},
        _meta={"vendor/x": 1},
        vendorOwn=[1, 2.5, None],
    )
    one = checked(offered)
    assert (one.key, one.problem) == ("search", "")
    assert list(json.loads(one.text).items()) == list(offered.items())
    assert " " not in one.text.replace("ünïcode stays.", "").replace("Finds; ", "")


@pytest.mark.parametrize(
    ("definition", "says"),
    [
        ("search", "not an object"),
        ([tool()], "not an object"),
        (None, "not an object"),
        ({"inputSchema": OBJECT}, "has no name"),
        (tool(""), "has no name"),
        (tool(7), "name is not a text"),
        (tool(["search"]), "name is not a text"),
        (tool("sea\x00rch"), "control characters"),
        (tool("sea\x1b[31mrch"), "control characters"),
        (tool("sea\u202erch"), "control characters"),
        (tool("sea\u200brch"), "control characters"),
        (tool("sea\ud800rch"), "control characters"),
        (tool("s" * (LONGEST_KEY + 1)), "longer than 500"),
        (tool(title=3), "title is not a text"),
        (tool(description={"en": "x"}), "description is not a text"),
        ({"name": "search"}, "no input schema"),
        (tool(inputSchema=None), "no input schema"),
        (tool(inputSchema="object"), "input schema is not the schema of an object"),
        (tool(inputSchema=[]), "input schema is not the schema of an object"),
        (tool(inputSchema={}), "input schema is not the schema of an object"),
        (tool(inputSchema={"type": "string"}), "input schema is not the schema of an object"),
        (tool(inputSchema={"type": ["object"]}), "input schema is not the schema of an object"),
        (tool(inputSchema={"type": "object", "properties": []}), "not schemas"),
        (tool(inputSchema={"type": "object", "properties": {"a": "string"}}), "not schemas"),
        (tool(inputSchema={"type": "object", "required": "a"}), "not a list of names"),
        (tool(inputSchema={"type": "object", "required": [1]}), "not a list of names"),
        (tool(outputSchema=[1]), "outputSchema is not an object"),
        (tool(outputSchema={"type": "object", "properties": 1}), "not schemas"),
        (tool(annotations="safe"), "annotations is not an object"),
        (tool(annotations={"readOnlyHint": "yes"}), "readOnlyHint is not true or false"),
        (tool(annotations={"destructiveHint": 0}), "destructiveHint is not true or false"),
        (tool(execution={"taskSupport": "required"}), "only as a task"),
        (tool(vendorOwn=float("inf")), "JSON cannot carry"),
        (tool(vendorOwn="\udcff"), "JSON cannot carry"),
        (tool(description="x" * MOST_BYTES), "larger than 256 KiB"),
    ],
)
def test_what_breaks_the_protocol_is_kept_out_with_a_reason(definition: Any, says: str) -> None:
    one = checked(definition)
    assert says in one.problem
    assert one.key.isprintable()
    assert 0 < len(one.key) <= LONGEST_KEY
    assert isinstance(json.loads(one.text), dict)
    one.text.encode()


@pytest.mark.parametrize(
    ("kind", "definition", "says"),
    [
        (ItemKind.PROMPT, {"name": "p", "arguments": {}}, "arguments is not a list"),
        (ItemKind.PROMPT, {"name": "p", "arguments": [{}]}, "has no name"),
        (ItemKind.PROMPT, {"name": "p", "arguments": [{"name": "a", "required": "no"}]}, "is not said"),
        (ItemKind.PROMPT, {"name": "p", "arguments": [{"name": "a", "description": 1}]}, "is not a text"),
        (ItemKind.RESOURCE, {"name": "r"}, "has no uri"),
        (ItemKind.RESOURCE, {"uri": "file:///a"}, "has no name"),
        (ItemKind.RESOURCE, {"uri": "file:///a\n", "name": "r"}, "control characters"),
        (ItemKind.RESOURCE, {"uri": "file:///a", "name": "r", "mimeType": 1}, "mimeType is not a text"),
        (ItemKind.TEMPLATE, {"uri": "file:///a", "name": "r"}, "has no uriTemplate"),
    ],
)
def test_so_are_prompts_resources_and_templates(kind: ItemKind, definition: Any, says: str) -> None:
    assert says in checked(definition, kind).problem


@pytest.mark.parametrize(
    ("kind", "model", "definition"),
    [
        (ItemKind.TOOL, Tool, tool(title=None, description=None, annotations=None, icons=7, execution="x", _meta=1)),
        (ItemKind.TOOL, Tool, tool(outputSchema={"type": "array"}, annotations={"title": None, "readOnlyHint": None})),
        (ItemKind.TOOL, Tool, tool(execution={"taskSupport": "whenever"}, outputSchema=None)),
        (ItemKind.PROMPT, Prompt, {"name": "p", "arguments": [{"name": "a", "title": None, "required": None}]}),
        (ItemKind.RESOURCE, Resource, {"uri": "a:b", "name": "r", "size": "large", "annotations": {"priority": 7}}),
        (ItemKind.RESOURCE, Resource, {"uri": "a:b", "name": "r", "size": 1.5, "annotations": {"audience": ["all"]}}),
        (ItemKind.RESOURCE, Resource, {"uri": "a:b", "name": "r", "size": True, "annotations": "none"}),
        (
            ItemKind.TEMPLATE,
            ResourceTemplate,
            {"uriTemplate": "a:{b}", "name": "r", "annotations": {"lastModified": 1}},
        ),
    ],
)
def test_members_that_are_only_for_show_are_left_out_where_clients_could_not_read_them(
    kind: ItemKind, model: Any, definition: Any
) -> None:
    one = checked(definition, kind)
    assert one.problem == ""
    served = json.loads(one.text)
    assert None not in served.values()
    model.model_validate(served)


@pytest.mark.requirement("CL-29")
def test_only_icons_over_https_or_with_their_data_are_kept() -> None:
    good = [{"src": "https://x.example/i.png"}, {"src": "data:image/png;base64,AA==", "sizes": ["48x48"]}]
    bad = [
        {"src": "http://x.example/i.png"},
        {"src": "javascript:alert(1)"},
        {"src": "file:///etc/passwd"},
        {"src": "data:text/html,<script>"},
        {"src": "https://x.example/\n"},
        {"src": 1},
        {},
        "https://x.example/i.png",
        {"src": "https://x.example/i.png", "sizes": "48x48"},
    ]
    one = checked(tool(icons=[*bad, *good]))
    assert one.problem == ""
    assert json.loads(one.text)["icons"] == good
    assert "icons" not in json.loads(checked(tool(icons=bad)).text)


CORPUS = [
    None,
    [],
    {},
    inputs(a={"type": "string", "x-mcp-header": "Owner"})["inputSchema"],
    inputs(a={"type": "integer", "x-mcp-header": "A"}, b={"type": "boolean", "x-mcp-header": "B"})["inputSchema"],
    inputs(a={"type": "object", "properties": {"b": {"type": "string", "x-mcp-header": "B"}}})["inputSchema"],
    {"properties": {"a": {"default": {"x-mcp-header": "1 2"}, "enum": [{"x-mcp-header": 1}]}}},
    {"x-mcp-header": "Root"},
    inputs(a={"type": "string", "x-mcp-header": ""})["inputSchema"],
    inputs(a={"type": "string", "x-mcp-header": "two words"})["inputSchema"],
    inputs(a={"type": "string", "x-mcp-header": "Owner\r\nHost"})["inputSchema"],
    inputs(a={"type": "string", "x-mcp-header": "Owner\n"})["inputSchema"],
    inputs(a={"type": "string", "x-mcp-header": "Größe"})["inputSchema"],
    inputs(a={"type": "string", "x-mcp-header": 7})["inputSchema"],
    inputs(a={"type": "string", "x-mcp-header": None})["inputSchema"],
    inputs(a={"type": "number", "x-mcp-header": "A"})["inputSchema"],
    inputs(a={"type": ["string", "null"], "x-mcp-header": "A"})["inputSchema"],
    inputs(a={"x-mcp-header": "A"})["inputSchema"],
    inputs(a={"type": "string", "x-mcp-header": "A"}, b={"type": "string", "x-mcp-header": "a"})["inputSchema"],
    *(
        {keyword: {"type": "string", "x-mcp-header": "A"}}
        for keyword in ("items", "contains", "not", "if", "then", "else", "additionalProperties", "propertyNames")
    ),
    *(
        {keyword: {"type": "string", "x-mcp-header": "A"}}
        for keyword in ("unevaluatedItems", "unevaluatedProperties", "contentSchema", "default", "const", "unknown")
    ),
    *({keyword: [{"type": "string", "x-mcp-header": "A"}]} for keyword in ("allOf", "anyOf", "oneOf", "prefixItems")),
    *(
        {keyword: {"n": {"type": "string", "x-mcp-header": "A"}}}
        for keyword in ("patternProperties", "dependentSchemas", "$defs", "definitions", "dependencies")
    ),
    inputs(a={"anyOf": [{"properties": {"b": {"type": "string", "x-mcp-header": "B"}}}]})["inputSchema"],
    {"properties": {"x-mcp-header": {"type": "string", "x-mcp-header": "A"}}},
    {"properties": {"x-mcp-header": "A"}},
    {"properties": ["x-mcp-header"]},
    {"allOf": {"x-mcp-header": "A"}},
]


@pytest.mark.requirement("CL-23")
@pytest.mark.parametrize("schema", CORPUS, ids=lambda schema: json.dumps(schema)[:60])
def test_header_annotations_are_judged_as_the_sdk_judges_them(schema: Any) -> None:
    ours, theirs = bad_header_annotation(schema), find_invalid_x_mcp_header(schema)
    assert (ours is None) is (theirs is None), (ours, theirs)


@pytest.mark.requirement("CL-23")
def test_a_tool_with_a_bad_header_annotation_cannot_be_served() -> None:
    good = checked(inputs(owner={"type": "string", "x-mcp-header": "Owner"}))
    bad = checked(inputs(owner={"type": "string", "x-mcp-header": "Owner: x\r\nHost: evil"}))
    assert (good.problem, "x-mcp-header of the property owner is not a header name" in bad.problem) == ("", True)


@pytest.mark.requirement("T36", "CL-28")
@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "https://evil.example/schema.json"},
        {"$ref": "http://169.254.169.254/latest/meta-data"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "//evil.example/x"},
        {"$ref": "other.json#/a"},
        {"$id": "https://evil.example/", "properties": {"a": {"$ref": "b.json"}}},
        {"properties": {"a": {"items": [{"anyOf": [{"$dynamicRef": "https://evil.example/"}]}]}}},
        {"properties": {"default": {"$ref": "https://evil.example/"}}},
        {"properties": {"enum": {"$ref": "https://evil.example/"}}},
        {"$defs": {"const": {"$recursiveRef": "https://evil.example/"}}},
        {"dependencies": {"a": {"$ref": "https://evil.example/"}}},
        {"anUnknownKeyword": {"deep": [{"$ref": "https://evil.example/"}]}},
    ],
)
def test_a_schema_that_refers_to_another_place_is_not_served_and_not_followed(
    schema: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a socket was opened"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a name was looked up"))
    for member in ("inputSchema", "outputSchema"):
        one = checked(tool(**{member: {"type": "object", **schema}}))
        assert "never followed" in one.problem


def test_references_inside_and_data_that_looks_like_one_are_no_problem() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://x.example/schema",
        "$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}, "self": {"$ref": "#"}}}},
        "properties": {
            "a": {"$ref": "#/$defs/node"},
            "$ref": {"type": "string"},
            "b": {"default": {"$ref": "https://x.example"}, "examples": [{"$ref": "https://x.example"}]},
        },
    }
    assert reference_outside(schema) is None
    assert checked(tool(inputSchema={"type": "object", **schema})).problem == ""


@pytest.mark.requirement("T36", "CL-28")
@pytest.mark.parametrize("levels", [MOST_LEVELS, 10_000, 200_000])
def test_a_schema_nested_without_end_is_refused_without_recursion(levels: int) -> None:
    bomb = nested(levels)
    try:
        for definition in (
            tool(inputSchema={"type": "object", "properties": {"a": bomb}}),
            tool(outputSchema={"type": "object", "not": bomb}),
            tool(_meta={"x": bomb}),
        ):
            assert "levels deep" in checked(definition).problem
    finally:
        while bomb:  # taken apart here: Python would do it recursively
            bomb = bomb.pop("not")


def test_the_deepest_that_is_allowed_is_served() -> None:
    # The definition itself, its schema, and what is inside.
    allowed = tool(inputSchema={"type": "object", **nested(MOST_LEVELS - 2, {})})
    assert not is_deeper_than(allowed, MOST_LEVELS)
    assert checked(allowed).problem == ""
    assert checked(tool(inputSchema={"type": "object", **nested(MOST_LEVELS - 1, {})})).problem


@pytest.mark.requirement("T36")
def test_a_schema_whose_references_multiply_is_never_unfolded() -> None:
    # Ten levels of ten references each would be ten thousand million schemas.
    definitions = {f"l{n}": {"allOf": [{"$ref": f"#/$defs/l{n + 1}"}] * 10} for n in range(10)} | {"l10": OBJECT}
    one = checked(tool(inputSchema={"type": "object", "$defs": definitions, "$ref": "#/$defs/l0"}))
    assert one.problem == ""


def test_a_definition_may_come_as_text() -> None:
    for definition in (tool("a", title=None), {"name": "a"}, tool("a\0")):
        assert checked(JsonText(json.dumps(definition))) == checked(definition)


def test_of_several_with_one_name_the_first_counts_and_the_others_are_noted() -> None:
    first, second = tool(description="first"), tool(description="second")
    found = check_all({ItemKind.TOOL: [first, second, tool("other")], ItemKind.PROMPT: [{"name": "search"}]})
    assert [(one.kind, one.key) for one in found.items] == [
        (ItemKind.TOOL, "search"),
        (ItemKind.TOOL, "other"),
        (ItemKind.PROMPT, "search"),
    ]
    assert json.loads(found.items[0].text)["description"] == "first"
    assert found.notes == ("“search” (tool) is offered more than once; the first counts.",)


def test_notes_of_duplicates_have_a_bound() -> None:
    found = check_all({ItemKind.TOOL: [tool(f"t{n}") for n in range(500)] * 2})
    assert (len(found.items), len(found.notes)) == (500, 51)
    assert "450 more" in found.notes[-1]


def test_two_long_names_that_begin_alike_stay_two() -> None:
    names = ["s" * 600 + "a", "s" * 600 + "b"]
    assert len({checked(tool(name)).key for name in names}) == 2
