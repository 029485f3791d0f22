"""How streams of one event loop hear of changes without asking for them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Protocol
from weakref import WeakSet

from servers import changes


class Listener(Protocol):
    """Something open that changes may concern."""

    def changed(self, kind: str, key: str) -> None:
        """On the event loop, for every change: must cost next to nothing."""


class Bell:
    """Rings on its event loop for every change, whichever thread learns of it."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        _all.add(self)

    def listen(self, listener: Listener) -> None:
        """Tell it of changes until `leave`."""
        if listener not in self._listeners:
            self._loop = asyncio.get_running_loop()
            self._listeners.add(listener)

    def leave(self, listener: Listener) -> None:
        """Tell it nothing more."""
        self._listeners.discard(listener)

    def heard(self, kind: str, key: str) -> None:
        """From any thread: something changed."""
        if self._listeners and self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended, and everything on it
                self._loop.call_soon_threadsafe(self._ring, kind, key)

    def _ring(self, kind: str, key: str) -> None:
        for listener in tuple(self._listeners):
            listener.changed(kind, key)


_all: WeakSet[Bell] = WeakSet()


def _on_change(kind: str, key: str) -> None:
    for bell in tuple(_all):
        bell.heard(kind, key)


changes.listen(_on_change)
