"""Which servers a signed-in person may use, as the portal shows them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from authflows.inbound.principals import principal_for
from servers.access import Allowed, Principal, Rules
from servers.models import Role, Server
from servers.usable import Usable, usable_at, usable_by


@dataclass(frozen=True, slots=True)
class MyServer:
    """A server that the person has a right on. While it is switched off, they see it and cannot call it."""

    server: Server
    role: Role | None
    limits: str = ""
    """What of it is theirs, in words; empty: everything."""
    allowed: Allowed | None = None
    """What they may have of it now; None while it is switched off."""
    ends: datetime | None = None
    """When their right ends, if nothing is changed; None: it has no end."""

    @property
    def state(self) -> str:
        """`off`, or what tests and calls say: `ok`, `slow`, `failing`, `unknown`; nobody tests a `virtual` one."""
        if self.server.enabled and self.server.is_virtual:
            return "virtual"
        if not self.server.enabled:
            return "off"
        return "failing" if self.server.is_failing else str(self.server.health)

    @property
    def state_text(self) -> str:
        """The state in words for the person who wants to call the server."""
        words = {
            "ok": "Ready",
            "slow": "Slow",
            "failing": "Not answering",
            "off": "Switched off",
            "virtual": "Several servers",
        }
        return words.get(self.state, "Not tested yet")


def servers_of(user: Any) -> list[MyServer]:
    """All servers that `user` may use, by name; a bounded number of queries."""
    return servers_for(principal_for(user, credential="session"))


def servers_for(principal: Principal) -> list[MyServer]:
    """The same for who already knows the principal; two queries."""
    return [_shown(principal, found) for found in usable_by(principal)]


def server_of(user: Any, *, tenant_slug: str, slug: str) -> MyServer | None:
    """The one server at this place if `user` may use it, else None."""
    principal = principal_for(user, credential="session")
    found = usable_at(principal, tenant=tenant_slug, slug=slug)
    return _shown(principal, found) if found is not None else None


def _shown(principal: Principal, found: Usable) -> MyServer:
    ends = _end_of(principal, found.rules, timezone.now().timestamp())
    return MyServer(found.server, found.role, found.limits, found.allowed, ends)


def _end_of(principal: Principal, rules: Rules, now: float) -> datetime | None:
    """When the last of the person's living rules ends; None where one of them has no end."""
    grants = [*rules.people.get(principal.user_id, ())]
    for team in principal.teams:
        grants += rules.teams.get(team, ())
    ends = [grant.expires_at for grant in grants if grant.expires_at is None or grant.expires_at > now]
    known = [end for end in ends if end is not None]
    return datetime.fromtimestamp(max(known), UTC) if known and len(known) == len(ends) else None
