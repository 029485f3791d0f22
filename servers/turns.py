"""Long loops beside the event loop, in steps between which it has its turn.

A thread that computes keeps the interpreter for as long as `sys.getswitchinterval()` says, and a processor, where there
is only one, until the system's next tick. Both are long for calls that wait meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import sleep
from typing import Final, TypeVar

Item = TypeVar("Item")
_STEP: Final = 100
"""Items that take less than a millisecond together."""
_PAUSE_SECONDS: Final = 0.00005


def give_way() -> None:
    """Let others run that wait for the interpreter. Not for the event loop itself."""
    sleep(_PAUSE_SECONDS)


def in_turns(items: Iterable[Item]) -> Iterator[Item]:
    """The same items; others run after each hundred of them. Not for the event loop itself."""
    for number, item in enumerate(items, 1):
        yield item
        if number % _STEP == 0:
            give_way()
