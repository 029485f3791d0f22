"""`manage.py maintain`: what has to happen while nobody calls.

Refreshes connections ahead, reads what servers offer, and prunes once a day.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from datetime import timedelta
from io import StringIO
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import Error, close_old_connections, connections
from django.utils import timezone

from authflows.outbound import maintenance
from proxy import catalogue_rounds

log = logging.getLogger(__name__)
_PRUNE_EVERY = timedelta(days=1)


class Command(BaseCommand):
    help = (
        "Refresh connections before a call has to wait for it, read what servers offer, and prune once a day, until "
        "stopped. "
        "Safe beside any number of gateway processes; one of it is enough. `serve --maintain` runs it too."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--every", type=int, default=60, help="seconds between two rounds (default 60)")
        parser.add_argument("--with-parent", action="store_true", help="end when the process that started it ended")
        parser.add_argument("--once", action="store_true", help="one round, then end")

    def handle(
        self, *args: Any, every: int = 60, once: bool = False, with_parent: bool = False, **options: Any
    ) -> None:
        stop = threading.Event()
        if not once:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, lambda *_: stop.set())
        parent = os.getppid()
        prune_at = timezone.now()
        reading = _InBackground(stop)
        while True:
            try:
                done = maintenance.refresh_due(timezone.now())
                if once or done.refreshed or done.failed:
                    self.stdout.write(f"connections: {done.refreshed} refreshed, {done.failed} could not be")
                if once:
                    self._say(catalogue_rounds.read_due(timezone.now()))
                else:
                    reading.start()
                if timezone.now() >= prune_at:
                    prune_at = timezone.now() + _PRUNE_EVERY
                    self._prune(say_all=once)
            except Error:
                if once:
                    raise
                log.exception("the database did not answer; the next round tries again")
            if once:
                return
            close_old_connections()
            if stop.wait(max(1, every)) or (with_parent and os.getppid() != parent):
                return

    def _say(self, done: catalogue_rounds.Round) -> None:
        self.stdout.write(f"catalogues: {done.read} read, {done.failed} could not be")

    def _prune(self, *, say_all: bool) -> None:
        said = StringIO()
        call_command("prune", stdout=said)
        for line in said.getvalue().splitlines():
            if say_all or not line.endswith(": 0 deleted"):
                self.stdout.write(line)


class _InBackground:
    """Reads catalogues beside the other duties, which servers that are slow to answer must not keep waiting."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin a round, unless the one before is still under way."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="catalogues", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            catalogue_rounds.read_due(timezone.now(), stop=self._stop)
        except Error:
            log.exception("the database did not answer; the next round reads catalogues")
        finally:
            connections.close_all()
