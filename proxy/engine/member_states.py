"""The `requestState` of members on its way through clients: sealed, and good for one person, call and time (T43).

To a member that is called with one credential for all, every caller looks the same; so it is the gateway that has to
see that nobody comes with another's state.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from uuid import UUID

from django.conf import settings

from servers.access import Principal
from servers.sealing import KeyRing, Sealer, SealError

PREFIX: Final = "gatehouse-member:"
LIFETIME_SECONDS: Final = 3600
_CONTEXT: Final = "member-state v1"
_NOT_DIGESTED: Final = frozenset(("_meta", "inputResponses", "requestState"))


@lru_cache(maxsize=2)
def _sealer(ring: KeyRing) -> Sealer:
    return ring.sealer("member-state")


def seal(
    state: str | None,
    *,
    principal: Principal,
    server: UUID,
    member: UUID,
    method: str,
    params: Mapping[str, Any],
    now: float,
) -> str:
    """The member's state (None: it gave none) for the client to send back with the same request."""
    bound = _bound_to(principal, server, member, method, params)
    payload = {"bound": bound, "ends": int(now) + LIFETIME_SECONDS, "state": state}
    return PREFIX + _sealer(settings.KEY_RING).seal(json.dumps(payload, separators=(",", ":")).encode(), _CONTEXT)


class BadState(ValueError):
    """A state that is damaged, expired, or of another request."""


def read(
    text: Any,
    *,
    principal: Principal,
    server: UUID,
    member: UUID,
    method: str,
    params: Mapping[str, Any],
    now: float,
) -> str | None:
    """The member's own state of a request that comes back. Raises BadState."""
    if not isinstance(text, str) or not text.startswith(PREFIX):
        raise BadState
    try:
        payload = json.loads(_sealer(settings.KEY_RING).open(text.removeprefix(PREFIX), _CONTEXT))
    except SealError:
        raise BadState from None
    if payload["ends"] <= now or payload["bound"] != _bound_to(principal, server, member, method, params):
        raise BadState
    found: str | None = payload["state"]
    return found


def _bound_to(principal: Principal, server: UUID, member: UUID, method: str, params: Mapping[str, Any]) -> list[str]:
    asked_for = {name: value for name, value in params.items() if name not in _NOT_DIGESTED}
    digest = hashlib.sha256(json.dumps(asked_for, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return [str(server), str(member), str(principal.user_id), principal.credential, method, digest]
