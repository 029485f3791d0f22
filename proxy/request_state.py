"""The `requestState` of our own "connect this account" answers: sealed, and good for one person, call and time (T43).

What a server gives out itself passes untouched; ours is told apart by its first letters.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

from django.conf import settings

from servers.access import Principal
from servers.registry import ServerFacts
from servers.sealing import KeyRing, Sealer, SealError

PREFIX: Final = "gatehouse-connect:"
LIFETIME_SECONDS: Final = 900
_CONTEXT: Final = "connect v1"
# Not part of what is asked for.
_NOT_DIGESTED: Final = frozenset(("_meta", "inputResponses", "requestState"))


@dataclass(frozen=True, slots=True)
class Asked:
    """How often a person was asked, and with which link."""

    times: int
    link: str
    url: str
    ends: int

    def again(self) -> Asked:
        """One more time."""
        return replace(self, times=self.times + 1)


@lru_cache(maxsize=2)
def _sealer(ring: KeyRing) -> Sealer:
    return ring.sealer("request-state")


def seal(asked: Asked, *, principal: Principal, server: ServerFacts, method: str, parameters: dict[str, Any]) -> str:
    """For the client to send back with the same request."""
    payload = {
        "bound": _bound_to(principal, server, method, parameters),
        "asked": [asked.times, asked.link, asked.url, asked.ends],
    }
    return PREFIX + _sealer(settings.KEY_RING).seal(json.dumps(payload, separators=(",", ":")).encode(), _CONTEXT)


def is_ours(parameters: dict[str, Any]) -> bool:
    """Whether a request carries a state that says it is one of ours."""
    state = parameters.get("requestState")
    return isinstance(state, str) and state.startswith(PREFIX)


def read(
    parameters: dict[str, Any], *, principal: Principal, server: ServerFacts, method: str, now: float
) -> Asked | None:
    """The state of a request that carries one of ours; None when it is damaged, expired, or of another request."""
    try:
        payload = json.loads(_sealer(settings.KEY_RING).open(parameters["requestState"].removeprefix(PREFIX), _CONTEXT))
    except SealError:
        return None
    asked = Asked(*payload["asked"])
    if asked.ends <= now or payload["bound"] != _bound_to(principal, server, method, parameters):
        return None
    return asked


def without_state(body: bytes) -> bytes:
    """The request as it was before we asked; raises ValueError for numbers that cannot be written again."""
    parsed = json.loads(body)
    for name in ("inputResponses", "requestState"):
        parsed["params"].pop(name, None)
    return json.dumps(parsed, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _bound_to(principal: Principal, server: ServerFacts, method: str, parameters: dict[str, Any]) -> list[str]:
    asked_for = {name: value for name, value in parameters.items() if name not in _NOT_DIGESTED}
    text = json.dumps(asked_for, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return [str(server.id), str(principal.user_id), principal.credential, method, digest]
