"""What waits to be said on one stream of a client. It never grows beyond what a client can miss."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Mapping
from typing import Any, Final

_MOST_WAITING: Final = 64


class Outbox:
    """Messages in the order in which they came; of those that only say "look again" one of a kind is enough."""

    def __init__(self) -> None:
        self._waiting: dict[Hashable, Mapping[str, Any]] = {}
        self._filled = asyncio.Event()
        self._taken = asyncio.Event()
        self._closed = False

    def note(self, message: Mapping[str, Any], about: Hashable) -> None:
        """A notice that what it is `about` has changed; dropped when the same one waits already."""
        self._waiting.setdefault(("about", about), message)
        self._filled.set()

    async def put(self, message: Mapping[str, Any]) -> None:
        """Any other message; returns once there is room, so that whoever says too much has to wait."""
        while len(self._waiting) >= _MOST_WAITING and not self._closed:
            self._taken.clear()
            await self._taken.wait()
        self._waiting[object()] = message
        self._filled.set()

    def close(self) -> None:
        """Nothing more is to come: `take` returns None after what waits."""
        self._closed = True
        self._filled.set()
        self._taken.set()

    async def take(self) -> Mapping[str, Any] | None:
        """The next message; None after the last."""
        while not self._waiting:
            if self._closed:
                return None
            self._filled.clear()
            await self._filled.wait()
        message = self._waiting.pop(next(iter(self._waiting)))
        self._taken.set()
        return message
