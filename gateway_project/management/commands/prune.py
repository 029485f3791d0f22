"""`manage.py prune`: delete what has served its purpose. Meant for a daily timer."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q, QuerySet
from django.utils import timezone

from authflows.inbound.identity import sso
from authflows.inbound.oauth import authorization, registration, tokens
from authflows.models import OneTimeLink, SignInSession
from authflows.outbound import maintenance
from servers.models import Call, Change

# Rows of one DELETE: a large one would hold SQLite's only write lock for too long.
_BATCH = 1000
# Processes read changes twice a second and answer 503 when they cannot; a day is far beyond both.
_CHANGES_KEPT = timedelta(days=1)


class Command(BaseCommand):
    help = (
        "Delete call records older than --days (default 90), changes of the feed older than a day, "
        "one-time links that were used or have expired, ended sign-in sessions, sign-ins that nobody came back "
        "from, expired codes and tokens of OAuth clients, and clients that registered themselves and were never used. "
        "Audit events are never deleted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--days", type=int, default=90, help="keep call records of so many days (default 90)")

    def handle(self, *args: Any, days: int = 90, **options: Any) -> None:
        if days < 1:
            raise CommandError("--days: keep at least 1 day of call records.")
        now = timezone.now()
        # The newest change stays: a starting process begins to read at its number.
        newest = Change.objects.order_by("-id").values_list("id", flat=True).first() or 0
        for what, rows in (
            ("call records", Call.objects.filter(at__lt=now - timedelta(days=days))),
            ("changes", Change.objects.filter(at__lt=now - _CHANGES_KEPT, id__lt=newest)),
            ("one-time links", OneTimeLink.objects.filter(Q(used_at__isnull=False) | Q(expires_at__lt=now))),
            ("sign-in sessions", SignInSession.objects.filter(expires_at__lt=now)),
            ("sign-ins of clients that were not answered", authorization.ended(now)),
            *tokens.expired(now),
            *maintenance.ended(now),
            *sso.abandoned(now),
            ("unused clients", registration.unused_clients(now)),
        ):
            self.stdout.write(f"{what}: {_delete(rows)} deleted")


def _delete(rows: QuerySet[Any]) -> int:
    """Delete in batches; returns how many rows went."""
    total = 0
    while keys := list(rows.order_by("pk").values_list("pk", flat=True)[:_BATCH]):
        total += rows.model._default_manager.filter(pk__in=keys).delete()[0]
    return total
