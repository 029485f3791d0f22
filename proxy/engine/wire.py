"""Words and shapes of MCP that the engine writes. Pure; checked against `mcp-types` by tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic_core import to_json

from proxy.messages import FIRST_MODERN_VERSION, INVALID_PARAMS, INVALID_REQUEST, JsonRpcId

MODERN_VERSION: Final = FIRST_MODERN_VERSION
LEGACY_VERSIONS: Final = ("2025-11-25", "2025-06-18", "2025-03-26")

PROTOCOL_PREFIX: Final = "io.modelcontextprotocol/"
VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
CLIENT_INFO_KEY: Final = "io.modelcontextprotocol/clientInfo"
CAPABILITIES_KEY: Final = "io.modelcontextprotocol/clientCapabilities"
SERVER_INFO_KEY: Final = "io.modelcontextprotocol/serverInfo"
SUBSCRIPTION_KEY: Final = "io.modelcontextprotocol/subscriptionId"
LOG_LEVEL_KEY: Final = "io.modelcontextprotocol/logLevel"

METHOD_NOT_FOUND: Final = -32601
INTERNAL_ERROR: Final = -32603
RESOURCE_NOT_FOUND: Final = -32002
"""Until 2025-11-25; later it is INVALID_PARAMS."""
URL_ELICITATION_REQUIRED: Final = -32042
MISSING_CAPABILITY: Final = -32021
UNSUPPORTED_VERSION: Final = -32022

CACHEABLE: Final = frozenset(
    (
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "server/discover",
    )
)
"""Methods whose modern results say how long they may be kept."""

_STATUS: Final[Mapping[int, int]] = {
    -32700: 400,
    INVALID_REQUEST: 400,
    INVALID_PARAMS: 400,
    -32020: 400,
    MISSING_CAPABILITY: 400,
    UNSUPPORTED_VERSION: 400,
    METHOD_NOT_FOUND: 404,
}


def status_of(code: int, *, modern: bool) -> int:
    """HTTP status of a JSON-RPC error: a modern one follows the code, an older one is always 200."""
    return _STATUS.get(code, 200) if modern else 200


def encoded(message: Any) -> bytes:
    """Compact JSON. By pydantic's encoder, which takes a third of the time of `json.dumps`."""
    return to_json(message)


def result(message_id: JsonRpcId, value: Mapping[str, Any]) -> dict[str, Any]:
    """A response that went well."""
    return {"jsonrpc": "2.0", "id": message_id, "result": value}


def error(message_id: JsonRpcId, code: int, text: str, data: Any = None) -> dict[str, Any]:
    """A response that says what went wrong."""
    said = {"code": code, "message": text, **({"data": data} if data is not None else {})}
    return {"jsonrpc": "2.0", "id": message_id, "error": said}


def tool_error(message_id: JsonRpcId, text: str, *, modern: bool) -> dict[str, Any]:
    """A tool result that says why the call did not happen; the model reads it."""
    value: dict[str, Any] = {"content": [{"type": "text", "text": text}], "isError": True}
    if modern:
        value["resultType"] = "complete"
    return result(message_id, value)


class Refusal(Exception):
    """A JSON-RPC error instead of a result."""

    def __init__(self, code: int, text: str, data: Any = None) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.data = data

    def message(self, message_id: JsonRpcId) -> dict[str, Any]:
        """As a response to this request."""
        return error(message_id, self.code, self.text, self.data)
