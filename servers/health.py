"""The health of a server: what the last test of its connection said. It holds for the values that were tested.

A test of values that are not saved yet is kept through a signed note: the page carries it from the test to the
save, and it counts only for the same person, for some minutes, and for exactly the values that were tested.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.core import signing

from servers.models import Server

NOTE_FIELD: Final = "tested"
"""Name of the form's hidden field that carries the note."""
NOTE_SECONDS: Final = 900
_SALT: Final = "gatehouse.tested-connection"


@dataclass(frozen=True)
class Tested:
    """The outcome of one test. `detail` is what a page may show of it."""

    ok: bool
    detail: dict[str, Any]
    at: datetime


def keep(server: Server, tested: Tested) -> None:
    """Write the outcome to the server's row and to `server`. No decision depends on it."""
    health = Server.Health.OK if tested.ok else Server.Health.FAILING
    _write([server.pk], health=health, detail=tested.detail, at=tested.at)
    server.health, server.health_detail, server.health_at = health, tested.detail, tested.at


def forget(server_ids: Iterable[Any]) -> None:
    """These servers count as not tested: something that the test depended on has changed."""
    _write(server_ids, health=Server.Health.UNKNOWN, detail={}, at=None)


def _write(server_ids: Iterable[Any], *, health: Server.Health, detail: dict[str, Any], at: datetime | None) -> None:
    Server.objects.filter(pk__in=list(server_ids)).update(health=health, health_detail=detail, health_at=at)


def note_of(tested: Tested, *, user_id: Any, values_digest: str) -> str:
    """The signed note for the page; `values_digest` stands for what was tested (`ServerForm.connection_digest`)."""
    content = [str(user_id), values_digest, tested.ok, tested.detail, tested.at.timestamp()]
    return signing.dumps(content, salt=_SALT, compress=True)


def read_note(note: str, *, user_id: Any, values_digest: str) -> Tested | None:
    """The outcome in a note; None when it is too old, not ours, another person's or about other values."""
    try:
        about, digest, ok, detail, at = signing.loads(note, salt=_SALT, max_age=NOTE_SECONDS)
    except signing.BadSignature:
        return None
    if (about, digest) != (str(user_id), values_digest):
        return None
    return Tested(ok=ok, detail=detail, at=datetime.fromtimestamp(at, tz=UTC))
