"""Token buckets in the database: how often somebody may try something, counted across processes.

A bucket is stored as the moment at which it is full again. Taking moves that moment by one interval into the
future; when it would lie further away than the whole bucket takes to fill, the attempt has to wait.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.http import HttpRequest
from django.utils.crypto import salted_hmac

from authflows.models import AttemptBucket


@dataclass(frozen=True, slots=True)
class Rate:
    """So many attempts in so many seconds; the bucket holds `count` and fills evenly."""

    count: int
    seconds: int

    @property
    def interval(self) -> timedelta:
        """The time in which one attempt comes back."""
        return timedelta(seconds=self.seconds / self.count)


@dataclass(frozen=True, slots=True)
class Limit:
    """One bucket: what is counted, for whom, at which rate."""

    what: str
    whom: str
    rate: Rate

    @property
    def key(self) -> str:
        """The row's key; keyed with the secret key, so that a stolen table tells nobody what was typed."""
        text = f"{self.what}\n{self.rate.count}/{self.rate.seconds}\n{self.whom}"
        return salted_hmac("authflows.throttle", text, algorithm="sha256").hexdigest()


def take(limits: Sequence[Limit], *, now: datetime) -> int:
    """Count one attempt against every limit, or against none.

    Returns 0 when the attempt may go on, else the whole seconds after which it may be tried again.
    """
    by_key = {limit.key: limit for limit in limits}
    with transaction.atomic():
        AttemptBucket.objects.filter(full_at__lt=now - timedelta(hours=1)).delete()
        AttemptBucket.objects.bulk_create(
            [AttemptBucket(id=key, full_at=now) for key in sorted(by_key)], ignore_conflicts=True
        )
        # In the order of their keys, so that two attempts never wait for each other.
        rows = list(AttemptBucket.objects.select_for_update().filter(pk__in=by_key).order_by("pk"))
        wait = timedelta(0)
        for row in rows:
            rate = by_key[row.pk].rate
            row.full_at = max(row.full_at, now) + rate.interval
            wait = max(wait, row.full_at - now - rate.interval * rate.count)
        if wait > timedelta(0):
            return math.ceil(wait.total_seconds())
        AttemptBucket.objects.bulk_update(rows, ["full_at"])
    return 0


def waiting(limits: Sequence[Limit], *, now: datetime) -> int:
    """The whole seconds after which an attempt may be made, or 0; counts nothing. One query."""
    by_key = {limit.key: limit.rate for limit in limits}
    wait = timedelta(0)
    for row in AttemptBucket.objects.filter(pk__in=by_key, full_at__gt=now):
        rate = by_key[row.pk]
        wait = max(wait, row.full_at - now - rate.interval * (rate.count - 1))
    return math.ceil(max(wait.total_seconds(), 0))


def give_back(limits: Sequence[Limit]) -> None:
    """Undo one `take`: the attempt was a good one."""
    by_key = {limit.key: limit for limit in limits}
    with transaction.atomic():
        rows = list(AttemptBucket.objects.select_for_update().filter(pk__in=by_key).order_by("pk"))
        for row in rows:
            row.full_at -= by_key[row.pk].rate.interval
        AttemptBucket.objects.bulk_update(rows, ["full_at"])


def client_address(request: HttpRequest) -> str:
    """The caller's address for counting: an IPv4 address, or an IPv6 network of 64 bits (one household).

    What the socket says. Only behind our own TLS proxy the last hop of X-Forwarded-For, which that proxy
    appended; everything before it is the caller's own claim.
    """
    text = request.META.get("REMOTE_ADDR", "")
    if settings.BEHIND_TLS_PROXY:
        text = request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip() or text
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "unknown"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return str(ipaddress.ip_network((address, 64), strict=False))
        address = address.ipv4_mapped
    return str(address)
