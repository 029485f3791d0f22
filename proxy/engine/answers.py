"""Questions to a client that wait for its answer, whichever process that comes to.

An older client answers with a request of its own, which any replica may get. In the process that asked, the answer
goes straight to the call. Elsewhere it is written to a row, and the change feed tells the process that waits.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final
from weakref import WeakSet

from django.conf import settings
from django.utils import timezone

from authflows.models import PassedAnswer
from proxy import threads
from servers import changes
from servers.sealing import KeyRing, Sealer, SealError

log = logging.getLogger(__name__)

CHANGE: Final = "answer"
"""Kind of the `Change` rows; their key is the digest of session and question."""
_LIFETIME: Final = timedelta(minutes=5)
_MOST_BYTES: Final = 1024 * 1024


class Answers:
    """The questions of one event loop that are not answered yet."""

    def __init__(self) -> None:
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        _all.add(self)

    def expect(self, session: str, question: str) -> asyncio.Future[dict[str, Any]]:
        """The answer to come to a question that goes out in this session. Cancel it when it is not wanted any more."""
        self._loop = asyncio.get_running_loop()
        digest = _digest(session, question)
        future = self._waiting[digest] = self._loop.create_future()
        future.add_done_callback(lambda _: self._waiting.pop(digest, None))
        return future

    async def take(self, session: str, response: dict[str, Any]) -> None:
        """A client's response in this session; one that nobody here waits for is left for another process.

        Nobody else can answer: the question's number is only good together with the session (T47).
        """
        digest = _digest(session, str(response.get("id")))
        future = self._waiting.get(digest)
        if future is not None and not future.done():
            future.set_result(response)
        elif future is None:
            await threads.run_or_give_up(_leave, digest, response)

    def heard(self, digest: str) -> None:
        """From any thread: an answer was left."""
        if self._loop is not None and digest in self._waiting:
            self._loop.call_soon_threadsafe(self._fetch, digest)

    def _fetch(self, digest: str) -> None:
        task = asyncio.ensure_future(self._fetched(digest))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetched(self, digest: str) -> None:
        response = await threads.run_or_give_up(_fetch, digest)
        future = self._waiting.get(digest)
        if response is not None and future is not None and not future.done():
            future.set_result(response)


_all: WeakSet[Answers] = WeakSet()


@lru_cache(maxsize=2)
def _sealer(ring: KeyRing) -> Sealer:
    return ring.sealer("passed-answer")


def _digest(session: str, question: str) -> str:
    return hashlib.sha256(f"{session}|{question}".encode()).hexdigest()


def _leave(digest: str, response: dict[str, Any]) -> None:
    text = json.dumps(response, separators=(",", ":")).encode()
    if len(text) > _MOST_BYTES:
        log.warning("an answer to a question was too large to be passed on")
        return
    row = PassedAnswer(digest=digest, expires_at=timezone.now() + _LIFETIME)
    row.sealed = _sealer(settings.KEY_RING).seal(text, row.seal_context())
    # The first answer counts; whoever repeats it changes nothing.
    PassedAnswer.objects.bulk_create([row], ignore_conflicts=True)
    changes.record(CHANGE, digest)


def _fetch(digest: str) -> dict[str, Any] | None:
    row = PassedAnswer.objects.filter(digest=digest, expires_at__gt=timezone.now()).first()
    if row is None:
        return None
    try:
        found: dict[str, Any] = json.loads(_sealer(settings.KEY_RING).open(row.sealed, row.seal_context()))
    except SealError:
        found = {}
    row.delete()
    return found or None


def _on_change(kind: str, key: str) -> None:
    if kind == CHANGE:
        for answers in tuple(_all):
            answers.heard(key)


changes.listen(_on_change)
