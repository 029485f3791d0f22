"""The change feed and the caches that it empties (design section 6).

A write that a decision depends on calls `record()` in its own transaction. The writing process evicts when
the transaction commits; every other process reads the new rows about twice a second and evicts the same
keys. So a revocation holds at once here and within a second everywhere, on SQLite and PostgreSQL alike.

Sequence numbers are handed out before commit, so on PostgreSQL a lower number can appear after a higher
one. The reader therefore remembers the gaps and asks for them again until they are filled or too old to come.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Hashable, Iterable
from typing import Any, Final, Generic, NamedTuple, TypeVar
from weakref import WeakSet

from django.db import Error, connection, transaction
from django.db.models import Max, Q

from servers.models.changes import Change
from servers.retiring import free_slowly

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.4
STALE_AFTER_SECONDS: Final = 5.0
EVERYTHING: Final = "everything"
"""The kind that says: whatever you remember may be wrong. Every cache is empty by then."""
_GAP_SECONDS: Final = 600.0
_MOST_GAPS: Final = 100
_FORGET_AFTER_SECONDS: Final = 300.0
_REREAD_AT_START: Final = 200
_ROWS_OF_ONE_INSERT: Final = 500

Listener = Callable[[str, str], None]
_listeners: list[Listener] = []
_caches: WeakSet[Cache[Any, Any]] = WeakSet()

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


def listen(listener: Listener) -> Callable[[], None]:
    """Call `listener(kind, key)` for every change, from whichever thread learns of it; returns how to end that.

    `EVERYTHING` is a kind too, with an empty key: changes may have gone unheard.
    """
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def record(kind: str, key: object) -> None:
    """Write one change in the current transaction and evict here when it commits."""
    record_all(kind, [key])


def record_all(kind: str, keys: Iterable[object]) -> None:
    """Write one change for each key, as `record` does."""
    texts = [str(key) for key in keys]
    Change.objects.bulk_create([Change(kind=kind, key=text) for text in texts], batch_size=_ROWS_OF_ONE_INSERT)
    transaction.on_commit(lambda: _apply_all(kind, texts))


def _apply_all(kind: str, keys: list[str]) -> None:
    for key in keys:
        apply(kind, key)


def apply(kind: str, key: str) -> None:
    """Tell every listener of this process. One that fails costs all caches, never a missed eviction."""
    for listener in tuple(_listeners):
        try:
            listener(kind, key)
        except Exception:
            log.exception("the change %s was not understood; every cache is emptied", kind)
            forget_everything()


def forget_everything() -> None:
    """Empty every cache of this process."""
    for cache in list(_caches):
        cache.clear()


def doubt_everything() -> None:
    """Empty every cache and tell the listeners, so that what is open is decided anew from the database."""
    forget_everything()
    apply(EVERYTHING, "")


class NotCached(Exception):
    """A value that is not in memory, asked for where nothing may be loaded (on the event loop)."""


class Cache(Generic[Key, Value]):
    """Values that the change feed keeps true. Misses are never stored.

    `load` runs outside any lock. A value that was read before an eviction and arrives after it is handed to
    its caller but not kept: the generation has moved on. Nor is one kept that was read inside a transaction
    with changes of its own, since they may never be committed.

    `tags` names what a value depends on besides its key, so that `evict_tag` finds it without a search. `parts` are
    the collections that large values consist of, to be freed in small steps.
    """

    def __init__(
        self,
        *,
        limit: int = 100_000,
        tags: Callable[[Value], Iterable[Hashable]] = lambda _: (),
        parts: Callable[[Value], Iterable[Collection[object]]] = lambda _: (),
    ) -> None:
        self._values: dict[Key, Value] = {}
        self._tagged: dict[Hashable, set[Key]] = {}
        self._tags = tags
        self._parts = parts
        self._generation = 0
        self._limit = limit
        self._lock = threading.Lock()
        _caches.add(self)

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
        if value is not None and not _in_transaction_with_changes():
            self._keep(key, value, generation)
        return value

    def evict(self, key: Key) -> None:
        """Forget one key."""
        with self._lock:
            self._generation += 1
            self._drop(key)

    def evict_tag(self, tag: Hashable) -> None:
        """Forget every value that has this tag."""
        with self._lock:
            self._generation += 1
            for key in tuple(self._tagged.get(tag, ())):
                self._drop(key)

    def evict_where(self, matches: Callable[[Key, Value], bool]) -> None:
        """Forget every entry for which `matches(key, value)` holds; looks at all of them."""
        with self._lock:
            self._generation += 1
            for key, value in list(self._values.items()):
                if matches(key, value):
                    self._drop(key)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._generation += 1
            self._forget_values()

    def __len__(self) -> int:
        return len(self._values)

    def _keep(self, key: Key, value: Value, generation: int) -> None:
        with self._lock:
            if generation != self._generation:
                return
            self._drop(key)
            if len(self._values) >= self._limit:
                self._forget_values()
            self._values[key] = value
            for tag in self._tags(value):
                self._tagged.setdefault(tag, set()).add(key)

    def _drop(self, key: Key) -> None:
        value = self._values.pop(key, None)
        if value is None:
            return
        free_slowly(self._parts(value))
        for tag in self._tags(value):
            keys = self._tagged.get(tag, set())
            keys.discard(key)
            if not keys:
                self._tagged.pop(tag, None)

    def _forget_values(self) -> None:
        for value in self._values.values():
            free_slowly(self._parts(value))
        self._values.clear()
        self._tagged.clear()


def _in_transaction_with_changes() -> bool:
    return connection.in_atomic_block and bool(connection.run_on_commit)


class _Gap(NamedTuple):
    """Numbers from `first` to `last` that were skipped when the reader came by at `seen` (monotonic)."""

    first: int
    last: int
    seen: float


class Feed:
    """Reads new changes in a thread of its own and applies them in this process.

    Another thread watches that it does: a reading can hang as well as fail.
    """

    def __init__(self) -> None:
        self._last = 0
        self._gaps: list[_Gap] = []
        self._read_at = float("-inf")
        self._read_at_clock = float("-inf")
        self._knows_position = False
        self._poll_lock = threading.Lock()
        self._threads: tuple[threading.Thread, ...] = ()
        self._stop = threading.Event()
        self._start_lock = threading.Lock()

    def is_fresh(self) -> bool:
        """False when the feed could not be read for five seconds: what is cached may have been revoked."""
        return time.monotonic() - self._read_at < STALE_AFTER_SECONDS

    def start(self) -> None:
        """Read once, then keep reading in the background. Safe to call again. Raises django.db.Error."""
        with self._start_lock:
            if any(thread.is_alive() for thread in self._threads):
                return
            self._stop.clear()
            self._knows_position = False
            self.poll()
            self._threads = (
                threading.Thread(target=self._run, name="change-feed", daemon=True),
                threading.Thread(target=self._watch, name="change-feed-watch", daemon=True),
            )
            for thread in self._threads:
                thread.start()

    def stop(self) -> None:
        """End the threads; returns when they have ended."""
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=10)
        self._threads = ()

    def poll(self) -> int:
        """Read and apply what is new; returns how many changes were applied. Raises django.db.Error."""
        with self._poll_lock:
            # What a reading saw is as old as its beginning.
            began, began_clock = time.monotonic(), time.time()
            if not self._knows_position or began_clock - self._read_at_clock > _FORGET_AFTER_SECONDS:
                self._find_position()
            rows = list(Change.objects.filter(self._wanted()).order_by("id").values_list("id", "kind", "key"))
            for number, kind, key in rows:
                self._note(number, began)
                apply(kind, key)
            self._gaps = _fewer([gap for gap in self._gaps if began - gap.seen < _GAP_SECONDS])
            self._read_at, self._read_at_clock = began, began_clock
            return len(rows)

    def _find_position(self) -> None:
        """Begin at the present end; also after an outage or a long sleep, when rows may have gone unread."""
        newest: int = Change.objects.aggregate(newest=Max("id"))["newest"] or 0
        self._last = max(0, newest - _REREAD_AT_START)
        self._gaps = []
        self._knows_position = True
        doubt_everything()

    def _wanted(self) -> Q:
        wanted = Q(id__gt=self._last)
        for gap in self._gaps:
            wanted |= Q(id__range=(gap.first, gap.last))
        return wanted

    def _note(self, number: int, now: float) -> None:
        if number > self._last:
            if number > self._last + 1:
                self._gaps.append(_Gap(self._last + 1, number - 1, now))
            self._last = number
        else:
            self._gaps = [rest for gap in self._gaps for rest in _without(gap, number)]

    def _run(self) -> None:
        readable = True
        while not self._stop.wait(POLL_SECONDS):
            try:
                self.poll()
            except Exception:
                # Wherever the database comes back, in whichever state: begin anew.
                self._knows_position = False
                if readable:
                    log.exception("the change feed cannot be read")
                readable = False
                _close_connection()
            else:
                if not readable:
                    log.warning("the change feed can be read again")
                readable = True
        _close_connection()

    def _watch(self) -> None:
        fresh = True
        while not self._stop.wait(POLL_SECONDS):
            if self.is_fresh():
                fresh = True
                continue
            if fresh:
                log.error("the change feed gave nothing for %d seconds: calls are refused", STALE_AFTER_SECONDS)
            fresh = False
            # New calls are refused; open ones go on only if the database still says so, asked each time.
            doubt_everything()


def _without(gap: _Gap, number: int) -> list[_Gap]:
    """What is left of a gap when one of its numbers has come."""
    if not gap.first <= number <= gap.last:
        return [gap]
    halves = (_Gap(gap.first, number - 1, gap.seen), _Gap(number + 1, gap.last, gap.seen))
    return [half for half in halves if half.first <= half.last]


def _fewer(gaps: list[_Gap]) -> list[_Gap]:
    """The same gaps, or one around all of them when the query would grow too long (it may read rows twice)."""
    if len(gaps) <= _MOST_GAPS:
        return gaps
    return [_Gap(min(gap.first for gap in gaps), max(gap.last for gap in gaps), max(gap.seen for gap in gaps))]


def _close_connection() -> None:
    with contextlib.suppress(Error):
        connection.close()


feed = Feed()
