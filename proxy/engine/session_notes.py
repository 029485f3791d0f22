"""What an older client said in its session, beside what its sealed id holds: in a row, for whichever replica is next.

Whether it has ended the session, its log level, and the resources that it watches. Most sessions have no such row;
that there is none is remembered too, and the change feed says when there is one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from authflows.models import MemberSession
from proxy import threads
from servers import changes

CHANGE: Final = "engine_session"
"""Kind of the `Change` rows; their key is the digest of the session's key."""
MOST_SUBSCRIPTIONS: Final = 500
_MOST_REMEMBERED: Final = 50_000


@dataclass(frozen=True, slots=True)
class Notes:
    """What is noted of one session."""

    ended: bool = False
    level: str = ""
    """The least severe log messages that it wants; empty: it did not say."""
    subscriptions: Mapping[str, str] = field(default_factory=dict)
    """Watched resources: the id of the member by URI."""

    def watched_at(self, member: UUID) -> tuple[str, ...]:
        """The URIs that it watches at one member."""
        return tuple(uri for uri, whose in self.subscriptions.items() if whose == str(member))


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose session it is, for a row that is to be made."""

    session: str
    user_id: int
    server_id: UUID


class TooMany(Exception):
    """The session watches as many resources as one may."""


_NOTHING: Final = Notes()
_of_session: changes.Cache[str, Notes] = changes.Cache(limit=_MOST_REMEMBERED)


@lru_cache(maxsize=10_000)
def digest_of(session: str) -> str:
    """The key of the session's changes, which does not give its key away."""
    return hashlib.sha256(f"notes:{session}".encode()).hexdigest()


def begin(session: str) -> None:
    """Note in memory that a session is new, so that nothing has to be looked up for it."""
    _of_session.get(digest_of(session), lambda: _NOTHING)


async def notes_of(session: str) -> Notes:
    """What is noted of the session."""
    if not session:
        return _NOTHING
    digest = digest_of(session)
    found = _of_session.peek(digest)
    return found if found is not None else await threads.run_or_give_up(_loading, digest)


def _loading(digest: str) -> Notes:
    return _of_session.get(digest, lambda: _load(digest)) or _NOTHING


def _load(digest: str) -> Notes:
    row = MemberSession.objects.filter(digest=digest).values_list("parameters", flat=True).first()
    return _from(row) if row is not None else _NOTHING


def _from(noted: Mapping[str, Any]) -> Notes:
    return Notes(noted.get("ended", False), noted.get("level", ""), noted.get("subscriptions", {}))


# Writing blocks, and is heard of in every process.


def end(owner: Owner) -> None:
    """The client ended its session."""
    _change(owner, lambda notes: Notes(ended=True))


def set_level(owner: Owner, level: str) -> None:
    """The client wants log messages of this level and above."""
    _change(owner, lambda notes: replace(notes, level=level))


def subscribe(owner: Owner, uri: str, member: UUID) -> None:
    """The client watches a resource of a member. Raises TooMany."""

    def change(notes: Notes) -> Notes:
        if uri not in notes.subscriptions and len(notes.subscriptions) >= MOST_SUBSCRIPTIONS:
            raise TooMany
        return replace(notes, subscriptions={**notes.subscriptions, uri: str(member)})

    _change(owner, change)


def unsubscribe(owner: Owner, uri: str) -> None:
    """The client does not watch the resource any more."""
    _change(
        owner,
        lambda notes: replace(
            notes, subscriptions={one: member for one, member in notes.subscriptions.items() if one != uri}
        ),
    )


def _change(owner: Owner, change: Callable[[Notes], Notes]) -> None:
    digest = digest_of(owner.session)
    now = timezone.now()
    with transaction.atomic():
        row, _ = MemberSession.objects.select_for_update().get_or_create(
            digest=digest,
            defaults={
                "user_id": owner.user_id,
                "server_id": owner.server_id,
                "parameters": {},
                "opened_at": now,
                "expires_at": now,
            },
        )
        before = _from(row.parameters)
        after = before if before.ended else change(before)
        row.parameters = {"ended": after.ended, "level": after.level, "subscriptions": dict(after.subscriptions)}
        # No session lasts longer from now on, so neither does the mark that it has ended.
        row.expires_at = now + timedelta(seconds=settings.SESSION_LIFETIME_SECONDS)
        row.save(update_fields=["parameters", "expires_at"])
        changes.record(CHANGE, digest)


def _on_change(kind: str, key: str) -> None:
    if kind == CHANGE:
        _of_session.evict(key)


changes.listen(_on_change)
