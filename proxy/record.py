"""One record for every proxied request, also on failure and disconnect (T57), written off the path.

`Recorder.add` puts a row into a bounded queue; a thread writes batches. A full queue loses the record, counts
it, logs it, and leaves an audit event, so that a gap is never silent.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from authflows.models import ApiKey
from servers import audit
from servers.models import Call

log = logging.getLogger(__name__)
calls_log = logging.getLogger("gatehouse.calls")

_FLUSH_SECONDS: Final = 0.5
_BATCH: Final = 1000
_RETRY_SECONDS: Final = 2.0
_STAMP_SECONDS: Final = 60.0


class CallRow(NamedTuple):
    """A call record in the order of its table's columns. Times: Unix seconds, milliseconds; sizes: bytes."""

    at: float
    request_id: str
    tenant: str
    server: str
    server_id: UUID | None
    principal: str
    user_id: int | None
    credential: str
    client: str
    http_method: str
    method: str
    item: str
    protocol_version: str
    decision: str
    status: int
    upstream_status: int | None
    outcome: str
    bytes_in: int
    bytes_out: int
    milliseconds: int


class Recorder:
    """The queue of call records and the thread that writes them."""

    def __init__(self, limit: int) -> None:
        self._queue: deque[CallRow] = deque()
        self._limit = limit
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._start_lock = threading.Lock()
        self._stamped: dict[str, float] = {}
        self._reported = 0
        self.lost = 0

    def add(self, row: CallRow) -> None:
        """Queue one record; never blocks and never fails."""
        if len(self._queue) >= self._limit:
            self.lost += 1
            return
        self._queue.append(row)

    def waiting(self) -> int:
        """How many records are not written yet."""
        return len(self._queue)

    def start(self) -> None:
        """Start the writer's thread. Safe to call again."""
        with self._start_lock:
            if self._thread is None or not self._thread.is_alive():
                self._stop.clear()
                self._thread = threading.Thread(target=self._run, name="call-records", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Write what is queued and end the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=15)
            self._thread = None

    def flush(self) -> None:
        """Write everything that is queued now, in the caller's thread. Raises DatabaseError."""
        while self._queue:
            rows = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
            try:
                self._write(rows)
            except DatabaseError:
                self._queue.extendleft(reversed(rows))
                raise
        self._report_lost()

    def _run(self) -> None:
        while True:
            stopping = self._stop.wait(_FLUSH_SECONDS)
            try:
                self.flush()
            except DatabaseError:
                log.exception("call records cannot be written; %d are waiting", len(self._queue))
                connection.close()
                if not stopping:
                    stopping = self._stop.wait(_RETRY_SECONDS)
            if stopping:
                connection.close()
                return

    def _write(self, rows: list[CallRow]) -> None:
        # Plain SQL: model instances would cost more than the whole rest of a call.
        with transaction.atomic(), connection.cursor() as cursor:
            if connection.vendor == "sqlite":
                cursor.executemany(_INSERT, [_for_sqlite(row) for row in rows])
            else:
                cursor.executemany(_INSERT, [_for_postgresql(row) for row in rows])
            self._stamp_keys(rows)
        if settings.LOG_CALLS:
            for row in rows:
                calls_log.info("call", extra={"call": row._asdict()})

    def _stamp_keys(self, rows: list[CallRow]) -> None:
        """Note when keys were last used, at most once a minute for each."""
        now = time.monotonic()
        used = {row.credential for row in rows if row.credential.startswith("api_key:")}
        due = [c for c in used if now - self._stamped.get(c, -_STAMP_SECONDS) >= _STAMP_SECONDS]
        if due:
            ids = [credential.removeprefix("api_key:") for credential in due]
            ApiKey.objects.filter(pk__in=ids).update(last_used_at=timezone.now())
            self._stamped.update(dict.fromkeys(due, now))

    def _report_lost(self) -> None:
        lost = self.lost - self._reported
        if lost:
            self._reported += lost
            log.error("%d call records were lost: the queue was full", lost)
            audit.record(audit.Action.CALLS_LOST, actor="gateway", detail={"count": lost})


_INSERT: Final = "INSERT INTO {} ({}) VALUES ({})".format(  # noqa: S608  (names of our own)
    Call._meta.db_table, ", ".join(CallRow._fields), ", ".join(["%s"] * len(CallRow._fields))
)


def _for_sqlite(row: CallRow) -> tuple[Any, ...]:
    at = datetime.fromtimestamp(row.at, UTC).replace(tzinfo=None).isoformat(" ")
    return (at, *row[1:4], row.server_id.hex if row.server_id else None, *row[5:])


def _for_postgresql(row: CallRow) -> tuple[Any, ...]:
    return (datetime.fromtimestamp(row.at, UTC), *row[1:])


recorder = Recorder(settings.CALL_QUEUE_SIZE)
