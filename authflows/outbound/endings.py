"""Connections and own keys that end when their server is changed or deleted (F-315, T29)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from authflows.models import Connection, OwnKey, PendingConnection
from authflows.outbound import own_keys
from servers import audit, credential_endings
from servers.credential_endings import Ending, Reason
from servers.models import Server
from servers.people import person_label

# A key that a person entered belongs to the server itself, whichever provider it names.
_OF_KEYS = frozenset((Reason.ADDRESS, Reason.METHOD, Reason.DELETED))


def find(server: Server, reasons: Collection[Reason]) -> list[Ending]:
    """A line for each connection and key that ends."""
    found = [
        Ending(connection.user_id, f"{person_label(connection.user)}: connected{_as(connection.account_label)}")
        for connection in _connections(server)
    ]
    found += [Ending(key.user_id, f"{person_label(key.user)}: a key of their own") for key in _keys(server, reasons)]
    return found


def end(server: Server, reasons: Collection[Reason], *, actor: str) -> int:
    """End them here. Providers are not told: how to reach them may be what just changed."""
    ended = 0
    because = sorted(str(reason) for reason in reasons)
    with transaction.atomic():
        # A trip to the old provider would come back to the new setup.
        PendingConnection.objects.filter(server=server).delete()
        for connection in _connections(server):
            detail = {
                "person": connection.user.get_username(),
                "account": connection.account_label,
                "because": because,
            }
            connection.delete()
            audit.record(
                audit.Action.CONNECTION_REVOKE, actor=actor, subject=server, tenant=server.tenant, detail=detail
            )
            ended += 1
        for key in _keys(server, reasons):
            own_keys.remove(key, actor=actor)
            ended += 1
    return ended


def _as(label: str) -> str:
    return f" as {label}" if label else ""


def _connections(server: Server) -> QuerySet[Connection]:
    rows = Connection.objects.filter(server=server).select_related("user", "server__tenant", "client")
    return rows.order_by("user__username")


def _keys(server: Server, reasons: Collection[Reason]) -> Any:
    if not _OF_KEYS & set(reasons):
        return OwnKey.objects.none()
    return OwnKey.objects.filter(server=server).select_related("user", "server__tenant").order_by("user__username")


def connect() -> None:
    """Let the pages of servers know; called once when the application starts."""
    credential_endings.register(find, end)
