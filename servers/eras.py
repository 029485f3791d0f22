"""What is known of a server's protocol eras, in its row."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from django.db import transaction

from servers import changes
from servers.models import Server


def remember(server_id: Any, *, url: str, eras: Server.Eras, versions: Iterable[str], at: float) -> bool:
    """Keep what was found out at `at` (Unix seconds), unless the address is another one by now, or the row is newer."""
    when = datetime.fromtimestamp(at, UTC)
    rows = Server.objects.filter(pk=server_id, url=url).exclude(eras_at__gte=when)
    with transaction.atomic():
        written = rows.update(eras=eras, versions=sorted(versions, reverse=True), eras_at=when)
        if written:
            changes.record("server", server_id)
    return bool(written)
