"""Sealing anew, with the ring's first key, what the gateway holds to act for people at upstreams (F-404, SE-2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.db.models import Model

from authflows.models import Connection, OwnKey, UpstreamClient
from authflows.outbound import connections, own_keys, upstream_clients
from servers.sealing import KeyRing, SealError, sealed_with
from servers.secrets.store import Rotation


@dataclass(frozen=True, slots=True)
class _Column:
    """One column of sealed texts: their purpose, and the associated data of a row's text."""

    model: type[Model]
    field: str
    purpose: str
    context: Callable[[Any], str]


_COLUMNS: Final = (
    _Column(UpstreamClient, "sealed_secret", upstream_clients.PURPOSE, upstream_clients.seal_context),
    _Column(Connection, "sealed_access_token", connections.PURPOSE, lambda row: row.seal_context("access_token")),
    _Column(Connection, "sealed_refresh_token", connections.PURPOSE, lambda row: row.seal_context("refresh_token")),
    _Column(OwnKey, "sealed_values", own_keys.PURPOSE, lambda row: row.seal_context()),
)


def rotate() -> Rotation:
    """Seal again every text that an older key sealed, row by row while the gateway serves.

    What does not open is left as it is and named in the result.
    """
    ring: KeyRing = settings.KEY_RING
    count, unopened = 0, []
    for column, row, text in _texts():
        if sealed_with(text) == ring.sealing_key_id:
            continue
        sealer, context = ring.sealer(column.purpose), column.context(row)
        try:
            fresh = sealer.seal(sealer.open(text, context), context)
        except SealError:
            unopened.append(f"{column.model._meta.verbose_name} {row.pk} ({row})")
            continue
        # Only in place of what was read: a refresh may have stored newer tokens meanwhile.
        rows = column.model._default_manager.filter(pk=row.pk, **{column.field: text})
        count += rows.update(**{column.field: fresh})
    return Rotation(count, tuple(unopened))


def texts_by_key() -> dict[str, int]:
    """How many sealed texts each key of the ring (or a missing one) sealed."""
    return dict(Counter(sealed_with(text) for _, _, text in _texts()))


def _texts() -> Iterator[tuple[_Column, Any, str]]:
    for column in _COLUMNS:
        rows = column.model._default_manager.exclude(**{column.field: ""}).order_by("pk")
        for row in rows.iterator(chunk_size=500):
            yield column, row, getattr(row, column.field)
