"""Which servers somebody may make members of a virtual server, and which of their items they get to see there."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.utils import timezone

from servers import access, registry
from servers.access import Allowed, Principal
from servers.items import UNLIMITED, ItemRights
from servers.models import Membership, Server
from servers.scope import Scope, scope_of


@dataclass(frozen=True)
class Actor:
    """A person at the admin pages."""

    name: str
    """As it stands in the audit trail."""
    scope: Scope
    principal: Principal

    @classmethod
    def of(cls, person: Any, *, scope: Scope | None = None) -> Actor:
        """The actor for a signed-in person; at most four queries."""
        return cls(str(person.get_username()), scope or scope_of(person), principal_of(person))

    def usable(self, tenant_id: UUID, *, among: Collection[UUID] | None = None) -> Mapping[UUID, Usable]:
        """The servers of the tenant that the actor may make members, by id; with `among` only of these.

        Who administers the tenant may take any of it; others those that they may use, switched off or not.
        """
        if self.scope.administers(tenant_id):
            found = Server.objects.filter(tenant=tenant_id).exclude(kind=Server.Kind.VIRTUAL)
            if among is not None:
                found = found.filter(pk__in=among)
            return {server.pk: Usable(server, UNLIMITED) for server in found.select_related("tenant")}
        usable = {}
        for server, rules in registry.concerning(self.principal):
            if server.is_virtual or server.tenant_id != tenant_id or (among is not None and server.pk not in among):
                continue
            # Whoever uses it later is decided about on their own; the switch may be on again by then.
            decision = access.decide(
                self.principal,
                server_id=server.pk,
                tenant_id=server.tenant_id,
                enabled=True,
                rules=rules,
                now=timezone.now().timestamp(),
            )
            if isinstance(decision, Allowed):
                usable[server.pk] = Usable(server, decision.rights)
        return usable


@dataclass(frozen=True, slots=True)
class Usable:
    """A server that may become a member, and what of it the actor may see."""

    server: Server
    rights: ItemRights


def principal_of(person: Any) -> Principal:
    """A person or virtual account, as a decision sees them when no credential limits them; two queries."""
    return Principal(
        user_id=person.pk,
        label=str(person.get_username()),
        active=person.is_active,
        tenants=frozenset(Membership.objects.filter(user=person).values_list("tenant_id", flat=True)),
        teams=frozenset(person.groups.values_list("pk", flat=True)),
        credential="page",
    )
