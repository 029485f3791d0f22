"""The order of events in an event store, for either SDK: what a broken stream can be resumed from."""

from __future__ import annotations

from typing import Any


class EventLog:
    """Events of all streams in one list; the number in it is the event's id.

    The two SDKs' `EventStore` and `EventMessage` differ only in where they live, so the server programs
    derive from this and give their own `EventMessage`.
    """

    message_class: Any = None

    def __init__(self) -> None:
        self.events: list[tuple[str, Any]] = []

    async def store_event(self, stream_id: str, message: Any) -> str:
        self.events.append((stream_id, message))
        return str(len(self.events))

    async def replay_events_after(self, last_event_id: str, send_callback: Any) -> str | None:
        number = int(last_event_id) if last_event_id.isdecimal() else 0
        if not 0 < number <= len(self.events):
            return None
        stream = self.events[number - 1][0]
        for later, (other, message) in enumerate(list(self.events)[number:], number + 1):
            if other == stream and message is not None:
                await send_callback(self.message_class(message, str(later)))
        return stream
