"""What a person may administer: the one answer behind every admin page, list, choice and button.

A superuser administers everything, a tenant admin everything of the tenant, a manager exactly the servers and
groups that a live rule names, and only in tenants the person belongs to. An auditor administers nothing and reads the
records of the tenant. Everything else is closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from servers.models import AccessRule, Membership, Role, Server, ServerGroup, Tenant


@dataclass(frozen=True)
class Scope:
    """The rows that one person may administer. `groups` and `servers` hold what rules name, not what follows."""

    superuser: bool = False
    tenants: frozenset[UUID] = frozenset()
    """Tenants that the person is an admin of."""
    groups: frozenset[UUID] = frozenset()
    servers: frozenset[UUID] = frozenset()
    reached_tenants: frozenset[UUID] = frozenset()
    """Tenants that hold any of it: people and teams may be chosen from these."""
    audited: frozenset[UUID] = frozenset()
    """Tenants whose records the person reads without administering them."""

    @property
    def reads_records(self) -> bool:
        """Whether there is any tenant whose call records and audit trail the person reads."""
        return self.superuser or bool(self.recorded_tenants)

    @property
    def recorded_tenants(self) -> frozenset[UUID]:
        """The tenants whose records the person reads; of a superuser none is named, who reads all."""
        return self.tenants | self.audited

    @property
    def may_enter(self) -> bool:
        """Whether the person administers anything, so that the admin pages open. Auditors get in for records only."""
        return self.superuser or bool(self.tenants or self.groups or self.servers)

    @property
    def may_add_servers(self) -> bool:
        """A manager of single servers adds none; a manager of a group adds servers to it."""
        return self.superuser or bool(self.tenants or self.groups)

    @property
    def may_add_groups(self) -> bool:
        """Only who administers a tenant makes groups in it."""
        return self.superuser or bool(self.tenants)

    def administers(self, tenant_id: UUID | None) -> bool:
        """Whether the whole tenant is the person's to administer."""
        return self.superuser or tenant_id in self.tenants

    def manages_group(self, group: ServerGroup) -> bool:
        """Whether the person may change this group."""
        return self.administers(group.tenant_id) or group.pk in self.groups

    def manages_server(self, server: Server) -> bool:
        """Whether the person may change this server."""
        return (
            self.administers(server.tenant_id)
            or server.pk in self.servers
            or (server.group_id is not None and server.group_id in self.groups)
        )

    def visible_groups(self) -> QuerySet[ServerGroup]:
        """The groups that the person may change."""
        if self.superuser:
            return ServerGroup.objects.all()
        return ServerGroup.objects.filter(Q(tenant__in=self.tenants) | Q(pk__in=self.groups))

    def visible_servers(self) -> QuerySet[Server]:
        """The servers that the person may change."""
        if self.superuser:
            return Server.objects.all()
        return Server.objects.filter(Q(tenant__in=self.tenants) | Q(group__in=self.groups) | Q(pk__in=self.servers))

    def administered_tenants(self) -> QuerySet[Tenant]:
        """The tenants that the person administers."""
        return Tenant.objects.all() if self.superuser else Tenant.objects.filter(pk__in=self.tenants)

    def tenants_for_new_servers(self) -> QuerySet[Tenant]:
        """The tenants in which the person may add a server, if only to a group of it."""
        if self.superuser:
            return Tenant.objects.all()
        return Tenant.objects.filter(Q(pk__in=self.tenants) | Q(groups__in=self.groups)).distinct()


NOTHING = Scope()


def scope_of(person: Any) -> Scope:
    """What this person may administer now; two queries, none for a superuser."""
    if not person.is_authenticated or not person.is_active:
        return NOTHING
    if person.is_superuser:
        return Scope(superuser=True)
    belongs = dict(Membership.objects.filter(user=person).values_list("tenant_id", "role"))
    administered = frozenset(t for t, role in belongs.items() if role == Membership.Role.ADMIN)
    audited = frozenset(t for t, role in belongs.items() if role == Membership.Role.AUDITOR)
    live = Q(expires_at__isnull=True) | Q(expires_at__gt=timezone.now())
    rules = AccessRule.objects.filter(live, role=Role.MANAGER).filter(Q(user=person) | Q(team__in=person.groups.all()))
    groups: set[UUID] = set()
    servers: set[UUID] = set()
    reached = set(administered)
    for group, group_tenant, server, server_tenant in rules.values_list(
        "group_id", "group__tenant_id", "server_id", "server__tenant_id"
    ):
        tenant = group_tenant or server_tenant
        if tenant not in belongs:
            continue
        reached.add(tenant)
        if group is not None:
            groups.add(group)
        else:
            servers.add(server)
    return Scope(
        tenants=administered,
        groups=frozenset(groups),
        servers=frozenset(servers),
        reached_tenants=frozenset(reached),
        audited=audited,
    )


def scope_of_request(request: HttpRequest) -> Scope:
    """The same for the signed-in person, asked once per request."""
    found = getattr(request, "gatehouse_scope", None)
    if not isinstance(found, Scope):
        found = scope_of(request.user)
        request.gatehouse_scope = found  # type: ignore[attr-defined]
    return found
