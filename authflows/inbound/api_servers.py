"""Servers and people that a manager asks the Gateway API about, within the limits of the credential."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.db.models import Q

from authflows.inbound.api_callers import ApiCaller
from authflows.inbound.principals import principal_for
from authflows.models import Connection, OwnKey
from authflows.outbound.overrides import people_who_may_use
from servers.models import Server
from servers.people import people_of
from servers.scope import scope_of
from servers.usable import Usable, server_at, usable_by


def managed_server(caller: ApiCaller, *, tenant: str, slug: str) -> Server | None:
    """The server at this place if the caller manages it, else None: not there and not theirs are not told apart."""
    server = server_at(tenant=tenant, slug=slug)
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
    usable = usable_by(principal_for(person, credential="session"))
    managed = [one for one in usable if caller.may_reach(one.server.pk) and scope.manages_server(one.server)]
    return (person, managed) if managed else None
