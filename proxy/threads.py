"""The one bridge from the event loop to the database: a bounded pool of threads of our own.

Django's shared thread would put all look-ups of a process in one line (asgiref's thread-sensitive mode).
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from django.db import close_old_connections

Result = TypeVar("Result")
_WORKERS: Final = 8
_pool = ThreadPoolExecutor(max_workers=_WORKERS, thread_name_prefix="gatehouse-db")


async def run(function: Callable[..., Result], *arguments: Any) -> Result:
    """Run a blocking function in the pool, with the caller's context; its connections go back afterwards."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(
        _pool, context.run, _with_fresh_connections, function, arguments
    )


def _with_fresh_connections(function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    close_old_connections()
    try:
        return function(*arguments)
    finally:
        close_old_connections()
