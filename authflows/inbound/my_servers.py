"""Which servers a signed-in person may use, as the portal shows them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from authflows.inbound.principals import principal_for
from servers import access, registry
from servers.access import Allowed, Denied, Principal, Reason, Rules
from servers.models import Role, Server
from servers.rule_texts import rights_text


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
    now = timezone.now().timestamp()
    found = []
    for server, rules in registry.concerning(principal):
        decision = access.decide(
            principal,
            server_id=server.id,
            tenant_id=server.tenant_id,
            enabled=server.enabled,
            rules=rules,
            now=now,
        )
        if (shown := _shown(server, decision, _end_of(principal, rules, now))) is not None:
            found.append(shown)
    return found


def server_of(user: Any, *, tenant_slug: str, slug: str) -> MyServer | None:
    """The one server at this place if `user` may use it, else None."""
    server = (
        Server.objects.select_related("tenant", "group", "auth_config")
        .filter(tenant__slug=tenant_slug, slug=slug)
        .first()
    )
    if server is None:
        return None
    principal = principal_for(user, credential="session")
    rules, now = registry.rules_of(server), timezone.now().timestamp()
    decision = access.decide(
        principal,
        server_id=server.id,
        tenant_id=server.tenant_id,
        enabled=server.enabled,
        rules=rules,
        now=now,
    )
    return _shown(server, decision, _end_of(principal, rules, now))


def _end_of(principal: Principal, rules: Rules, now: float) -> datetime | None:
    """When the last of the person's living rules ends; None where one of them has no end."""
    grants = [*rules.people.get(principal.user_id, ())]
    for team in principal.teams:
        grants += rules.teams.get(team, ())
    ends = [grant.expires_at for grant in grants if grant.expires_at is None or grant.expires_at > now]
    known = [end for end in ends if end is not None]
    return datetime.fromtimestamp(max(known), UTC) if known and len(known) == len(ends) else None


def _shown(server: Server, decision: Allowed | Denied, ends: datetime | None) -> MyServer | None:
    if isinstance(decision, Allowed):
        return MyServer(server, decision.role, rights_text(decision.rights), decision, ends)
    # Everything else is asked before the switch: whoever gets this answer has a right.
    return MyServer(server, None, ends=ends) if decision.reason is Reason.SERVER_DISABLED else None
