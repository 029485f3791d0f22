"""Auth Overrides: whose key somebody who manages a server may set (F-309)."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Q, QuerySet
from django.utils import timezone

from servers.models import AccessRule, AuthConfig, Server

METHODS = (AuthConfig.Method.OWN_HEADER, AuthConfig.Method.SHARED_HEADER)
"""The methods with values that can be set for somebody."""


def servers_with_overrides(servers: QuerySet[Server]) -> QuerySet[Server]:
    """Those of `servers` where a key can be set for somebody."""
    return servers.filter(auth_config__method__in=METHODS)


def people_who_may_use(server: Server) -> QuerySet[Any]:
    """People and virtual accounts with a live rule on `server`: those whom its calls can come from."""
    live = Q(expires_at__isnull=True) | Q(expires_at__gt=timezone.now())
    here = Q(server=server) | Q(group=server.group_id) if server.group_id else Q(server=server)
    rules = AccessRule.objects.filter(live).filter(here)
    named = Q(pk__in=rules.filter(user__isnull=False).values("user"))
    in_team = Q(groups__in=rules.filter(team__isnull=False).values("team"))
    program = Q(virtual_account__isnull=True) | Q(
        virtual_account__tenant=server.tenant_id, virtual_account__enabled=True
    )
    people = get_user_model().objects.filter(is_active=True, memberships__tenant=server.tenant_id)
    return people.filter(named | in_team).filter(program).order_by("username").distinct()
