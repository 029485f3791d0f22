"""The bridges from the event loop to what blocks: bounded pools of threads of our own.

One is for the database: Django's shared thread would put all queries of a process in one line (asgiref's
thread-sensitive mode). One is for names of hosts, where a resolver may keep a thread for half a minute, one for
providers of tokens, which may take as long, and one for servers whose catalogue is read: nobody's sign-in waits behind
that.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from django.db import close_old_connections

from servers import changes

Result = TypeVar("Result")
_WORKERS: Final = 8
_PATIENCE_SECONDS: Final = 2.0
_pool = ThreadPoolExecutor(max_workers=_WORKERS, thread_name_prefix="gatehouse-db")
_PROVIDER_WORKERS: Final = 16
_providers = ThreadPoolExecutor(max_workers=_PROVIDER_WORKERS, thread_name_prefix="gatehouse-provider")
_READING_WORKERS: Final = 4
_readers = ThreadPoolExecutor(max_workers=_READING_WORKERS, thread_name_prefix="gatehouse-catalogue")
_look_ups = ThreadPoolExecutor(max_workers=_WORKERS, thread_name_prefix="gatehouse-dns")


class NoAnswer(Exception):
    """The database gives no answer, and the change feed cannot be read either."""


async def run(function: Callable[..., Result], *arguments: Any) -> Result:
    """Run a blocking function in the pool, with the caller's context; its connections go back afterwards."""
    return await _run_in(_pool, function, arguments)


async def run_or_give_up(function: Callable[..., Result], *arguments: Any) -> Result:
    """As `run`, but raises NoAnswer when there is no result after a while and the feed cannot be read.

    A query can hang as well as fail. Its thread is free again only when the database or the system gives up.
    """
    result = _run_in(_pool, function, arguments)
    try:
        while not (await asyncio.wait((result,), timeout=_PATIENCE_SECONDS))[0]:
            if not changes.feed.is_fresh():
                raise NoAnswer
        return result.result()
    finally:
        result.cancel()


_shared: dict[tuple[asyncio.AbstractEventLoop, Hashable], asyncio.Task[Any]] = {}


async def shared(key: Hashable, function: Callable[..., Result], *arguments: Any) -> Result:
    """As `run_or_give_up`, once for all who come with the same key while it runs. It goes on when they leave."""
    whole = (asyncio.get_running_loop(), key)
    task = _shared.get(whole)
    if task is None:
        task = _shared[whole] = asyncio.ensure_future(run_or_give_up(function, *arguments))
        task.add_done_callback(lambda done: _over(whole, done))
    found: Result = await asyncio.shield(task)
    return found


def _over(whole: tuple[asyncio.AbstractEventLoop, Hashable], task: asyncio.Task[Any]) -> None:
    del _shared[whole]
    if not task.cancelled():
        # Looked at, so that nobody complains when all who wanted it have left.
        task.exception()


async def look_up(function: Callable[..., Result], *arguments: Any) -> Result:
    """Run a function that waits for a name to be resolved, as `run` does, where it holds up other names at most."""
    return await _run_in(_look_ups, function, arguments)


async def ask_provider(function: Callable[..., Result], *arguments: Any) -> Result:
    """Run a function that waits for a provider's answer, as `run` does, where it holds up other tokens at most."""
    return await _run_in(_providers, function, arguments)


async def read_server(function: Callable[..., Result], *arguments: Any) -> Result:
    """Run a function that waits for a server's answers, as `run` does, where it holds up other catalogues at most."""
    return await _run_in(_readers, function, arguments)


def _run_in(
    pool: ThreadPoolExecutor, function: Callable[..., Result], arguments: tuple[Any, ...]
) -> asyncio.Future[Result]:
    context = contextvars.copy_context()
    return asyncio.get_running_loop().run_in_executor(pool, context.run, _with_fresh_connections, function, arguments)


def _with_fresh_connections(function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    close_old_connections()
    try:
        return function(*arguments)
    finally:
        close_old_connections()
