"""Rows of the sessions that began before their person was connected, and what is remembered of them."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from authflows.models import MemberSession
from servers.sealing import KeyRing, Sealer, SealError

_MOST_REMEMBERED: Final = 20_000


@dataclass(frozen=True, slots=True)
class Member:
    """The server's own session behind a sealed id: its id (empty where it has none), version and credential."""

    upstream_id: bytes
    version: str
    epoch: str


@dataclass(frozen=True, slots=True)
class Unopened:
    """A session that the server knows nothing of yet, and what the client opened it with."""

    parameters: dict[str, Any]


class MemberSessions:
    """What this process knows of opened ones: they never change, so no call of theirs needs the row again."""

    def __init__(self) -> None:
        self._known: dict[str, Member] = {}

    def find(self, key: str) -> Member | None:
        """The server's session, if it is in memory."""
        return self._known.get(key)

    def keep(self, key: str, member: Member) -> Member:
        """Remember it."""
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[key] = member
        return member


@lru_cache(maxsize=2)
def _sealer(ring: KeyRing) -> Sealer:
    return ring.sealer("member-session")


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def begin(user_id: int, server_id: UUID, parameters: dict[str, Any]) -> str:
    """Make the row; returns the random key for the sealed id."""
    key = secrets.token_urlsafe(24)
    MemberSession.objects.create(
        digest=_digest(key),
        user_id=user_id,
        server_id=server_id,
        parameters=parameters,
        expires_at=timezone.now() + timedelta(seconds=settings.SESSION_LIFETIME_SECONDS),
    )
    return key


def load(key: str) -> Member | Unopened | None:
    """What stands behind the key now; None when it is over."""
    row = MemberSession.objects.filter(digest=_digest(key), expires_at__gt=timezone.now()).first()
    if row is None:
        return None
    if row.opened_at is None:
        return Unopened(row.parameters)
    try:
        upstream_id = _sealer(settings.KEY_RING).open(row.sealed_upstream_id, row.seal_context())
    except SealError:
        return None
    return Member(upstream_id, row.version, row.credential_epoch)


def opened(key: str, member: Member) -> bool:
    """Keep the server's session; False when another process was faster, or the session is over."""
    row = MemberSession.objects.filter(digest=_digest(key)).first()
    if row is None:
        return False
    return bool(
        MemberSession.objects.filter(digest=row.digest, opened_at__isnull=True).update(
            sealed_upstream_id=_sealer(settings.KEY_RING).seal(member.upstream_id, row.seal_context()),
            version=member.version[:20],
            credential_epoch=member.epoch,
            opened_at=timezone.now(),
        )
    )


def end(key: str) -> None:
    """The client ended the session."""
    MemberSession.objects.filter(digest=_digest(key)).delete()
