"""Which servers a caller of the Gateway API may use, within the limits of the credential that opened the door."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Q
from django.utils import timezone

from authflows.inbound.api_callers import ApiCaller
from authflows.inbound.principals import principal_for
from authflows.models import Connection, OwnKey
from authflows.outbound.overrides import people_who_may_use
from servers import access, registry
from servers.access import Allowed, Denied, Principal, Reason
from servers.models import Role, Server
from servers.people import people_of
from servers.rule_texts import rights_text
from servers.scope import scope_of


@dataclass(frozen=True, slots=True)
class Usable:
    """A server that somebody has a right on. `allowed` is None while it is switched off."""

    server: Server
    allowed: Allowed | None

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
        """`off`, or what tests and calls say: `ok`, `slow`, `failing`, `unknown`."""
        if self.allowed is None:
            return "off"
        if self.server.is_virtual:
            return "ok"
        return "failing" if self.server.is_failing else str(self.server.health)


def servers_usable_by(principal: Principal) -> list[Usable]:
    """All of them, by name; three queries."""
    now = timezone.now().timestamp()
    found = []
    for server, rules in registry.concerning(principal):
        decision = access.decide(
            principal,
            server_id=server.pk,
            tenant_id=server.tenant_id,
            enabled=server.enabled,
            rules=rules,
            now=now,
        )
        if (usable := _usable(server, decision)) is not None:
            found.append(usable)
    return found


def server_usable_by(principal: Principal, *, tenant: str, slug: str) -> Usable | None:
    """The one at this place, or None: not there and no right are not told apart."""
    server = row_at(tenant=tenant, slug=slug)
    if server is None:
        return None
    decision = access.decide(
        principal,
        server_id=server.pk,
        tenant_id=server.tenant_id,
        enabled=server.enabled,
        rules=registry.rules_of(server),
        now=timezone.now().timestamp(),
    )
    return _usable(server, decision)


def row_at(*, tenant: str, slug: str) -> Server | None:
    """The row at this place, whoever asks."""
    rows = Server.objects.select_related("tenant", "group", "auth_config")
    return rows.filter(tenant__slug=tenant, slug=slug).first()


def _usable(server: Server, decision: Allowed | Denied) -> Usable | None:
    if isinstance(decision, Allowed):
        return Usable(server, decision)
    # Everything else is asked before the switch: whoever gets this answer has a right.
    return Usable(server, None) if decision.reason is Reason.SERVER_DISABLED else None


# For managers, about others


def managed_server(caller: ApiCaller, *, tenant: str, slug: str) -> Server | None:
    """The server at this place if the caller manages it, else None: not there and not theirs are not told apart."""
    server = row_at(tenant=tenant, slug=slug)
    if server is None or not caller.may_reach(server.pk) or not scope_of(caller.user).manages_server(server):
        return None
    return server


def person_at(server: Server, username: str) -> Any:
    """Who may use this server, or has something for it still; None for everybody else."""
    has_something = Q(pk__in=Connection.objects.filter(server=server).values("user")) | Q(
        pk__in=OwnKey.objects.filter(server=server).values("user")
    )
    people = get_user_model()._default_manager.select_related("virtual_account").filter(username=username)
    return people.filter(Q(pk__in=people_who_may_use(server).values("pk")) | has_something).first()


def servers_of_person(caller: ApiCaller, username: str) -> tuple[Any, list[Usable]] | None:
    """Somebody, and those of the servers that the caller manages which they may use; None where there are none."""
    scope = scope_of(caller.user)
    people = people_of(scope, get_user_model()._default_manager.select_related("virtual_account"))
    person = people.filter(username=username).first() if scope.may_enter else None
    if person is None:
        return None
    usable = servers_usable_by(principal_for(person, credential="session"))
    managed = [one for one in usable if caller.may_reach(one.server.pk) and scope.manages_server(one.server)]
    return (person, managed) if managed else None
