"""Event streams of members, read event by event. Pure; a stream costs no more than its largest event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_ENDS: Final = (b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n")
_LONGEST_END: Final = 4
_BOM: Final = b"\xef\xbb\xbf"


class EventTooLarge(Exception):
    """One event is larger than allowed."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its data lines joined, its id (None: it has none) and after how long to come back (milliseconds)."""

    data: bytes
    id: str | None = None
    retry: int | None = None


class EventReader:
    """Turns pieces of a stream into events; comments and unknown fields are left out (WHATWG HTML 9.2)."""

    def __init__(self, largest: int) -> None:
        self._buffer = bytearray()
        self._looked = 0
        self._largest = largest
        self._first = True

    def feed(self, piece: bytes) -> list[Event]:
        """The events that this piece completes. Raises EventTooLarge."""
        buffer = self._buffer
        buffer += piece
        if self._first and len(buffer) >= len(_BOM):
            self._first = False
            if buffer.startswith(_BOM):
                del buffer[: len(_BOM)]
        found: list[Event] = []
        start = 0
        while True:
            end, length = self._next_end(max(start, self._looked))
            if end < 0:
                break
            event = _parsed(bytes(buffer[start:end]))
            if event is not None:
                found.append(event)
            start = self._looked = end + length
        if start:
            del buffer[:start]
        self._looked = max(0, len(buffer) - _LONGEST_END)
        if len(buffer) > self._largest:
            raise EventTooLarge
        return found

    def _next_end(self, since: int) -> tuple[int, int]:
        best, length = -1, 0
        for end in _ENDS:
            at = self._buffer.find(end, since)
            if at >= 0 and (best < 0 or at < best):
                best, length = at, len(end)
        return best, length


def _parsed(text: bytes) -> Event | None:
    data: list[bytes] = []
    event_id, retry = None, None
    for line in text.splitlines():
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            data.append(value)
        elif name == b"id" and b"\0" not in value:
            event_id = value.decode("utf-8", "replace")
        elif name == b"retry" and value.isdigit():
            retry = int(value)
    if not data and event_id is None and retry is None:
        return None
    return Event(b"\n".join(data), event_id, retry)
