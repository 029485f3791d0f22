"""Which catalogues are to be read again, and who does it: one process at a time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db.models import F, Q

from servers.models.catalogue import Catalogue
from servers.models.servers import AuthConfig, Server

Method = AuthConfig.Method
SHARED_METHODS: Final = (Method.NONE, Method.SHARED_HEADER, Method.CLIENT_CREDENTIALS)
"""Methods by which the gateway calls with one credential for everybody, which sees everything."""


def sees_everything(method: str) -> bool:
    """Whether what a reading with the credential of this method does not find is not there."""
    return method in SHARED_METHODS


def due(now: datetime, *, older_than: timedelta, most: int) -> list[UUID]:
    """Ids of servers that can be read with nobody's help and were not tried for so long, the oldest first."""
    untried = Q(catalogue=None) | _older(now - older_than, "catalogue__")
    method = Q(auth_config=None) | Q(auth_config__method__in=SHARED_METHODS)
    rows = Server.objects.filter(untried, method, kind=Server.Kind.REMOTE, enabled=True)
    return list(rows.order_by(F("catalogue__tried_at").asc(nulls_first=True)).values_list("pk", flat=True)[:most])


def claim(server_id: Any, now: datetime, *, older_than: timedelta) -> bool:
    """Take it upon oneself to read this catalogue now; False when somebody tried less than so long ago."""
    if not Server.objects.filter(pk=server_id).exists():
        return False
    catalogue, _ = Catalogue.objects.get_or_create(server_id=server_id)
    rows = Catalogue.objects.filter(_older(now - older_than), pk=catalogue.pk)
    return rows.exists() and bool(rows.update(tried_at=now))


def _older(limit: datetime, prefix: str = "") -> Q:
    tried, taken = f"{prefix}tried_at", f"{prefix}taken_at"
    return (Q(**{tried: None}) | Q(**{f"{tried}__lte": limit})) & (Q(**{taken: None}) | Q(**{f"{taken}__lte": limit}))


def give_back(server_id: Any) -> None:
    """Let whoever comes next try: what was found out says nothing of the server."""
    Catalogue.objects.filter(server_id=server_id).update(tried_at=None)
