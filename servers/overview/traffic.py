"""Calls, errors and times of answers in equal buckets of time, aggregated by the database in one query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

from django.db.models import Case, Count, F, IntegerField, Q, QuerySet, Value, When

from servers.models import IS_ERROR, Call, Tenant
from servers.overview.periods import Period
from servers.scope import Scope

_NOT_TIMED: Final = -1
# Of a stream the time says how long somebody listened, and of a refusal nothing about a server.
_IS_TIMED: Final = Q(outcome="ok", http_method="POST") & ~Q(method="subscriptions/listen")


@dataclass(frozen=True, slots=True)
class Bucket:
    """What happened from `start` until the next bucket. Times in milliseconds; None where nothing was answered."""

    start: datetime
    calls: int = 0
    errors: int = 0
    median: int | None = None
    slow: int | None = None
    """19 of 20 answers were at least as fast."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """The buckets of a period, oldest first, and the same over all of it."""

    period: Period
    buckets: Sequence[Bucket]
    total: Bucket


def managed_calls(scope: Scope) -> QuerySet[Call]:
    """The calls to what the person administers. One query of its own, none for a superuser."""
    if scope.superuser:
        return Call.objects.all()
    slugs = list(Tenant.objects.filter(pk__in=scope.tenants).values_list("slug", flat=True)) if scope.tenants else []
    servers = list(scope.visible_servers().values_list("pk", flat=True))
    return Call.objects.filter(Q(tenant__in=slugs) | Q(server_id__in=servers))


def traffic(calls: QuerySet[Call], *, period: Period, now: datetime) -> Traffic:
    """Count `calls` by bucket. Times are kept to two digits, which bounds what comes back from the database."""
    edges = period.edges(now)
    found = (
        calls.filter(at__gte=edges[0], at__lt=edges[-1])
        .order_by()
        .annotate(number=_place(edges, 0, period.count), time=_two_digits())
        .values_list("number", "time")
        .annotate(calls=Count("pk"), errors=Count("pk", filter=IS_ERROR))
    )
    counts = [[0, 0] for _ in range(period.count)]
    times: list[dict[int, int]] = [{} for _ in range(period.count)]
    for place, time, count, errors in found:
        counts[place][0] += count
        counts[place][1] += errors
        if time != _NOT_TIMED:
            times[place][time] = count
    buckets = [
        _bucket(start, counts[place][0], counts[place][1], times[place])
        for place, (start, _) in enumerate(pairwise(edges))
    ]
    together: dict[int, int] = {}
    for part in times:
        for time, count in part.items():
            together[time] = together.get(time, 0) + count
    total = _bucket(edges[0], sum(c for c, _ in counts), sum(e for _, e in counts), together)
    return Traffic(period, buckets, total)


def _place(edges: Sequence[datetime], first: int, end: int) -> Case | Value:
    # Halved again and again: five comparisons a row instead of thirty, which a million rows feel.
    if end - first == 1:
        return Value(first)
    middle = (first + end) // 2
    return Case(
        When(at__lt=edges[middle], then=_place(edges, first, middle)),
        default=_place(edges, middle, end),
        output_field=IntegerField(),
    )


def _two_digits() -> Case:
    # 1234 becomes 1200: a number that both databases reckon alike, without percentiles, which SQLite has not.
    def cut(to: int) -> F:
        return F("milliseconds") - F("milliseconds") % Value(to)  # type: ignore[return-value]

    return Case(
        When(~_IS_TIMED, then=Value(_NOT_TIMED)),
        When(milliseconds__lt=100, then=F("milliseconds")),
        When(milliseconds__lt=1_000, then=cut(10)),
        When(milliseconds__lt=10_000, then=cut(100)),
        When(milliseconds__lt=100_000, then=cut(1_000)),
        default=cut(10_000),
        output_field=IntegerField(),
    )


def _bucket(start: datetime, calls: int, errors: int, times: Mapping[int, int]) -> Bucket:
    return Bucket(start, calls, errors, quantile(times, 50), quantile(times, 95))


def quantile(counts: Mapping[int, int], percent: int) -> int | None:
    """The smallest value that at least `percent` of all are not above; None of nothing."""
    total = sum(counts.values())
    passed = 0
    for value in sorted(counts):
        passed += counts[value]
        if passed * 100 >= total * percent:
            return value
    return None
