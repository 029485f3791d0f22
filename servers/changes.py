"""The change feed and the caches that it empties (design section 6).

A write that a decision depends on calls `record()` in its own transaction. The writing process evicts when
the transaction commits; every other process reads the new rows about twice a second and evicts the same
keys. So a revocation holds at once here and within a second everywhere, on SQLite and PostgreSQL alike.

Sequence numbers are handed out before commit, so on PostgreSQL a lower number can appear after a higher
one. The reader therefore remembers the gaps and asks for them again until they are filled or too old to come.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

from django.db import DatabaseError, connection, transaction
from django.db.models import Max, Q

from servers.models.changes import Change

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.4
STALE_AFTER_SECONDS: Final = 5.0
_GAP_SECONDS: Final = 600.0
_REREAD_AT_START: Final = 200

Listener = Callable[[str, str], None]
_listeners: list[Listener] = []

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


def listen(listener: Listener) -> None:
    """Call `listener(kind, key)` for every change, from whichever thread learns of it."""
    _listeners.append(listener)


def record(kind: str, key: object) -> None:
    """Write one change in the current transaction and evict here when it commits."""
    text = str(key)
    Change.objects.create(kind=kind, key=text)
    transaction.on_commit(lambda: apply(kind, text))


def apply(kind: str, key: str) -> None:
    """Tell every listener of this process."""
    for listener in _listeners:
        listener(kind, key)


class NotCached(Exception):
    """A value that is not in memory, asked for where nothing may be loaded (on the event loop)."""


class Cache(Generic[Key, Value]):
    """Values that the change feed keeps true. Misses are never stored.

    `load` runs outside any lock. A value that was read before an eviction and arrives after it is handed to
    its caller but not kept: the generation has moved on.
    """

    def __init__(self, *, limit: int = 100_000) -> None:
        self._values: dict[Key, Value] = {}
        self._generation = 0
        self._limit = limit

    def peek(self, key: Key) -> Value | None:
        """The value if it is in memory."""
        return self._values.get(key)

    def get(self, key: Key, load: Callable[[], Value | None], *, may_load: bool = True) -> Value | None:
        """The value, loaded if need be; raises NotCached when it would have to be loaded but may not."""
        value = self._values.get(key)
        if value is not None:
            return value
        if not may_load:
            raise NotCached
        generation = self._generation
        value = load()
        if value is not None and generation == self._generation:
            if len(self._values) >= self._limit:
                self._values.clear()
            self._values[key] = value
        return value

    def evict(self, key: Key) -> None:
        """Forget one key."""
        self._generation += 1
        self._values.pop(key, None)

    def evict_where(self, matches: Callable[[Key, Value], bool]) -> None:
        """Forget every entry for which `matches(key, value)` holds."""
        self._generation += 1
        for key, value in list(self._values.items()):
            if matches(key, value):
                self._values.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._generation += 1
        self._values.clear()

    def __len__(self) -> int:
        return len(self._values)


class Feed:
    """Reads new changes in a thread of its own and applies them in this process."""

    def __init__(self) -> None:
        self._last = 0
        self._gaps: dict[int, float] = {}
        self._read_at = 0.0
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._start_lock = threading.Lock()

    def is_fresh(self) -> bool:
        """False when the feed could not be read for five seconds: what is cached may have been revoked."""
        return time.monotonic() - self._read_at < STALE_AFTER_SECONDS

    def start(self) -> None:
        """Read once, then keep reading in the background. Safe to call again."""
        with self._start_lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self._stop.clear()
            self._begin()
            self._thread = threading.Thread(target=self._run, name="change-feed", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; returns when it has ended."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=10)
            self._thread = None

    def poll(self) -> int:
        """Read and apply what is new; returns how many changes were applied. Raises DatabaseError."""
        wanted = Q(id__gt=self._last)
        if self._gaps:
            wanted |= Q(id__in=list(self._gaps))
        rows = list(Change.objects.filter(wanted).order_by("id").values_list("id", "kind", "key"))
        now = time.monotonic()
        for number, kind, key in rows:
            for missing in range(self._last + 1, number):
                self._gaps[missing] = now
            self._gaps.pop(number, None)
            self._last = max(self._last, number)
            apply(kind, key)
        if self._gaps:
            self._gaps = {number: seen for number, seen in self._gaps.items() if now - seen < _GAP_SECONDS}
        self._read_at = now
        return len(rows)

    def _begin(self) -> None:
        newest = Change.objects.aggregate(newest=Max("id"))["newest"] or 0
        self._last = max(0, newest - _REREAD_AT_START)
        first = Change.objects.filter(id__gt=self._last).order_by("id").values_list("id", flat=True).first()
        if first is not None:
            self._last = first - 1
        self.poll()

    def _run(self) -> None:
        while not self._stop.wait(POLL_SECONDS):
            try:
                self.poll()
            except DatabaseError:
                log.exception("change feed cannot be read")
                connection.close()
        connection.close()


feed = Feed()
