"""Catalogues that are read while nobody asks: in rounds, and once after a server was saved.

Only with credentials that all callers share: nobody's own is used without them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import connections
from django.utils import timezone

from proxy.catalogue_reading import read
from proxy.probe_http import Step
from proxy.targets import shared_target
from servers.catalogue.due import claim, due, sees_everything
from servers.catalogue.readings import NotRead, Reading
from servers.catalogue.taking import Taken, take
from servers.egress import private_destinations
from servers.errors import SecretUnavailable
from servers.models import AuthConfig, Server

log = logging.getLogger(__name__)
ACTOR: Final = "gateway"
_MOST_IN_A_ROUND: Final = 200
_READERS: Final = 4
_SECONDS_AFTER_SAVING: Final = 10.0


@dataclass(slots=True)
class Round:
    """How many catalogues were read, and how many could not be."""

    read: int = 0
    failed: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, taken: Taken) -> None:
        """One more."""
        with self._lock:
            if taken.failure:
                self.failed += 1
            else:
                self.read += 1


def read_due(now: datetime, *, stop: threading.Event | None = None) -> Round:
    """Read what is older than GATEHOUSE_CATALOGUE_SECONDS, a few at a time; safe in several processes at once.

    Returns when all is done, or soon after `stop` was set.
    """
    private_destinations()  # in memory before the threads ask
    age = timedelta(seconds=settings.CATALOGUE_SECONDS)
    waiting = iter(due(now, older_than=age, most=_MOST_IN_A_ROUND))
    done, turn = Round(), threading.Lock()

    def next_ids() -> Iterator[UUID]:
        while stop is None or not stop.is_set():
            with turn:
                server_id = next(waiting, None)
            if server_id is None:
                return
            yield server_id

    def work() -> None:
        try:
            for server_id in next_ids():
                _read_one(server_id, age, done)
        finally:
            connections.close_all()

    # Not a pool, whose threads would keep a process that is told to end until the slowest server has answered.
    readers = [threading.Thread(target=work, name=f"catalogue-{n}", daemon=True) for n in range(_READERS)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    return done


def _read_one(server_id: UUID, age: timedelta, done: Round) -> None:
    try:
        server = Server.objects.select_related("tenant").filter(pk=server_id).first()
        if server is not None and claim(server_id, timezone.now(), older_than=age):
            done.count(take(server, read_shared(server), actor=ACTOR, whole=True))
    except Exception:
        log.exception("a catalogue could not be read", extra={"server": str(server_id)})


def read_shared(server: Server, **options: Any) -> Reading | NotRead:
    """Read with the credential that all callers share, opened anew; `options` are those of `read`."""
    try:
        target = shared_target(server)
    except SecretUnavailable as error:
        return NotRead(str(Step.AUTHENTICATION), error.public_message)
    return read(target, known=Server.Eras(server.eras), **options)


def read_saved(server_id: Any, actor: str) -> None:
    """Read the catalogue of a server that was tested and saved a moment ago, if all callers share its credential.

    Blocks for some seconds at most, and never raises for what the other side does.
    """
    server = Server.objects.select_related("tenant").filter(pk=server_id, kind=Server.Kind.REMOTE).first()
    config = AuthConfig.objects.filter(server_id=server_id).first()
    if server is None or not sees_everything(config.method if config else AuthConfig.Method.NONE):
        return
    take(server, read_shared(server, total_seconds=_SECONDS_AFTER_SAVING), actor=actor, whole=True)
