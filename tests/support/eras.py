"""Scripted servers that speak one protocol era strictly, or both, and what they say when asked in the other one."""

from __future__ import annotations

from typing import Any

from tests.support.calls import LEGACY, MODERN
from tests.support.upstream import Answer, Request, json_answer, mcp_server, result


def error(request: Request, code: int, text: str, data: Any = None, *, status: int = 400) -> Answer:
    """A JSON-RPC error with its HTTP status."""
    said = {"code": code, "message": text, **({"data": data} if data is not None else {})}
    return json_answer({"jsonrpc": "2.0", "id": request.json().get("id"), "error": said}, status)


def is_modern(request: Request) -> bool:
    """Whether a request is one of 2026-07-28."""
    return request.header("mcp-protocol-version") == MODERN


def methods(requests: list[Request]) -> list[str]:
    """What a server was asked, in order; HTTP methods where there was no body."""
    return [request.json().get("method", "") if request.body else request.method for request in requests]


def legacy_server(request: Request) -> Any:
    """Opens sessions with `initialize`, and answers nothing without one."""
    if is_modern(request):
        return error(request, -32600, "Bad Request: Unsupported protocol version")
    if (
        request.method == "POST"
        and request.json().get("method") != "initialize"
        and not request.header("mcp-session-id")
    ):
        return error(request, -32600, "Bad Request: Missing session ID")
    return mcp_server(request)


def modern_server(request: Request) -> Any:
    """Speaks 2026-07-28 and nothing else, as one that never had a handshake."""
    if request.method != "POST":
        return Answer(405)
    message = request.json()
    if not is_modern(request):
        data = {"supported": [MODERN], "requested": (message.get("params") or {}).get("protocolVersion", LEGACY)}
        return error(request, -32022, "Unsupported protocol version", data)
    complete = {"resultType": "complete"}
    match message["method"]:
        case "server/discover":
            return result(
                request,
                {
                    **complete,
                    "supportedVersions": [MODERN],
                    "capabilities": {"tools": {}},
                    "ttlMs": 0,
                    "cacheScope": "private",
                },
            )
        case "tools/list":
            tools = [{"name": "echo", "inputSchema": {"type": "object"}}]
            return result(request, {**complete, "tools": tools, "ttlMs": 0, "cacheScope": "private"})
        case "tools/call":
            return result(request, {**complete, "content": [{"type": "text", "text": "hello"}], "isError": False})
    return error(request, -32601, "Method not found", status=404)


def dual_server(request: Request) -> Any:
    """Both, each in its own way."""
    return modern_server(request) if is_modern(request) else legacy_server(request)
