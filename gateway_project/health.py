"""`/healthz`: the process answers. `/readyz`: it can serve calls."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

from servers.changes import feed


@login_not_required
@require_safe
def healthz(request: HttpRequest) -> JsonResponse:
    """200 as long as the process answers at all."""
    return JsonResponse({"status": "ok"})


@login_not_required
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """200 when database, migrations, keys and change feed are in order, else 503 with what is not."""
    from proxy.record import recorder

    # The feed first: a database that gives no answer must not keep this one back.
    problems = _problems_of_database() if feed.is_fresh() else ["the change feed cannot be read"]
    answer = {
        "status": "unready" if problems else "ok",
        "problems": problems,
        "call_records": {"waiting": recorder.waiting(), "lost": recorder.lost},
    }
    return JsonResponse(answer, status=503 if problems else 200)


def _problems_of_database() -> list[str]:
    try:
        executor = MigrationExecutor(connection)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            return ["migrations are missing: run `manage.py migrate`"]
    except DatabaseError:
        return ["the database cannot be reached"]
    return []
