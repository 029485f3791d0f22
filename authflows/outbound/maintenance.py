"""Refreshing ahead: connections that are used are renewed before a call has to wait for it, and idle ones now and
then, because many providers forget a refresh token that nobody uses (F-306)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db.models import Q, QuerySet

from authflows.models import Connection, ConnectLink, MemberSession, PassedAnswer, PendingConnection
from authflows.outbound import connections
from authflows.outbound.connections import Refreshed

AHEAD: Final = timedelta(seconds=150)
"""Of connections in use: how long before the end of the access token."""
IN_USE: Final = timedelta(hours=24)
IDLE_EVERY: Final = timedelta(days=5)
_AT_MOST: Final = 500


@dataclass(frozen=True, slots=True)
class Maintained:
    """How many connections were renewed, and how many could not be."""

    refreshed: int
    failed: int


def due(now: datetime) -> list[tuple[UUID, int]]:
    """Id and generation of the connections to refresh at `now`, those that end first in front."""
    in_use = Q(last_used_at__gt=now - IN_USE, access_expires_at__lt=now + AHEAD)
    last_renewed = Q(refreshed_at__lt=now - IDLE_EVERY) | Q(refreshed_at=None, connected_at__lt=now - IDLE_EVERY)
    found = Connection.objects.filter(
        in_use | (last_renewed & Q(access_expires_at__lt=now + AHEAD)),
        Q(retry_at=None) | Q(retry_at__lte=now),
        Q(lease_until=None) | Q(lease_until__lt=now),
        state=Connection.State.CONNECTED,
    ).exclude(sealed_refresh_token="")
    return list(found.order_by("access_expires_at").values_list("pk", "generation")[:_AT_MOST])


def refresh_due(now: datetime) -> Maintained:
    """Refresh what is due, one after the other; safe in several processes at once."""
    refreshed = failed = 0
    for connection_id, generation in due(now):
        if isinstance(connections.refresh(connection_id, seen_generation=generation), Refreshed):
            refreshed += 1
        else:
            failed += 1
    return Maintained(refreshed, failed)


def ended(now: datetime) -> list[tuple[str, QuerySet[Any]]]:
    """What `prune` may delete: trips to providers and links whose time is over."""
    return [
        ("trips to providers", PendingConnection.objects.filter(expires_at__lt=now)),
        ("connect links", ConnectLink.objects.filter(expires_at__lt=now)),
        ("sessions at members and such begun unconnected", MemberSession.objects.filter(expires_at__lt=now)),
        ("answers that nobody took", PassedAnswer.objects.filter(expires_at__lt=now)),
    ]
