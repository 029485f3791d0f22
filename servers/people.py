"""Which people and teams may be chosen as collaborators, and what they are called on pages."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from servers.scope import Scope

# User names of virtual accounts begin with this; people cannot take such a name (it has a colon).
VIRTUAL_PREFIX = "virtual:"


def person_label(person: Any) -> str:
    """The user name, with what helps to tell the person."""
    name = str(person.get_username())
    if name.startswith(VIRTUAL_PREFIX):
        return f"{name.removeprefix(VIRTUAL_PREFIX)} (virtual account)"
    full = person.get_full_name()
    return f"{name} ({full})" if full else name


def people_of(scope: Scope, people: QuerySet[Any]) -> QuerySet[Any]:
    """Those who belong to a tenant that the scope reaches; nobody of other tenants shows."""
    people = people.filter(is_active=True)
    if scope.superuser:
        return people
    return people.filter(memberships__tenant__in=scope.reached_tenants).distinct()


def teams_of(scope: Scope, teams: QuerySet[Any]) -> QuerySet[Any]:
    """Teams with a member in a reached tenant; teams are global, so one without members shows to nobody else."""
    if scope.superuser:
        return teams
    return teams.filter(user__memberships__tenant__in=scope.reached_tenants).distinct()
