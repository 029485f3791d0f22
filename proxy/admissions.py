"""Remembered answers of `prepare_call`: what held a moment ago holds until something changes or runs out.

One look-up instead of six for every call of the steady state. An answer is dropped with the next change of
anything, and at the moment when the key, a rule, a token or a value read from a file ends by itself.
"""

from __future__ import annotations

import hashlib
from math import inf
from time import monotonic
from typing import Final

from proxy.pipeline import Knock, Prepared
from servers.access import Principal
from servers.registry import ServerFacts

_MOST_REMEMBERED: Final = 20_000


def holds_until(prepared: Prepared, now: float) -> float:
    """When the answer may become another one without any change (Unix seconds, or infinity)."""
    ends = [rights_until(prepared.principal, prepared.server, now)]
    if prepared.credential.read_again_at is not None:
        ends.append(now + prepared.credential.read_again_at - monotonic())
    if prepared.credential.until is not None:
        ends.append(prepared.credential.until)
    return min(ends)


def rights_until(principal: Principal, server: ServerFacts, now: float) -> float:
    """When the caller's right may end by itself: the key's, or a rule's (Unix seconds, or infinity)."""
    rules = server.rules
    grants = rules.people.get(principal.user_id, ())
    for team in principal.teams:
        grants += rules.teams.get(team, ())
    ends = (principal.credential_expires_at, *(grant.expires_at for grant in grants))
    return min((end for end in ends if end is not None and end > now), default=inf)


class Admissions:
    """Positive answers by credential (its SHA-256) and MCP path; refusals are never kept."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, str, str, str], tuple[Prepared, float]] = {}
        self._changes = -1

    def find(self, knock: Knock, *, now: float, changes: int) -> Prepared | None:
        """The answer, if it still holds. `changes` is how many changes this process knows of."""
        if changes != self._changes:
            self._known.clear()
            self._changes = changes
            return None
        if knock.authorization is None or knock.authorization_twice or knock.query:
            return None
        found = self._known.get(_key(knock, knock.authorization))
        return found[0] if found is not None and now < found[1] else None

    def keep(self, knock: Knock, prepared: Prepared, *, now: float, changes: int) -> None:
        """Remember an answer that was found when `changes` were known."""
        if changes != self._changes or knock.authorization is None or knock.query:
            return
        if not prepared.credential.remembered:
            return
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[_key(knock, knock.authorization)] = (prepared, holds_until(prepared, now))


def _key(knock: Knock, authorization: bytes) -> tuple[bytes, str, str, str]:
    if not knock.digest:
        knock.digest = hashlib.sha256(authorization).digest()
    return knock.digest, knock.tenant, knock.slug, knock.endpoint
