"""Large values that nobody needs any more, freed in small steps.

Freeing ten thousand objects at once takes milliseconds, in which no other thread of the process runs: neither does the
event loop, and with it every call.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable
from time import sleep
from typing import Final

LARGE: Final = 1_000
_STEP: Final = 250
_PAUSE_SECONDS: Final = 0.001
_LATER_SECONDS: Final = 3.0
"""By then nearly every call has ended that still uses the value."""


def free_slowly(parts: Iterable[Collection[object]]) -> None:
    """See to it that the objects in these collections, of a value that is about to be dropped, go one after the other.

    Whoever uses the value still may go on doing so.
    """
    large = [part for part in parts if len(part) >= LARGE]
    if large:
        timer = threading.Timer(_LATER_SECONDS, _free, (large,))
        timer.daemon = True
        timer.start()


def _free(large: list[Collection[object]]) -> None:
    held: list[list[object]] = []
    for part in large:
        held.append(list(part))
        sleep(_PAUSE_SECONDS)
    del part
    # The collections first: what they held is held here, so that they are gone in a moment.
    while large:
        del large[-1]
        sleep(_PAUSE_SECONDS)
    for objects in held:
        while objects:
            del objects[-_STEP:]
            sleep(_PAUSE_SECONDS)
