"""Waiting for providers of tokens: once for all who wait for the same token, and never too many at one provider."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable
from time import time
from typing import Final
from uuid import UUID

from authflows.outbound.credential_results import NotObtained
from proxy import threads
from proxy.pipeline import Knock, NoToken, Outcome, TokenDue, prepare_loading, prepared_with

_MOST_AT_ONE_SERVER: Final = 4
_BUSY: Final = NotObtained(False, "busy", "Its provider is slow to answer, and others wait for it already.")
_MOST_WAITING: Final = 64


def again_loading(again: Callable[..., Outcome] | None) -> Callable[[Knock], Outcome]:
    """How to ask once more in a thread that may wait for the database."""
    if again is None:
        return prepare_loading
    return lambda _: again(now=time(), may_load=True)


class Obtaining:
    """What is being asked for on one event loop."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Task[NotObtained | None]] = {}
        self._waiting: Counter[UUID] = Counter()
        self._turns: dict[UUID, asyncio.Semaphore] = {}

    async def run(
        self, key: Hashable, obtain: Callable[[], NotObtained | None], *, server_id: UUID
    ) -> NotObtained | None:
        """Have `obtain` run in a thread that may wait; those who come meanwhile with the same key share its answer.

        It goes on when its callers leave: a token that was asked for has to be kept.
        """
        task = self._under_way.get(key)
        if task is None:
            if self._waiting[server_id] >= _MOST_WAITING:
                return _BUSY
            self._waiting[server_id] += 1
            task = self._under_way[key] = asyncio.ensure_future(self._run(key, obtain, server_id))
        return await asyncio.shield(task)

    async def settled(self, outcome: Outcome, knock: Knock, *, again: Callable[..., Outcome] | None = None) -> Outcome:
        """What a call comes to that waits for a token: with a new one, or what there is while there is no other.

        `again` asks once more what the call comes to; None: as `prepare_call`.
        """
        failure: NotObtained | None = None
        for _ in range(2):
            if not isinstance(outcome, TokenDue):
                return outcome
            due = outcome.due
            failure = await self.run(due.key, due.obtain, server_id=outcome.server.id)
            if failure is not None and not failure.dead:
                break
            outcome = await threads.run_or_give_up(again_loading(again), knock)
        if not isinstance(outcome, TokenDue):
            return outcome
        if outcome.due.usable is not None:
            return prepared_with(outcome.principal, outcome.server, outcome.due.usable, outcome.allowed)
        failure = failure or NotObtained(False, "no_newer_token", "Its tokens end as soon as they are given.")
        return NoToken(outcome.principal, outcome.server, failure, outcome.allowed)

    async def _run(
        self, key: Hashable, obtain: Callable[[], NotObtained | None], server_id: UUID
    ) -> NotObtained | None:
        turns = self._turns.setdefault(server_id, asyncio.Semaphore(_MOST_AT_ONE_SERVER))
        try:
            async with turns:
                return await threads.ask_provider(obtain)
        finally:
            del self._under_way[key]
            self._waiting[server_id] -= 1
            if not self._waiting[server_id]:
                del self._waiting[server_id]
                del self._turns[server_id]
