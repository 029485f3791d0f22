"""The change feed and its caches: nothing that changed stays in memory, in this process or another."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from django.db import Error, connection, transaction

from servers import changes
from servers.changes import Cache, Feed, NotCached
from servers.models import Change
from tests.support.hanging import silent_database
from tests.support.other_process import run_elsewhere

PATIENCE = 30
"""Seconds after which a test gives up waiting; none of them waits so long when the code is right."""


class Listener:
    """What this process was told, in order; that everything may have changed is counted apart."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.doubts = 0
        self._waiting: dict[tuple[str, str], threading.Event] = {}

    def __call__(self, kind: str, key: str) -> None:
        if kind == changes.EVERYTHING:
            self.doubts += 1
        else:
            self.heard.append((kind, key))
        if event := self._waiting.get((kind, key)):
            event.set()

    def expect(self, kind: str, key: str) -> threading.Event:
        return self._waiting.setdefault((kind, key), threading.Event())


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    end = changes.listen(listener)
    yield listener
    end()


@pytest.fixture
def feed() -> Iterator[Feed]:
    feed = Feed()
    yield feed
    feed.stop()


class Clock:
    """Stands in for the `time` module where a test needs minutes to pass."""

    def __init__(self) -> None:
        self.passed = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.passed

    def time(self) -> float:
        return time.time() + self.passed


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(changes, "time", SimpleNamespace(monotonic=clock.monotonic, time=clock.time))
    return clock


def written(*numbers: int) -> None:
    """Rows as another process would commit them, with these sequence numbers."""
    for number in numbers:
        Change.objects.create(id=number, kind="test", key=str(number))


# --- One's own writes -----------------------------------------------------------------------------


@pytest.mark.requirement("T9")
@pytest.mark.django_db(transaction=True)
def test_an_own_change_is_applied_when_it_is_committed_and_not_before(listener: Listener) -> None:
    with transaction.atomic():
        changes.record("test", "key")
        assert listener.heard == []
    assert listener.heard == [("test", "key")]
    assert Change.objects.filter(kind="test", key="key").count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_change_that_is_rolled_back_never_happened(listener: Listener) -> None:
    with transaction.atomic():
        changes.record("test", "key")
        transaction.set_rollback(True)
    assert listener.heard == []
    assert not Change.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_many_keys_are_recorded_with_a_few_statements(
    listener: Listener, django_assert_max_num_queries: Callable[..., object]
) -> None:
    with django_assert_max_num_queries(6):
        changes.record_all("test", range(1200))
    assert len(listener.heard) == Change.objects.count() == 1200


@pytest.mark.django_db(transaction=True)
def test_a_listener_that_fails_costs_all_caches_and_keeps_nobody_from_hearing(listener: Listener) -> None:
    cache: Cache[str, str] = Cache()
    cache.get("kept", lambda: "value")

    def fails(kind: str, key: str) -> None:
        raise ValueError

    end_failing, last = changes.listen(fails), Listener()
    end_last = changes.listen(last)
    try:
        changes.record("test", "key")
    finally:
        end_failing()
        end_last()
    assert last.heard == [("test", "key")]
    assert cache.peek("kept") is None


# --- What others write ----------------------------------------------------------------------------


@pytest.mark.requirement("T9")
@pytest.mark.django_db(transaction=True)
def test_a_change_of_another_process_arrives_here(feed: Feed, listener: Listener) -> None:
    feed.start()
    arrived = listener.expect("test", "from elsewhere")
    run_elsewhere("from servers import changes; changes.record('test', 'from elsewhere')")
    assert arrived.wait(PATIENCE)


@pytest.mark.django_db(transaction=True)
def test_each_change_is_applied_once(feed: Feed, listener: Listener) -> None:
    feed.poll()
    written(5, 6)
    assert feed.poll() == 2
    assert feed.poll() == 0
    assert listener.heard == [("test", "5"), ("test", "6")]


@pytest.mark.requirement("T9")
@pytest.mark.django_db(transaction=True)
def test_a_lower_number_that_comes_later_is_applied(feed: Feed, listener: Listener) -> None:
    feed.poll()
    written(10)
    feed.poll()
    written(7)
    feed.poll()
    written(6, 9)
    feed.poll()
    assert [key for _, key in listener.heard] == ["10", "7", "6", "9"]
    assert feed.poll() == 0


@pytest.mark.requirement("T9")
@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_the_change_of_a_transaction_that_ends_late_is_applied(feed: Feed, listener: Listener) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer at a time: numbers are committed in order")
    feed.poll()
    recorded, may_commit = threading.Event(), threading.Event()

    def slow() -> None:
        try:
            with transaction.atomic():
                Change.objects.create(kind="test", key="slow")
                recorded.set()
                may_commit.wait(PATIENCE)
        finally:
            connection.close()

    writer = threading.Thread(target=slow)
    writer.start()
    try:
        assert recorded.wait(PATIENCE)
        Change.objects.create(kind="test", key="quick")
        feed.poll()
        assert listener.heard == [("test", "quick")]
    finally:
        may_commit.set()
        writer.join(PATIENCE)
    feed.poll()
    assert listener.heard == [("test", "quick"), ("test", "slow")]
    slow_id, quick_id = (Change.objects.get(key=key).pk for key in ("slow", "quick"))
    assert slow_id < quick_id


@pytest.mark.django_db(transaction=True)
def test_a_jump_of_millions_of_numbers_costs_nothing(feed: Feed, listener: Listener) -> None:
    feed.poll()
    written(50_000_000)
    feed.poll()
    written(123)
    feed.poll()
    assert [key for _, key in listener.heard] == ["50000000", "123"]


@pytest.mark.django_db(transaction=True)
def test_hundreds_of_gaps_are_still_watched(feed: Feed, listener: Listener) -> None:
    feed.poll()
    written(*range(2, 1202, 2))
    feed.poll()
    listener.heard.clear()
    written(3, 601, 1199)
    feed.poll()
    assert {"3", "601", "1199"} <= {key for _, key in listener.heard}


@pytest.mark.django_db(transaction=True)
def test_a_gap_is_given_up_after_ten_minutes(feed: Feed, listener: Listener, clock: Clock) -> None:
    feed.poll()
    written(3)
    feed.poll()
    for _ in range(3):
        clock.passed += 250
        feed.poll()
    written(2)
    assert feed.poll() == 0


@pytest.mark.django_db(transaction=True)
def test_a_start_reads_the_latest_changes_again(feed: Feed, listener: Listener) -> None:
    """A transaction that began before the start may commit a number that lies behind."""
    Change.objects.bulk_create([Change(id=number, kind="test", key=str(number)) for number in range(1, 501)])
    Change.objects.filter(id=450).delete()
    feed.poll()
    assert "500" in {key for _, key in listener.heard}
    assert "100" not in {key for _, key in listener.heard}
    written(450)
    assert feed.poll() == 1


# --- Freshness ------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_feed_is_fresh_for_five_seconds_after_a_reading(feed: Feed, clock: Clock) -> None:
    assert not feed.is_fresh()
    feed.poll()
    assert feed.is_fresh()
    clock.passed += changes.STALE_AFTER_SECONDS - 0.5
    assert feed.is_fresh()
    clock.passed += 1
    assert not feed.is_fresh()
    feed.poll()
    assert feed.is_fresh()


@pytest.mark.django_db(transaction=True)
def test_after_a_long_sleep_every_cache_is_emptied(feed: Feed, clock: Clock) -> None:
    """Rows may have been pruned that were never read."""
    cache: Cache[str, str] = Cache()
    feed.poll()
    cache.get("kept", lambda: "value")
    feed.poll()
    assert cache.peek("kept") == "value"
    clock.passed += 400
    feed.poll()
    assert cache.peek("kept") is None


@pytest.mark.requirement("T9", "T10")
@pytest.mark.django_db(transaction=True)
def test_listeners_hear_that_everything_may_have_changed_when_the_feed_begins_anew(
    feed: Feed, listener: Listener, clock: Clock
) -> None:
    """Rows may have gone unread: open calls are decided anew, from emptied caches."""
    cache: Cache[str, str] = Cache()
    remembered: list[str | None] = []
    end = changes.listen(lambda kind, _: remembered.append(cache.peek("kept")) if kind == changes.EVERYTHING else None)
    try:
        feed.poll()
        feed.poll()
        assert listener.doubts == 1
        cache.get("kept", lambda: "value")
        clock.passed += 400
        feed.poll()
        assert listener.doubts == 2
        assert remembered == [None, None]
    finally:
        end()


@pytest.mark.requirement("T9", "T10")
@pytest.mark.django_db(transaction=True)
def test_everything_is_doubted_while_the_feed_is_stale_and_not_before(
    feed: Feed, listener: Listener, clock: Clock
) -> None:
    feed.start()
    lost = Heard("cannot be read")
    logger = logging.getLogger("servers.changes")
    logger.addHandler(lost)
    rename("servers_change", "servers_change_away")
    try:
        assert lost.event.wait(PATIENCE)
        assert listener.doubts == 1, "an outage of less than five seconds costs nothing"
        doubted = listener.expect(changes.EVERYTHING, "")
        assert not doubted.is_set()
        clock.passed += changes.STALE_AFTER_SECONDS
        assert doubted.wait(PATIENCE)
        assert not feed.is_fresh()
    finally:
        rename("servers_change_away", "servers_change")
        logger.removeHandler(lost)


@pytest.mark.requirement("T9", "T10")
@pytest.mark.django_db(transaction=True)
def test_a_reading_that_hangs_counts_like_one_that_fails(feed: Feed, listener: Listener, clock: Clock) -> None:
    feed.start()
    told = Heard("gave nothing for 5 seconds")
    logger = logging.getLogger("servers.changes")
    logger.addHandler(told)
    try:
        with silent_database("change-feed") as silence:
            assert silence.noticed.wait(PATIENCE)
            assert feed.is_fresh()
            doubted = listener.expect(changes.EVERYTHING, "")
            assert not doubted.is_set(), "five seconds have not passed"
            clock.passed += changes.STALE_AFTER_SECONDS
            assert doubted.wait(PATIENCE)
            assert told.event.wait(PATIENCE)
            assert not feed.is_fresh()
        # When what comes second is heard of, the reading that brought the first is over.
        for key in ("after", "at last"):
            arrived = listener.expect("test", key)
            Change.objects.create(kind="test", key=key)
            assert arrived.wait(PATIENCE)
        assert feed.is_fresh()
    finally:
        logger.removeHandler(told)


class Heard(logging.Handler):
    """Sets an event when a message comes that contains a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.event = text, threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self.text in record.getMessage():
            self.event.set()


@pytest.mark.django_db(transaction=True)
def test_the_feed_outlives_an_unreadable_database_and_starts_over(feed: Feed, listener: Listener) -> None:
    cache: Cache[str, str] = Cache()
    feed.start()
    lost, found = Heard("cannot be read"), Heard("can be read again")
    logger = logging.getLogger("servers.changes")
    logger.addHandler(lost)
    logger.addHandler(found)
    try:
        cache.get("kept", lambda: "value")
        rename("servers_change", "servers_change_away")
        try:
            assert lost.event.wait(PATIENCE)
        finally:
            rename("servers_change_away", "servers_change")
        assert found.event.wait(PATIENCE)
        assert cache.peek("kept") is None
        arrived = listener.expect("test", "after")
        Change.objects.create(kind="test", key="after")
        assert arrived.wait(PATIENCE)
    finally:
        logger.removeHandler(lost)
        logger.removeHandler(found)


@pytest.mark.django_db(transaction=True)
def test_a_reading_that_fails_does_not_make_the_feed_fresh(feed: Feed) -> None:
    rename("servers_change", "servers_change_away")
    try:
        with pytest.raises(Error):
            feed.poll()
    finally:
        rename("servers_change_away", "servers_change")
    assert not feed.is_fresh()


def rename(old: str, new: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {old} RENAME TO {new}")


@pytest.mark.django_db(transaction=True)
def test_starting_twice_keeps_the_same_threads_and_stopping_ends_them(feed: Feed) -> None:
    def running() -> list[str]:
        return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith("change-feed"))

    feed.start()
    feed.start()
    assert running() == ["change-feed", "change-feed-watch"]
    feed.stop()
    assert not running()
    feed.start()
    assert running() == ["change-feed", "change-feed-watch"]


# --- Caches ---------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_value_that_was_read_before_an_eviction_is_not_kept_after_it() -> None:
    cache: Cache[str, str] = Cache()

    def load() -> str:
        cache.evict("key")
        return "old"

    assert cache.get("key", load) == "old"
    assert cache.peek("key") is None
    assert cache.get("key", lambda: "new") == "new"
    assert cache.peek("key") == "new"


@pytest.mark.django_db(transaction=True)
def test_a_value_that_was_read_among_uncommitted_changes_is_not_kept() -> None:
    cache: Cache[str, str] = Cache()
    with transaction.atomic():
        changes.record("test", "key")
        assert cache.get("key", lambda: "uncommitted") == "uncommitted"
    assert cache.peek("key") is None


@pytest.mark.django_db(transaction=True)
def test_a_miss_is_never_kept() -> None:
    cache: Cache[str, str] = Cache()
    assert cache.get("key", lambda: None) is None
    assert cache.get("key", lambda: "came later") == "came later"


def test_what_may_not_be_loaded_raises_instead() -> None:
    cache: Cache[str, str] = Cache()
    with pytest.raises(NotCached):
        cache.get("key", lambda: pytest.fail("loaded"), may_load=False)


@pytest.mark.django_db(transaction=True)
def test_a_tag_evicts_its_values_and_no_others() -> None:
    cache: Cache[int, str] = Cache(tags=lambda value: tuple(value))
    for key, value in enumerate(("ab", "bc", "cd")):
        cache.get(key, lambda value=value: value)
    cache.evict_tag("b")
    assert [cache.peek(key) for key in range(3)] == [None, None, "cd"]
    cache.get(0, lambda: "xc")
    cache.evict_tag("a")
    cache.evict_tag("b")
    assert cache.peek(0) == "xc"
    cache.evict_tag("c")
    assert len(cache) == 0


@pytest.mark.django_db(transaction=True)
def test_a_full_cache_starts_over_instead_of_growing() -> None:
    cache: Cache[int, str] = Cache(limit=10, tags=lambda value: (value,))
    for number in range(1000):
        cache.get(number, lambda number=number: str(number))
        assert len(cache) <= 10
    cache.evict_tag("999")
    assert cache.peek(999) is None


class SlowKey:
    """A key whose hashing lets other threads run, at each step that a cache takes with it."""

    def __hash__(self) -> int:
        time.sleep(0)
        return 1


@pytest.mark.requirement("T9")
@pytest.mark.django_db(transaction=True)
def test_no_thread_keeps_an_old_value_however_reads_and_evictions_meet() -> None:
    """Readers load while a writer changes the truth and evicts; what stays in memory must be the truth."""
    cache: Cache[SlowKey, int] = Cache()
    key, truth = SlowKey(), [0]
    done = threading.Event()
    wrong: list[tuple[int, int]] = []

    def read() -> None:
        while not done.is_set():
            cache.get(key, lambda: truth[0])

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    readers = [threading.Thread(target=read) for _ in range(4)]
    try:
        for reader in readers:
            reader.start()
        for number in range(1, 3000):
            truth[0] = number
            cache.evict(key)
            kept = cache.peek(key)
            if kept is not None and kept < number:
                wrong.append((kept, number))
    finally:
        done.set()
        for reader in readers:
            reader.join(PATIENCE)
        sys.setswitchinterval(interval)
    assert not wrong
