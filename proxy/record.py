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
from django.db import DatabaseError, DataError, connection, transaction
from django.utils import timezone

from authflows.models import ApiKey, Approval, Connection, OAuthClient, OwnKey
from authflows.outbound.credential_results import Credential, Kind
from servers import audit
from servers.models import Call
from servers.turns import give_way

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
        self._flush_lock = threading.Lock()
        self._stamped: dict[str, float] = {}
        self._used: set[str] = set()
        self._doors: set[str] = set()
        self._reported = 0
        self.lost = 0

    def add(self, row: CallRow, credential: Credential | None = None) -> None:
        """Queue one record, with what the call was made with; never blocks and never fails."""
        if credential is not None and credential.stamp and row.upstream_status is not None:
            self._used.add(credential.stamp)
        if len(self._queue) >= self._limit:
            self.lost += 1
            return
        self._queue.append(row)

    def note_use(self, credential: str) -> None:
        """Note that a key or an approval opened a door behind which there was no call."""
        self._doors.add(credential)

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
        with self._flush_lock:
            while self._queue:
                rows = [self._queue.popleft() for _ in range(min(_BATCH, len(self._queue)))]
                try:
                    try:
                        self._write(rows)
                    except DataError:
                        # A NUL, which any stranger can put into a path, is no text to PostgreSQL; and a row that
                        # is never taken would hold up all others for good.
                        self._write([_without_nul(row) for row in rows])
                except DatabaseError:
                    self._queue.extendleft(reversed(rows))
                    raise
                except Exception:
                    self.lost += len(rows)
                    raise
            if self._doors:
                self._stamp_credentials([])
            self._report_lost()

    def _run(self) -> None:
        while True:
            stopping = self._stop.wait(_FLUSH_SECONDS)
            try:
                self.flush()
            except Exception:  # whatever it was: without this thread there are no records at all
                log.exception("call records cannot be written; %d are waiting", len(self._queue))
                connection.close()
                if not stopping:
                    stopping = self._stop.wait(_RETRY_SECONDS)
            if stopping:
                connection.close()
                return

    def _write(self, rows: list[CallRow]) -> None:
        # Plain SQL: model instances would cost more than the whole rest of a call.
        with transaction.atomic(), connection.cursor() as cursor, connection.wrap_database_errors:
            if connection.vendor == "sqlite":
                _insert_into_sqlite(rows)
            else:
                cursor.executemany(_INSERT, [(datetime.fromtimestamp(row.at, UTC), *row[1:]) for row in rows])
            self._stamp_credentials(rows)
            self._stamp_own_credentials()
        if settings.LOG_CALLS:
            for row in rows:
                calls_log.info("call", extra={"call": row._asdict()})

    def _stamp_credentials(self, rows: list[CallRow]) -> None:
        """Note when keys, approvals and their clients were last used, at most once a minute for each."""
        now = time.monotonic()
        doors, self._doors = self._doors, set()
        used = {row.credential for row in rows if row.credential.startswith(("api_key:", "approval:"))} | doors
        due = [c for c in used if now - self._stamped.get(c, -_STAMP_SECONDS) >= _STAMP_SECONDS]
        if due:
            keys = [c.removeprefix("api_key:") for c in due if c.startswith("api_key:")]
            approvals = [c.removeprefix("approval:") for c in due if c.startswith("approval:")]
            stamp = timezone.now()
            if keys:
                ApiKey.objects.filter(pk__in=keys).update(last_used_at=stamp)
            if approvals:
                Approval.objects.filter(pk__in=approvals).update(last_used_at=stamp)
                clients = Approval.objects.filter(pk__in=approvals).values("client")
                OAuthClient.objects.filter(pk__in=clients).update(last_used_at=stamp)
            self._stamped.update(dict.fromkeys(due, now))

    def _stamp_own_credentials(self) -> None:
        """The same for connections and own keys, which no cache depends on for this."""
        now = time.monotonic()
        used, self._used = self._used, set()
        due = [item for item in used if now - self._stamped.get(item, -_STAMP_SECONDS) >= _STAMP_SECONDS]
        stamp = timezone.now()
        for kind, rows in ((Kind.CONNECTION, Connection.objects), (Kind.OWN_KEY, OwnKey.objects)):
            ids = [item.removeprefix(f"{kind}:") for item in due if item.startswith(f"{kind}:")]
            if ids:
                rows.filter(pk__in=ids).update(last_used_at=stamp)
        self._stamped.update(dict.fromkeys(due, now))

    def _report_lost(self) -> None:
        lost = self.lost - self._reported
        if lost:
            log.error("%d call records were lost: the queue was full, or they could not be written", lost)
            audit.record(audit.Action.CALLS_LOST, actor="gateway", detail={"count": lost})
            self._reported += lost


def _without_nul(row: CallRow) -> CallRow:
    return CallRow._make(value.replace("\0", "\ufffd") if type(value) is str else value for value in row)


_PLACES: Final = ", ".join(["%s"] * len(CallRow._fields))
_INSERT: Final = f"INSERT INTO {Call._meta.db_table} ({', '.join(CallRow._fields)}) VALUES ({_PLACES})"  # noqa: S608
_ROWS_A_STATEMENT: Final = 100
_INSERT_ONE: Final = _INSERT.replace("%s", "?")
_INSERT_MANY: Final = _INSERT_ONE + f", ({_PLACES})".replace("%s", "?") * (_ROWS_A_STATEMENT - 1)


def _insert_into_sqlite(rows: list[CallRow]) -> None:
    """Many rows a statement: `executemany` hands the interpreter's lock over and back for every row.

    On the driver's own cursor, because Django's rewrites the text of every statement. Calls have their turn between
    two statements: a whole batch would hold them up for milliseconds.
    """
    cursor = connection.connection.cursor()
    for start in range(0, len(rows), _ROWS_A_STATEMENT):
        values = _sqlite_values(rows[start : start + _ROWS_A_STATEMENT])
        if len(values) == _ROWS_A_STATEMENT:
            cursor.execute(_INSERT_MANY, [value for row in values for value in row])
            give_way()
        else:
            cursor.executemany(_INSERT_ONE, values)
    cursor.close()


def _sqlite_values(rows: list[CallRow]) -> list[tuple[Any, ...]]:
    """Rows as SQLite stores them: times as Django writes them (UTC), UUIDs as 32 hexadecimal digits."""
    seconds: dict[int, str] = {}
    ids: dict[UUID | None, str | None] = {None: None}
    values = []
    for row in rows:
        second = int(row.at)
        if second not in seconds:
            seconds[second] = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S")
        if row.server_id not in ids:
            ids[row.server_id] = row.server_id.hex if row.server_id else None
        at = f"{seconds[second]}.{int((row.at - second) * 1_000_000):06d}"
        values.append((at, *row[1:4], ids[row.server_id], *row[5:]))
    return values


recorder = Recorder(settings.CALL_QUEUE_SIZE)
