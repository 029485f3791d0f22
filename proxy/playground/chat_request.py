"""What the chat page may send: read strictly, and built anew for the model, so that nothing else travels along."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from jiter import from_json

from servers.errors import GatewayError

MOST_BYTES: Final = 2 * 1024 * 1024
_MOST_MESSAGES: Final = 1000
_MOST_TOOLS: Final = 128
_MOST_CALLS: Final = 64
_MOST_CHARACTERS: Final = 400_000
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ID: Final = re.compile(r"[\x21-\x7e]{1,200}")


class BadChat(GatewayError):
    """A request that the page would not make."""

    code = "chat_request"


class ChatTooLarge(GatewayError):
    """More than one request may hold."""

    code = "chat_too_large"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """Which model is asked, and what it is told, in the form of OpenAI's chat completions."""

    endpoint: UUID
    model: str
    messages: tuple[dict[str, Any], ...] = field(repr=False)
    tools: tuple[dict[str, Any], ...] = field(repr=False)

    def body(self) -> dict[str, Any]:
        """The body for the endpoint: streamed, with the usage at its end."""
        tools = {"tools": list(self.tools)} if self.tools else {}
        streamed = {"stream": True, "stream_options": {"include_usage": True}}
        return {"model": self.model, "messages": list(self.messages), **streamed, **tools}


def read(body: bytes) -> ChatRequest:
    """The page's request; raises BadChat or ChatTooLarge with a sentence."""
    if len(body) > MOST_BYTES:
        raise ChatTooLarge("This conversation is too long to go on. Begin a new chat.")
    try:
        found = from_json(body)
    except ValueError as error:
        raise BadChat("The request is not JSON.", str(error)) from error
    if not isinstance(found, dict):
        raise BadChat("The request is not an object.")
    messages, tools = _list(found, "messages", _MOST_MESSAGES), _list(found, "tools", _MOST_TOOLS)
    if not messages:
        raise BadChat("Write something first.")
    try:
        endpoint = UUID(_text(found, "endpoint"))
    except ValueError as error:
        raise BadChat("Choose a model first.") from error
    return ChatRequest(
        endpoint=endpoint,
        model=_text(found, "model"),
        messages=tuple(_message(one) for one in messages),
        tools=tuple(_tool(one) for one in tools),
    )


def _message(found: Any) -> dict[str, Any]:
    role = found.get("role") if isinstance(found, dict) else None
    make = _ROLES.get(role) if isinstance(role, str) else None
    if make is None:
        raise BadChat("A message has a role that is not known.")
    return {"role": role, **make(found)}


def _said(found: dict[str, Any]) -> dict[str, Any]:
    return {"content": _text(found, "content")}


def _answered(found: dict[str, Any]) -> dict[str, Any]:
    calls = [_call(one) for one in _list(found, "tool_calls", _MOST_CALLS)]
    content = _text(found, "content")
    # Some endpoints refuse an empty text beside calls, others a missing one without them.
    return {"content": content or None, "tool_calls": calls} if calls else {"content": content}


def _came_back(found: dict[str, Any]) -> dict[str, Any]:
    return {"tool_call_id": _matching(found, "tool_call_id", _ID), "content": _text(found, "content")}


_ROLES: Final[dict[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "system": _said,
    "user": _said,
    "assistant": _answered,
    "tool": _came_back,
}


def _call(found: Any) -> dict[str, Any]:
    function = found.get("function") if isinstance(found, dict) else None
    if not isinstance(function, dict):
        raise BadChat("A tool call is not an object.")
    named = {"name": _matching(function, "name", _NAME), "arguments": _text(function, "arguments")}
    return {"id": _matching(found, "id", _ID), "type": "function", "function": named}


def _tool(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict) or not isinstance(found.get("parameters"), dict):
        raise BadChat("A tool has no schema.")
    function = {
        "name": _matching(found, "name", _NAME),
        "description": _text(found, "description"),
        "parameters": found["parameters"],
    }
    return {"type": "function", "function": function}


def _list(found: dict[str, Any], name: str, most: int) -> list[Any]:
    value = found.get(name, [])
    if not isinstance(value, list):
        raise BadChat(f"“{name}” is not a list.")
    if len(value) > most:
        what = {"tools": f"Choose at most {most} tools for a chat."}
        raise ChatTooLarge(what.get(name, "This conversation is too long to go on. Begin a new chat."))
    return value


def _text(found: dict[str, Any], name: str) -> str:
    value = found.get(name, "")
    if not isinstance(value, str):
        raise BadChat(f"“{name}” is not a text.")
    if len(value) > _MOST_CHARACTERS:
        raise ChatTooLarge("One message is too long. Send less at once.")
    return value


def _matching(found: dict[str, Any], name: str, pattern: re.Pattern[str]) -> str:
    value = found.get(name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise BadChat(f"“{name}” has characters or a length that it cannot have.")
    return value
