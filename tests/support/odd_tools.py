"""A modern server whose tools are hard on a page: rich and wrong schemas, hostile answers, slow calls, questions."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from typing import Any, Final

from tests.support.calls import MODERN
from tests.support.upstream import LAST_CHUNK, STREAM_HEAD, Request, Upstream, chunk, event, json_answer, result

PNG: Final = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
WAV: Final = base64.b64encode(
    b"RIFF\x2c\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00\x40\x1f\x00\x00\x80\x3e\x00\x00\x02\x00\x10\x00data"
    b"\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
).decode()
ORDER: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["customer", "lines", "priority"],
    "properties": {
        "customer": {"$ref": "#/$defs/Customer"},
        "lines": {
            "type": "array", "description": "What is ordered.", "minItems": 1, "maxItems": 3,
            "items": {
                "type": "object", "required": ["sku", "count"],
                "properties": {
                    "sku": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"},
                    "count": {"type": "integer", "minimum": 1, "maximum": 99, "default": 1},
                },
            },
        },
        "priority": {"enum": ["low", "normal", "high"], "default": "normal"},
        "payment": {
            "oneOf": [
                {"title": "Card", "type": "object", "required": ["kind", "last4"],
                 "properties": {"kind": {"const": "card"}, "last4": {"type": "string"}}},
                {"title": "Invoice", "type": "object", "required": ["kind", "days"],
                 "properties": {"kind": {"const": "invoice"}, "days": {"type": "integer"}}},
            ],
            "description": "How it is paid.",
        },
        "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "description": "For the people who pack it."},
        "deliver_on": {"type": "string", "format": "date"},
        "discount": {"anyOf": [{"type": "integer"}, {"type": "number"}]},
        "gift": {"type": "boolean"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "$defs": {
        "Customer": {
            "type": "object", "required": ["name", "email"], "title": "Customer",
            "properties": {"name": {"type": "string", "minLength": 1}, "email": {"type": "string", "format": "email"},
                           "parent": {"$ref": "#/$defs/Customer"}},
        }
    },
}  # fmt: skip
_DOUBLING: Final = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(60)}
SCHEMAS: Final[dict[str, dict[str, Any]]] = {
    "place_order": ORDER,
    "circle": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}},
               "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}},
    "doubling": {"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": {**_DOUBLING, "d60": {}}},
    "tree": {"type": "object", "required": ["left", "right"],
             "properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}},
    "wide": {"type": "object", "properties": {f"field_{n}": {"type": "string"} for n in range(2_000)}},
    "astray": {"type": "object", "properties": {"a": {"$ref": "https://elsewhere.example/schema.json"}}},
    "backtracking": {"type": "object", "required": ["text"],
                     "properties": {"text": {"type": "string", "pattern": "^(a+)+$"}}},
}  # fmt: skip
_PLAIN: Final = ("hostile", "media", "huge", "nothing", "fails", "slow", "asks", "samples")
HOSTILE: Final = [
    {"type": "text", "text": "<img src=x onerror=alert(1)><script>alert(2)</script>"},
    {"type": "text", "text": "\x1b[31mred\x1b[0m and \u202egnp.exe\u202c and bell\x07"},
    {"type": "resource_link", "uri": "javascript:alert(3)", "name": "Press me"},
    {"type": "resource_link", "uri": "https://example.com/report", "name": "Report"},
    {"type": "image", "data": base64.b64encode(b"<svg onload=alert(4)>").decode(), "mimeType": "image/svg+xml"},
    {"type": "image", "data": "!!!", "mimeType": "image/png"},
    {"type": "text", "text": 12},
    {"type": "hologram", "beam": True},
]
ANSWERS: Final[dict[str, dict[str, Any]]] = {
    "hostile": {"content": HOSTILE, "structuredContent": {"<b>name</b>": "<i>value</i>", "list": list(range(300))}},
    "media": {
        "content": [
            {"type": "image", "data": PNG, "mimeType": "image/png"},
            {"type": "audio", "data": WAV, "mimeType": "audio/wav"},
            {"type": "resource", "resource": {"uri": "file:///notes.txt", "mimeType": "text/plain", "text": "A note."}},
        ]
    },
    "huge": {"content": [{"type": "text", "text": "x" * 30_000}]},
    "nothing": {"content": []},
    "fails": {"content": [{"type": "text", "text": "The printer is out of paper."}], "isError": True},
}


class OddTools(Upstream):
    """The server; `called` are the arguments of each call by tool, `release` lets the slow one go on."""

    def __init__(self) -> None:
        super().__init__(self._script)
        self.called: list[tuple[str, Any]] = []
        self.answers: list[Any] = []
        self.release = threading.Event()

    def __enter__(self) -> OddTools:
        super().__enter__()
        return self

    def _script(self, request: Request) -> Any:
        if request.method != "POST" or request.header("mcp-protocol-version") != MODERN:
            said = {"code": -32022, "message": "Unsupported", "data": {"supported": [MODERN]}}
            return json_answer({"jsonrpc": "2.0", "id": None, "error": said}, 400)
        message = request.json()
        shared = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
        if message["method"] == "server/discover":
            about = {"supportedVersions": [MODERN], "capabilities": {"tools": {}}}
            return result(request, {**shared, **about})
        if message["method"] == "tools/list":
            return result(request, {**shared, "tools": _tools()})
        if message["method"] != "tools/call":
            said = {"code": -32601, "message": "Method not found"}
            return json_answer({"jsonrpc": "2.0", "id": message.get("id"), "error": said}, 404)
        return self._call(request, message["params"])

    def _call(self, request: Request, params: dict[str, Any]) -> Any:
        name, given = params["name"], params.get("arguments")
        self.called.append((name, given))
        if name == "slow":
            return self._slowly(request)
        if name in ("asks", "samples") and "inputResponses" not in params:
            form = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "title": "Name"}}}
            ask = {"mode": "form", "message": "Who is it for?", "requestedSchema": form}
            sample = {"messages": [], "maxTokens": 10}
            asked = {"method": "elicitation/create", "params": ask}
            if name == "samples":
                asked = {"method": "sampling/createMessage", "params": sample}
            state = {"resultType": "input_required", "requestState": "s1", "inputRequests": {"who": asked}}
            return result(request, state)
        if name == "asks":
            self.answers.append(params["inputResponses"])
        text = {"content": [{"type": "text", "text": "Done."}]}
        return result(request, {"resultType": "complete", **ANSWERS.get(name, text)})

    def _slowly(self, request: Request) -> Iterator[bytes]:
        message = request.json()
        token = message["params"]["_meta"]["progressToken"]
        yield STREAM_HEAD
        params = {"progressToken": token, "progress": 3, "total": 10, "message": "Reading page 3"}
        yield chunk(event({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}))
        self.release.wait(30)
        answer = {"resultType": "complete", "content": [{"type": "text", "text": "All pages read."}]}
        yield chunk(event({"jsonrpc": "2.0", "id": message["id"], "result": answer}))
        yield LAST_CHUNK


def _tools() -> list[dict[str, Any]]:
    hints = {"readOnlyHint": False, "destructiveHint": True}
    rich = [{"name": name, "description": f"About {name}.", "inputSchema": schema} for name, schema in SCHEMAS.items()]
    rich[0] |= {"title": "Place an order", "annotations": hints, "description": "Orders something.\n\nIt is packed."}
    plain = [{"name": name, "inputSchema": {"type": "object"}} for name in _PLAIN]
    return rich + plain
