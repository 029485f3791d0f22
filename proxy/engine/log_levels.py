"""Log messages of members: which of them a client wants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from proxy.engine import session_notes
from proxy.engine.clients import Client

LEVELS: Final = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
"""From the least to the most severe (RFC 5424)."""
_SEVERITY: Final[Mapping[Any, int]] = {level: severity for severity, level in enumerate(LEVELS)}


async def wants(client: Client, said: Mapping[str, Any]) -> bool:
    """Whether a notification may go to this client: true of everything but log messages that it did not ask for.

    A modern client hears none that it did not ask for with its request. An older one hears all until it says which.
    """
    if said.get("method") != "notifications/message":
        return True
    least = client.level if client.modern else (await session_notes.notes_of(client.session)).level
    if not least:
        return not client.modern
    params = said.get("params")
    level = params.get("level") if isinstance(params, dict) else None
    return _SEVERITY.get(level, 0) >= _SEVERITY.get(least, 0) if isinstance(level, str) else False
