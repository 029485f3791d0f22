"""What the everything servers show, as plain data that either SDK can take.

Names and texts that begin with `test` are what the official conformance suite asks of a server.
"""

from __future__ import annotations

import json
from typing import Any

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="

TEXT = {"type": "string"}
WHOLE = {"type": "integer"}
NUMBER = {"type": "number"}
FLAG = {"type": "boolean"}

PAGE = 30  # items on one page of a list, so that the tools need two
PROMPT_PAGE = 4


def fields(*required: str, **properties: Any) -> dict[str, Any]:
    """A JSON Schema object with the given properties."""
    return {"type": "object", "properties": properties, "required": list(required)}


CHANGES = {"tools": 0, "prompts": 0, "resources": 0}
"""How often each list was really changed: a description in it counts along."""


def counting(what: str, text: str) -> str:
    """The description of the item that changes with its list."""
    return f"{text} (version {CHANGES[what]})"


_visits: set[str] = set()


def visited(key: str) -> bool:
    """Whether this was asked before; from now on it was."""
    before = key in _visits
    _visits.add(key)
    return before


def text_block(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


IMAGE_BLOCK = {"type": "image", "data": PNG, "mimeType": "image/png"}
AUDIO_BLOCK = {"type": "audio", "data": WAV, "mimeType": "audio/wav"}


def resource_block(uri: str, mime: str, text: str) -> dict[str, Any]:
    return {"type": "resource", "resource": {"uri": uri, "mimeType": mime, "text": text}}


# Tools whose whole result is known beforehand: name -> result.
FIXED_RESULTS: dict[str, dict[str, Any]] = {
    "test_simple_text": {"content": [text_block("This is a simple text response for testing.")]},
    "test_image_content": {"content": [IMAGE_BLOCK]},
    "test_audio_content": {"content": [AUDIO_BLOCK]},
    "test_embedded_resource": {
        "content": [resource_block("test://embedded-resource", "text/plain", "This is an embedded resource content.")]
    },
    "test_multiple_content_types": {
        "content": [
            text_block("Multiple content types test:"),
            IMAGE_BLOCK,
            resource_block(
                "test://mixed-content-resource", "application/json", json.dumps({"test": "data", "value": 123})
            ),
        ]
    },
    "test_error_handling": {
        "isError": True,
        "content": [text_block("This tool intentionally returns an error for testing")],
    },
    "json_schema_2020_12_tool": {"content": [text_block("accepted")]},
    "unusual_characters": {
        "content": [text_block("naïve ☃ \U0001f9ea \u2028 line\r\nbreak \x00 data: x\n\nevent: y\n\n 𝄞")],
        "_meta": {"example.org/kept": {"deep": [1, 2.5, None, True, "9007199254740993"]}},
    },
    "large_result": {"content": [text_block("0123456789abcdef" * 20_000)]},
    "structured": {
        "content": [text_block('{"celsius": 21.5}')],
        "structuredContent": {"celsius": 21.5, "stations": [{"name": "Zürich", "height": 409}]},
    },
    "links": {
        "content": [
            {
                "type": "resource_link",
                "uri": "test://static-text",
                "name": "static-text",
                "annotations": {"audience": ["user"], "priority": 0.5},
            }
        ]
    },
}

OUTPUT_SCHEMAS = {
    "structured": fields(
        "celsius",
        celsius=NUMBER,
        stations={"type": "array", "items": fields("name", name=TEXT, height=WHOLE)},
    )
}

INPUT_SCHEMAS: dict[str, dict[str, Any]] = {
    "json_schema_2020_12_tool": {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": {
            "address": {
                "$anchor": "addressDef",
                "type": "object",
                "properties": {"street": TEXT, "city": TEXT},
            }
        },
        "properties": {
            "name": TEXT,
            "address": {"$ref": "#/$defs/address"},
            "contactMethod": {"type": "string", "enum": ["phone", "email"]},
            "phone": TEXT,
            "email": TEXT,
        },
        "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
        "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
        "then": {"required": ["phone"]},
        "else": {"required": ["email"]},
        "additionalProperties": False,
    },
}

# Forms that the elicitation tools send.
USER_FORM = fields(
    "username",
    "email",
    username={**TEXT, "description": "User's response"},
    email={**TEXT, "description": "User's email address"},
)
DEFAULTS_FORM = fields(
    name={**TEXT, "default": "John Doe"},
    age={**WHOLE, "default": 30},
    score={**NUMBER, "default": 95.5},
    status={**TEXT, "enum": ["active", "inactive", "pending"], "default": "active"},
    verified={**FLAG, "default": True},
)
_TITLED = [{"const": f"value{n}", "title": title} for n, title in enumerate(("First", "Second", "Third"), 1)]
_OPTIONS = {"type": "string", "enum": ["option1", "option2", "option3"]}
ENUMS_FORM = fields(
    untitledSingle=_OPTIONS,
    titledSingle={"type": "string", "oneOf": _TITLED},
    legacyEnum={
        "type": "string",
        "enum": ["opt1", "opt2", "opt3"],
        "enumNames": ["Option One", "Option Two", "Option Three"],
    },
    untitledMulti={"type": "array", "items": _OPTIONS},
    titledMulti={"type": "array", "items": {"anyOf": _TITLED}},
)

RESOURCES: dict[str, dict[str, Any]] = {
    "test://static-text": {
        "mimeType": "text/plain",
        "text": "This is the content of the static text resource.",
    },
    "test://static-binary": {"mimeType": "image/png", "blob": PNG},
    "test://watched-resource": {"mimeType": "text/plain", "text": "watched"},
    "test://unicode/%C3%A9?q=a%20b#f": {"mimeType": "text/plain; charset=utf-8", "text": "é\u2028\U0001f600"},
}
TEMPLATE = "test://template/{id}/data"


def read(uri: str) -> dict[str, Any] | None:
    """The contents at a URI, as `resources/read` answers them; None when nothing is there."""
    if uri in RESOURCES:
        return {"uri": uri, **RESOURCES[uri]}
    head, _, rest = uri.partition("test://template/")
    name, _, tail = rest.partition("/")
    if head == "" and name and tail == "data":
        body = {"id": name, "templateTest": True, "data": f"Data for ID: {name}"}
        return {"uri": uri, "mimeType": "application/json", "text": json.dumps(body)}
    return None


PROMPTS: dict[str, list[str]] = {
    "test_simple_prompt": [],
    "test_prompt_with_arguments": ["arg1", "arg2"],
    "test_prompt_with_embedded_resource": ["resourceUri"],
    "test_prompt_with_image": [],
    "test_input_required_result_prompt": [],
}


def prompt_blocks(name: str, arguments: dict[str, str]) -> list[dict[str, Any]] | None:
    """The content blocks of a prompt; None when there is no such prompt."""
    if name == "test_simple_prompt":
        return [text_block("This is a simple prompt for testing.")]
    if name == "test_prompt_with_arguments":
        return [text_block(f"Prompt with arguments: arg1='{arguments.get('arg1')}', arg2='{arguments.get('arg2')}'")]
    if name == "test_prompt_with_embedded_resource":
        uri = arguments.get("resourceUri", "")
        return [
            resource_block(uri, "text/plain", "Embedded resource content for testing."),
            text_block("Please process the embedded resource above."),
        ]
    if name == "test_prompt_with_image":
        return [IMAGE_BLOCK, text_block("Please analyze the image above.")]
    return None


def completions(prefix: str) -> dict[str, Any]:
    """What `completion/complete` answers for any argument."""
    values = [word for word in ("paris", "park", "party") if word.startswith(prefix)]
    return {"values": values, "total": len(values), "hasMore": False}


def page(items: list[Any], cursor: str | None, *, size: int) -> tuple[list[Any], str | None]:
    """One page of a list and the cursor of the next."""
    start = int(cursor.removeprefix("from-")) if cursor else 0
    end = start + size
    return items[start:end], f"from-{end}" if end < len(items) else None
