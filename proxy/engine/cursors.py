"""Cursors of our own lists: sealed, and good for one person, server, list and state of it."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Final
from uuid import UUID

from django.conf import settings

from servers.sealing import KeyRing, Sealer, SealError

LIFETIME_SECONDS: Final = 3600
_CONTEXT: Final = "list-cursor v1"


@lru_cache(maxsize=2)
def _sealer(ring: KeyRing) -> Sealer:
    return ring.sealer("list-cursor")


def seal(page: int, *, server: UUID, user_id: int, method: str, state: str, now: float) -> str:
    """A cursor to the page of this number; `state` changes with what the list holds."""
    payload = [page, str(server), user_id, method, state, int(now) + LIFETIME_SECONDS]
    return _sealer(settings.KEY_RING).seal(json.dumps(payload, separators=(",", ":")).encode(), _CONTEXT)


def read(cursor: str, *, server: UUID, user_id: int, method: str, state: str, now: float) -> int | None:
    """The number of the page; None when it is damaged, expired, somebody else's, or the list has changed since."""
    try:
        page, *bound, ends = json.loads(_sealer(settings.KEY_RING).open(cursor, _CONTEXT))
    except SealError:
        return None
    if ends <= now or bound != [str(server), user_id, method, state] or not isinstance(page, int):
        return None
    return page
