"""Rows of sessions that no sealed id can hold: those that began before their person was connected, and those of the
engine at its members. And what is remembered of them."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
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

    def forget(self, key: str) -> None:
        """The server's session is over."""
        self._known.pop(key, None)


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
    return _opened(row)


def _opened(row: MemberSession) -> Member | None:
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


def adopt(key: str, user_id: int, server_id: UUID, member: Member) -> Member:
    """Keep a session that the engine opened at a member; returns the one to use.

    That is another one when another process was faster and opened it with the same credential.
    """
    row = MemberSession(
        digest=_digest(key),
        user_id=user_id,
        server_id=server_id,
        parameters={},
        version=member.version[:20],
        credential_epoch=member.epoch,
        opened_at=timezone.now(),
        expires_at=timezone.now() + timedelta(seconds=settings.SESSION_LIFETIME_SECONDS),
    )
    row.sealed_upstream_id = _sealer(settings.KEY_RING).seal(member.upstream_id, row.seal_context())
    with transaction.atomic():
        there = MemberSession.objects.select_for_update().filter(digest=row.digest).first()
        if there is None:
            MemberSession.objects.bulk_create([row], ignore_conflicts=True)
        elif there.credential_epoch != member.epoch or there.expires_at <= timezone.now():
            row.save(force_update=True)
    found = load(key)
    return found if isinstance(found, Member) and found.epoch == member.epoch else member


def load_all(keys: Sequence[str]) -> dict[str, Member]:
    """Those of these sessions that are open at their servers, by key."""
    by_digest = {_digest(key): key for key in keys}
    rows = MemberSession.objects.filter(digest__in=by_digest, expires_at__gt=timezone.now(), opened_at__isnull=False)
    found = {by_digest[row.digest]: _opened(row) for row in rows}
    return {key: member for key, member in found.items() if member is not None}


def lose(key: str, member: Member) -> None:
    """The server has forgotten this session of its own; another one under the same key stays."""
    found = load(key)
    if isinstance(found, Member) and found.upstream_id == member.upstream_id:
        end(key)


def used(key: str) -> None:
    """The engine uses the session just now; other processes need not know more exactly than by minutes."""
    MemberSession.objects.filter(digest=_digest(key)).update(opened_at=timezone.now())


def end_unused(key: str, seconds: float) -> bool:
    """End a session that no process has used for so long; False when one has, or when it is over already."""
    before = timezone.now() - timedelta(seconds=seconds)
    return bool(MemberSession.objects.filter(digest=_digest(key), opened_at__lte=before).delete()[0])


def end(key: str) -> None:
    """The client ended the session."""
    MemberSession.objects.filter(digest=_digest(key)).delete()
