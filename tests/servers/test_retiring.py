"""Large values are freed in steps, and long loops give others their turn."""

from __future__ import annotations

import threading
import weakref

import pytest

from servers import changes, retiring
from servers.turns import in_turns


class Thing:
    """Something that can be seen to go."""


def test_a_large_value_that_was_dropped_is_freed_once_nobody_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retiring, "_LATER_SECONDS", 0.0)
    cache: changes.Cache[str, list[Thing]] = changes.Cache(parts=lambda found: (found,))
    things = cache.get("many", lambda: [Thing() for _ in range(retiring.LARGE)])
    assert things is not None
    freed = threading.Event()
    weakref.finalize(things[0], freed.set)
    cache.evict("many")
    assert len(things) == retiring.LARGE
    assert all(isinstance(thing, Thing) for thing in things)
    assert not freed.is_set()
    del things
    assert freed.wait(10)


def test_a_loop_in_turns_goes_through_the_same_items() -> None:
    assert list(in_turns(range(1234))) == list(range(1234))
    assert list(in_turns([])) == []
