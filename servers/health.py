"""The health of a server: what the last test of its connection said, or what calls have shown since (F-109).

A test of values that are not saved yet is kept through a signed note: the page carries it from the test to the
save, and it counts only for the same person, for some minutes, and for exactly the values that were tested.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.conf import settings
from django.core import signing
from django.db import transaction
from django.utils import timezone

from servers import changes, eras
from servers.models import Server

Health = Server.Health

NOTE_FIELD: Final = "tested"
"""Name of the form's hidden field that carries the note."""
NOTE_SECONDS: Final = 900
_SALT: Final = "gatehouse.tested-connection"
# The steps of a connection test (`proxy/probe_http.py`).
_OF_STEPS: Final[Mapping[str, Server.Health]] = {
    "address": Health.UNREACHABLE,
    "connect": Health.UNREACHABLE,
    "tls": Health.TLS,
    "authentication": Health.AUTH,
    "answer": Health.PROTOCOL,
    "fault": Health.FAILING,
    "opening": Health.PROTOCOL,
    "tools": Health.PROTOCOL,
}
_OF_CALLS: Final[Mapping[Server.Health, tuple[str, str]]] = {
    Health.OK: ("Calls are answered.", ""),
    Health.SLOW: (
        "More than half of its last ten calls took longer than {slow} seconds until it began to answer.",
        "Look at its load, and at what its tools wait for.",
    ),
    Health.UNREACHABLE: (
        "Calls do not reach it: {words}.",
        "Check that it runs and that its address is right, then test the connection.",
    ),
    Health.TLS: (
        "Calls do not reach it: {words}.",
        "Renew its certificate, or enter the authority that issued it as custom CA.",
    ),
    Health.AUTH: (
        "It refuses the gateway's own credential ({words}).",
        "Enter a new one, or ask its operator what it lets in.",
    ),
    Health.PROTOCOL: (
        "It does not answer as an MCP server: {words}.",
        "Check its path, which often ends in /mcp, and test the connection.",
    ),
    Health.FAILING: ("It answers with errors of its own ({words}).", "Look at its logs."),
}


@dataclass(frozen=True)
class Tested:
    """The outcome of one test. `detail` is what a page may show of it."""

    ok: bool
    detail: dict[str, Any]
    at: datetime


def keep(server: Server, tested: Tested) -> None:
    """Write the outcome to the server's row and to `server`, with what the test learned of protocol eras."""
    health = Health.OK if tested.ok else _OF_STEPS.get(str(tested.detail.get("step", "")), Health.FAILING)
    with transaction.atomic():
        _write([server.pk], health=health, detail=tested.detail, at=tested.at)
        spoken = tested.detail.get("eras")
        if spoken in (Server.Eras.LEGACY, Server.Eras.MODERN, Server.Eras.DUAL):
            versions = tested.detail.get("legacy_versions", ())
            eras.remember(
                server.pk, url=server.url, eras=Server.Eras(spoken), versions=versions, at=tested.at.timestamp()
            )
        # Who watches calls has to say again what they show.
        changes.record("server", server.pk)
    server.health, server.health_detail, server.health_at = health, tested.detail, tested.at


def keep_from_calls(server_id: Any, url: str, health: Server.Health, words: str) -> bool:
    """Write what calls have shown, unless the row says that already or is of another address; False then.

    `words` say what failed. What the last test found out about the server stays.
    """
    rows = Server.objects.filter(pk=server_id, url=url).exclude(health=health)
    before = rows.values_list("health_detail", flat=True).first()
    if before is None:
        return False
    sentence, step = (text.format(words=words, slow=settings.SLOW_SECONDS) for text in _OF_CALLS[health])
    detail = {
        **before,
        "ok": health in (Health.OK, Health.SLOW),
        "step": "" if health is Health.OK else "calls",
        "sentence": f"{sentence} {step}".strip(),
    }
    return bool(rows.update(health=health, health_detail=detail, health_at=timezone.now()))


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
