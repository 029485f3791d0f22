"""Which servers somebody has a right on, also while these are switched off: `access.decide` over rows, for pages."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.utils import timezone

from servers import access, registry
from servers.access import Allowed, Principal, Reason, Rules
from servers.models import Role, Server
from servers.rule_texts import rights_text


@dataclass(frozen=True, slots=True)
class Usable:
    """A server that somebody has a right on. `allowed` is None while it is switched off."""

    server: Server
    allowed: Allowed | None
    rules: Rules
    """Those by which it is theirs, and maybe others."""

    @property
    def role(self) -> Role | None:
        """In which role; None while it is switched off."""
        return self.allowed.role if self.allowed is not None else None

    @property
    def limits(self) -> str:
        """What of it is theirs, in words; empty: everything."""
        return rights_text(self.allowed.rights) if self.allowed is not None else ""

    @property
    def state(self) -> str:
        """`off`, or what tests and calls say: `ok`, `slow`, `failing`, `unknown`. Nobody tests a virtual one."""
        if self.allowed is None:
            return "off"
        if self.server.is_virtual:
            return "ok"
        return "failing" if self.server.is_failing else str(self.server.health)


def usable_by(principal: Principal, *, among: Collection[UUID] | None = None) -> list[Usable]:
    """All of theirs, or those of these ids, by name; two queries."""
    now = timezone.now()
    found = (usable(principal, server, rules, now=now) for server, rules in registry.concerning(principal, among=among))
    return [one for one in found if one is not None]


def usable_at(principal: Principal, *, tenant: str, slug: str) -> Usable | None:
    """The one at this place, or None: not there and no right are not told apart."""
    server = server_at(tenant=tenant, slug=slug)
    return usable(principal, server, registry.rules_of(server), now=timezone.now()) if server is not None else None


def usable(principal: Principal, server: Server, rules: Rules, *, now: datetime) -> Usable | None:
    """What the decision about all of the server comes to; None: no right."""
    decision = access.decide(
        principal,
        server_id=server.pk,
        tenant_id=server.tenant_id,
        enabled=server.enabled,
        rules=rules,
        now=now.timestamp(),
    )
    if isinstance(decision, Allowed):
        return Usable(server, decision, rules)
    # Everything else is asked before the switch: whoever gets this answer has a right.
    return Usable(server, None, rules) if decision.reason is Reason.SERVER_DISABLED else None


def server_at(*, tenant: str, slug: str) -> Server | None:
    """The row at this place, whoever asks."""
    rows = Server.objects.select_related("tenant", "group", "auth_config")
    return rows.filter(tenant__slug=tenant, slug=slug).first()
