"""What the admin's first page says: what to set up, what waits for somebody, health, and calls over time.

All of it about what the person administers. Counting and drawing of calls is in `servers.overview`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from django.core.cache import cache
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from authflows.models import ApiKey, Approval, Connection
from servers.models import AccessRequest, AccessRule, Server
from servers.models.catalogue import CatalogueItem
from servers.overview.charts import Chart, calls_chart, times_chart
from servers.overview.periods import PERIODS, Period, period_of
from servers.overview.tools import Tools, tools
from servers.overview.traffic import Traffic, managed_calls, traffic
from servers.people import person_label
from servers.scope import Scope

SOON: Final = timedelta(days=7)
_LISTED: Final = 5
_KEPT_SECONDS: Final = 60


@dataclass(frozen=True)
class Step:
    """One step of setting up: what to do, why, where, and whether it is done."""

    text: str
    note: str
    url: str
    done: bool


@dataclass(frozen=True)
class Task:
    """Something that waits for somebody: how many, and where they are seen to."""

    text: str
    count: int
    url: str


@dataclass(frozen=True)
class EndingConnection:
    """A person's connection that has ended, or ends soon because the provider gave nothing to renew it with."""

    person: str
    server: str
    url: str
    ends_at: datetime | None
    """None: it has ended."""


@dataclass(frozen=True)
class Overview:
    """Everything on the page below the steps."""

    period: Period
    periods: Sequence[Period]
    charts: Sequence[Chart]
    tools: Tools
    tasks: Sequence[Task]
    connections: Sequence[EndingConnection]


def page(request: HttpRequest, scope: Scope) -> dict[str, Any]:
    """The context of the index. Who only reads records gets nothing but the list of pages."""
    if not scope.may_enter:
        return {"steps": [], "records_only": True}
    now = timezone.now()
    period = period_of(request.GET.get("period"))
    seen, used = _calls(scope, period, now)
    overview = Overview(
        period=period,
        periods=PERIODS,
        charts=[calls_chart(seen), times_chart(seen)],
        tools=used,
        tasks=tasks(scope, now),
        connections=ending_connections(scope, now),
    )
    numbers = {"health": health(scope), "calls": seen.total.calls, "errors": seen.total.errors}
    return {"steps": steps(request, scope), "numbers": numbers, "overview": overview}


def _calls(scope: Scope, period: Period, now: datetime) -> tuple[Traffic, Tools]:
    def look() -> tuple[Traffic, Tools]:
        calls = managed_calls(scope)
        return traffic(calls, period=period, now=now), tools(calls, period=period, now=now)

    if period is PERIODS[0]:
        return look()
    # A month of a million calls takes the database seconds; in a minute hardly anything of it changes.
    whose = repr((scope.superuser, *map(sorted, (scope.tenants, scope.groups, scope.servers))))
    key = f"overview:{period.key}:{sha256(whose.encode()).hexdigest()}"
    found: tuple[Traffic, Tools] | None = cache.get(key)
    if found is None:
        found = look()
        cache.set(key, found, _KEPT_SECONDS)
    return found


def steps(request: HttpRequest, scope: Scope) -> list[Step]:
    """The way to a first call; empty when all is done or the person may not do it."""
    if not scope.may_add_servers:
        return []
    servers = scope.visible_servers()
    me = request.user.pk
    given = AccessRule.objects.filter(Q(server__in=servers) | Q(group__in=scope.visible_groups())).exclude(user=me)
    connected = ApiKey.objects.filter(owner=me).exists() or Approval.objects.filter(user=me).exists()
    list_of_servers = reverse("admin:servers_server_changelist")
    found = [
        Step(
            "Add an MCP server",
            "Its URL and how it wants to be signed in to are enough.",
            reverse("admin:servers_server_add"),
            servers.exists(),
        ),
        Step(
            "Test its connection",
            "Open the server and use Test connection; a failing step is named.",
            list_of_servers,
            servers.filter(health=Server.Health.OK).exists(),
        ),
        Step(
            "Give somebody access",
            "Open the server and add a person or a team under Collaborators.",
            list_of_servers,
            given.exists(),
        ),
        Step(
            "Connect your IDE",
            "How To Use on the server’s page has one link for each client: sign in there, or make a key.",
            reverse("portal"),
            connected,
        ),
    ]
    return [] if all(step.done for step in found) else found


def health(scope: Scope) -> list[dict[str, Any]]:
    """Servers by health: those not tested and those that work, and of the ways to fail those that there are."""
    # A virtual server has no health of its own.
    tested = scope.visible_servers().exclude(kind=Server.Kind.VIRTUAL)
    counts = dict(tested.order_by().values_list("health").annotate(Count("pk")))
    return [
        {"value": value, "label": label, "count": counts.get(value, 0)}
        for value, label in Server.Health.choices
        if counts.get(value) or value in (Server.Health.UNKNOWN, Server.Health.OK)
    ]


def tasks(scope: Scope, now: datetime) -> list[Task]:
    """What waits for a decision or for somebody to do something; what there is none of is left out."""
    requests = AccessRequest.objects.filter(state=AccessRequest.State.PENDING)
    held = CatalogueItem.objects.filter(state=CatalogueItem.State.HELD)
    connections = _connections(scope)
    if not scope.superuser:
        servers = scope.visible_servers()
        requests, held = requests.filter(server__in=servers), held.filter(catalogue__server__in=servers)
    ends = connections.aggregate(lost=Count("pk", filter=_is_lost()), soon=Count("pk", filter=_ends_soon(now)))
    listed = reverse("admin:authflows_connection_changelist")
    found = [
        Task("Access requests to answer", requests.count(), reverse("admin:servers_accessrequest_changelist")),
        Task("Catalogue changes held", held.count(), reverse("admin:servers_catalogueitem_changelist")),
        Task("Connections to connect again", ends["lost"], f"{listed}?state__exact=needs_reconnect"),
        Task("Connections that end within 7 days", ends["soon"], f"{listed}?state__exact=connected"),
    ]
    return [task for task in found if task.count]


def ending_connections(scope: Scope, now: datetime) -> list[EndingConnection]:
    """The first few connections that have ended or end soon, those that have ended first."""
    rows = _connections(scope).filter(_is_lost() | _ends_soon(now)).select_related("user", "server")
    return [
        EndingConnection(
            person_label(row.user),
            row.server.name,
            reverse("admin:authflows_connection_change", args=(row.pk,)),
            None if row.state == Connection.State.NEEDS_RECONNECT else row.access_expires_at,
        )
        for row in rows.order_by("-state", "access_expires_at")[:_LISTED]
    ]


def _connections(scope: Scope) -> QuerySet[Connection]:
    rows = Connection.objects.all()
    return rows if scope.superuser else rows.filter(server__in=scope.visible_servers())


def _is_lost() -> Q:
    return Q(state=Connection.State.NEEDS_RECONNECT)


def _ends_soon(now: datetime) -> Q:
    # With a refresh token the gateway renews it by itself.
    return Q(state=Connection.State.CONNECTED, sealed_refresh_token="", access_expires_at__lt=now + SOON)
