"""Which tools are called most, and which take longest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db.models import Avg, Count, QuerySet

from servers.models import IS_ERROR, Call
from servers.overview.charts import duration
from servers.overview.periods import Period

_LOOKED_AT: Final = 1000
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class ToolUse:
    """How one tool of one server was used. `milliseconds` is the mean of its answered calls, None without one."""

    tenant: str
    server: str
    tool: str
    calls: int
    errors: int
    milliseconds: int | None

    @property
    def mean(self) -> str:
        """The mean time in words."""
        return duration(self.milliseconds)


@dataclass(frozen=True, slots=True)
class Tools:
    """The first of each order; empty when no tool was called."""

    used: Sequence[ToolUse]
    slowest: Sequence[ToolUse]


def tools(calls: QuerySet[Call], *, period: Period, now: datetime) -> Tools:
    """Look at the thousand tools called most; what is called hardly ever is not among the slowest then."""
    edges = period.edges(now)
    rows = (
        # Of what was let through: a refused name is whatever the caller wrote.
        calls.filter(at__gte=edges[0], at__lt=edges[-1], method="tools/call", decision="allowed")
        .exclude(item="")
        .order_by()
        .values_list("tenant", "server", "item")
        .annotate(calls=Count("pk"), errors=Count("pk", filter=IS_ERROR), mean=Avg("milliseconds", filter=~IS_ERROR))
        .order_by("-calls", "tenant", "server", "item")[:_LOOKED_AT]
    )
    found = [
        ToolUse(tenant, server, item, count, errors, None if mean is None else round(mean))
        for tenant, server, item, count, errors, mean in rows
    ]
    timed = sorted((use for use in found if use.milliseconds is not None), key=lambda use: -(use.milliseconds or 0))
    return Tools(found[:_SHOWN], timed[:_SHOWN])
