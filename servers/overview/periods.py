"""The spans of time that an overview can show, cut into equal buckets on whole hours or days (UTC). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final


@dataclass(frozen=True, slots=True)
class Period:
    """One span: its word in the address, what people call it, and its buckets."""

    key: str
    label: str
    bucket: timedelta
    count: int
    tick: str
    """How the start of a bucket stands below a chart, for strftime."""

    def edges(self, now: datetime) -> list[datetime]:
        """The starts of all buckets and the end of the last one, which holds `now` and is not over yet."""
        size = self.bucket.total_seconds()
        last = datetime.fromtimestamp(now.timestamp() // size * size, UTC)
        return [last + self.bucket * number for number in range(1 - self.count, 2)]

    def name_of(self, start: datetime) -> str:
        """A bucket in words."""
        if self.bucket >= timedelta(days=1):
            return f"{start:%Y-%m-%d}"
        return f"{start:%Y-%m-%d %H:%M} to {start + self.bucket:%H:%M} UTC"


PERIODS: Final[Sequence[Period]] = (
    Period("24h", "24 hours", timedelta(hours=1), 24, "%H:%M"),
    Period("7d", "7 days", timedelta(hours=6), 28, "%d %b"),
    Period("30d", "30 days", timedelta(days=1), 30, "%d %b"),
)


def period_of(key: str | None) -> Period:
    """The period with this word; the first one for any other."""
    return next((period for period in PERIODS if period.key == key), PERIODS[0])
