"""A database that takes queries and gives no answer, as one behind a cut network does."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db.backends.utils import CursorWrapper


class Silence:
    """Queries of some threads that hang; `noticed` is set by the first."""

    def __init__(self, *threads: str) -> None:
        self.noticed = threading.Event()
        self.over = threading.Event()
        self._threads = threads

    def keep(self) -> None:
        """Hang when the present thread is one of those."""
        if threading.current_thread().name.startswith(self._threads):
            self.noticed.set()
            self.over.wait(60)


@contextmanager
def silent_database(*threads: str) -> Iterator[Silence]:
    """Let every query hang that comes from threads whose names begin so, until the block ends."""
    silence = Silence(*threads)
    execute = CursorWrapper.execute

    def hang(self: Any, *arguments: Any, **options: Any) -> Any:
        silence.keep()
        return execute(self, *arguments, **options)

    CursorWrapper.execute = hang  # type: ignore[method-assign]
    try:
        yield silence
    finally:
        silence.over.set()
        CursorWrapper.execute = execute  # type: ignore[method-assign]
