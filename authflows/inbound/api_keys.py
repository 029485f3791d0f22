"""API keys: make, recognise, revoke (F-206, F-207)."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Collection
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from authflows.models import ApiKey
from servers import audit, changes
from servers.models import Server

# A prefix of our own, so that a key is told from other tokens by its shape (RS-14) and found by scanners.
KEY_PREFIX: Final = "ghk_"
_KEY = re.compile(r"ghk_[A-Za-z0-9_-]{8}_[A-Za-z0-9_-]{43}")


def looks_like_key(token: str) -> bool:
    """Whether a bearer token has the shape of our keys."""
    return _KEY.fullmatch(token) is not None


def digest_of(token: str) -> str:
    """SHA-256 of the key in hex: what is stored and what caches are keyed by."""
    return hashlib.sha256(token.encode()).hexdigest()


def create_key(
    *,
    owner: Any,
    name: str,
    actor: str,
    servers: Collection[Server] | None = None,
    expires_at: datetime | None = None,
    key_id: UUID | None = None,
) -> tuple[ApiKey, str]:
    """Make a key; returns its row and its text, which exists nowhere else and is shown once.

    `servers` limits the key to them (None: no limit). `key_id` is the row's id, chosen by a caller who may ask
    twice for the same key. Raises ValidationError for an end in the past, and when the id is taken.
    """
    if expires_at is not None and expires_at <= timezone.now():
        raise ValidationError({"expires_at": "Choose a time in the future."})
    prefix = f"{KEY_PREFIX}{secrets.token_urlsafe(6)}"
    token = f"{prefix}_{secrets.token_urlsafe(32)}"
    key = ApiKey(
        id=key_id or uuid4(),
        owner=owner,
        name=name,
        prefix=prefix,
        digest=digest_of(token),
        limited=servers is not None,
        expires_at=expires_at,
    )
    key.full_clean()
    with transaction.atomic():
        key.save(force_insert=True)
        if servers is not None:
            key.servers.set(servers)
        audit.record(
            audit.Action.KEY_CREATE,
            actor=actor,
            subject=key,
            detail={"owner": owner.get_username(), "servers": sorted(s.slug for s in servers or ())},
        )
    return key, token


def revoke_key(key: ApiKey, *, actor: str) -> None:
    """Refuse the key from now on: at once in this process, within a second everywhere. Idempotent."""
    with transaction.atomic():
        changed = ApiKey.objects.filter(pk=key.pk, revoked_at__isnull=True).update(revoked_at=timezone.now())
        if changed:
            changes.record("api_key", key.digest)
            audit.record(audit.Action.KEY_REVOKE, actor=actor, subject=key)
    key.refresh_from_db(fields=["revoked_at"])
