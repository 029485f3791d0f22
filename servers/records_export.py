"""Call records and audit events as a file: CSV or one JSON object a line, streamed in chunks, newest first."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.utils import timezone

MOST_ROWS: Final = 100_000
"""In one file. Whoever needs more asks for several spans of time."""
_CHUNK: Final = 1000
# What a spreadsheet takes for a formula when a cell begins with it, also in full width. Some read files of commas by
# their country's separator, so that a cell can begin in the middle of a text of ours.
_FORMULA: Final = re.compile(r"\A(?=[\t\r\n])|(?:\A|[;\t\r\n])(?=[ \"']{0,9}[=+\-@\uff1d\uff0b\uff0d\uff20])")


class Format(StrEnum):
    """How a file is written."""

    CSV = "csv"
    JSON_LINES = "jsonl"

    @property
    def content_type(self) -> str:
        """As it stands in the answer's header."""
        return "text/csv; charset=utf-8" if self is Format.CSV else "application/x-ndjson"


@dataclass(frozen=True, slots=True)
class Source:
    """One kind of rows: its word in file names, the unique number they are read by, and their columns."""

    name: str
    key: str
    columns: Sequence[str]
    """Names of fields, across relations as in queries."""


CALLS: Final = Source(
    "calls",
    "id",
    (
        "id", "at", "request_id", "tenant", "server", "server_id", "principal", "user_id", "credential", "client",
        "http_method", "method", "item", "protocol_version", "decision", "status", "upstream_status", "outcome",
        "bytes_in", "bytes_out", "milliseconds",
    ),
)  # fmt: skip
# With everything that is under the hash, so that whoever has the file can walk the chain.
EVENTS: Final = Source(
    "audit",
    "sequence",
    (
        "sequence", "id", "at", "action", "actor", "tenant_id", "tenant__slug", "subject_id", "subject", "request_id",
        "detail", "previous_hash", "hash",
    ),
)  # fmt: skip


def count(rows: QuerySet[Any]) -> int | None:
    """How many rows a file would have; None when they are too many for one."""
    found = rows.order_by()[: MOST_ROWS + 1].count()
    return None if found > MOST_ROWS else found


def answer(request: HttpRequest, rows: QuerySet[Any], *, source: Source, form: Format) -> StreamingHttpResponse:
    """The file as a download. At most `MOST_ROWS` rows, whatever is added meanwhile."""
    chunks = file_chunks(rows, source=source, form=form)
    # Django would collect a plain iterator whole before it sends the first byte to an ASGI server.
    body = _beside_the_loop(chunks) if isinstance(request, ASGIRequest) else chunks
    response = StreamingHttpResponse(body, content_type=form.content_type)
    name = f"gatehouse-{source.name}-{timezone.now():%Y-%m-%d-%H%M}.{form}"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    response.headers["Cache-Control"] = "no-store"
    return response


def file_chunks(rows: QuerySet[Any], *, source: Source, form: Format) -> Iterator[bytes]:
    """The file's bytes, a thousand rows at a time; each chunk is a query of its own, which holds nothing open."""
    write = _csv if form is Format.CSV else _json_lines
    if form is Format.CSV:
        yield _csv(source.columns, [source.columns])
    rows = rows.order_by(f"-{source.key}")
    place = source.columns.index(source.key)
    written, last = 0, None
    while written < MOST_ROWS:
        older = rows if last is None else rows.filter(**{f"{source.key}__lt": last})
        found = list(older.values_list(*source.columns)[: min(_CHUNK, MOST_ROWS - written)])
        if not found:
            return
        yield write(source.columns, found)
        written += len(found)
        last = found[-1][place]


async def _beside_the_loop(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    following: Callable[[], Any] = lambda: next(chunks, None)  # noqa: E731
    while (chunk := await sync_to_async(following)()) is not None:
        yield chunk


def _csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, int):
        return value
    plain = _plain(value)
    text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False, sort_keys=True)
    return _FORMULA.sub(r"\g<0>'", text)


def _json_lines(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    lines = (
        json.dumps(dict(zip(columns, map(_plain, row), strict=True)), ensure_ascii=False, separators=(",", ":"))
        for row in rows
    )
    return "".join(f"{line}\n" for line in lines).encode()


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, int | str | dict | list):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
