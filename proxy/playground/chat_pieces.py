"""From an endpoint's stream to clean pieces for the page: only what is known, only in bounds. Pure.

What an endpoint writes beside the model's own words (errors, ids, anything unknown) never goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from jiter import from_json

from proxy.playground.chat_trouble import Trouble, trouble

Piece = dict[str, Any]
_LARGEST_EVENT: Final = 1024 * 1024
_MOST_CALLS: Final = 32
_MOST_ARGUMENTS: Final = 256 * 1024
_LONGEST_NAME: Final = 128
_REASONS: Final = frozenset({"stop", "length", "tool_calls", "content_filter"})
_LINE_END: Final = re.compile(rb"\r\n|\n|\r(?!\Z)")


class Events:
    """Splits an event stream into the data of its events, however the network has cut it."""

    def __init__(self) -> None:
        self._waiting = b""
        self._data: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The data of each event that is complete now; raises Trouble for one that does not end."""
        *lines, self._waiting = _LINE_END.split(self._waiting + data)
        for line in lines:
            if not line and self._data:
                yield self._taken()
            elif line.startswith(b"data:"):
                self._data.append(line[5:].removeprefix(b" "))
                self._size += len(line)
        if len(self._waiting) + self._size > _LARGEST_EVENT:
            raise trouble("model_garbage", "an event that does not end")

    def rest(self) -> bytes:
        """The event that ended with the stream instead of with an empty line."""
        line, self._waiting = self._waiting.rstrip(b"\r"), b""
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
        return self._taken()

    def _taken(self) -> bytes:
        data = b"\n".join(self._data)
        self._data.clear()
        self._size = 0
        return data


class Cleaner:
    """Turns the events of one answer into pieces, and knows whether it has come to its end."""

    def __init__(self) -> None:
        self.reason = ""
        self.done = False
        self._calls: set[int] = set()
        self._arguments = 0

    def pieces(self, data: bytes) -> Iterator[Piece]:
        """The pieces of one event; raises Trouble."""
        if not data or self.done:
            return
        if data.strip() == b"[DONE]":
            self.done = True
            return
        try:
            found = from_json(data)
        except ValueError as error:
            raise trouble("model_garbage", "not JSON") from error
        if not isinstance(found, dict):
            raise trouble("model_garbage", "not an object")
        yield from self.whole(found)

    def whole(self, found: dict[str, Any]) -> Iterator[Piece]:
        """The pieces of one object, a chunk of a stream or a whole answer of an endpoint that does not stream."""
        if found.get("error"):
            raise trouble("model_failed", "an error inside the stream")
        choices = found.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if isinstance(choice, dict):
            delta = choice.get("delta", choice.get("message"))
            yield from self._delta(delta if isinstance(delta, dict) else {})
            reason = choice.get("finish_reason")
            if isinstance(reason, str):
                self.reason = reason if reason in _REASONS else "other"
        if usage := _usage(found.get("usage")):
            yield usage

    def _delta(self, delta: dict[str, Any]) -> Iterator[Piece]:
        text = delta.get("content")
        if isinstance(text, str) and text:
            yield {"type": "text", "text": text}
        calls = delta.get("tool_calls")
        for position, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, dict):
                yield self._call(call, position)

    def _call(self, call: dict[str, Any], position: int) -> Piece:
        index = call.get("index", position)
        function = call.get("function")
        if type(index) is not int or index < 0 or not isinstance(function, dict):
            raise trouble("model_garbage", "a tool call that is none")
        self._calls.add(index)
        arguments = function.get("arguments") or ""
        if not isinstance(arguments, str):
            raise trouble("model_garbage", "arguments that are no text")
        self._arguments += len(arguments)
        if len(self._calls) > _MOST_CALLS or self._arguments > _MOST_ARGUMENTS:
            raise trouble("model_garbage", "too many tool calls at once")
        piece: Piece = {"type": "call", "index": index, "arguments": arguments}
        if isinstance(call.get("id"), str):
            piece["id"] = call["id"][:_LONGEST_NAME]
        if isinstance(function.get("name"), str):
            piece["name"] = function["name"][:_LONGEST_NAME]
        return piece


def _usage(found: Any) -> Piece | None:
    if not isinstance(found, dict):
        return None
    numbers = [found.get(name) for name in ("prompt_tokens", "completion_tokens")]
    if not all(type(number) is int and number >= 0 for number in numbers):
        return None
    return {"type": "usage", "input": numbers[0], "output": numbers[1]}


__all__ = ["Cleaner", "Events", "Piece", "Trouble"]
