"""About whom a request is: the caller, or for managers somebody else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from authflows.inbound.api_callers import ApiCaller
from authflows.inbound.api_servers import managed_server, person_at, servers_of_person
from proxy.api.problems import Problem
from servers.models import Server
from servers.usable import Usable, usable_at, usable_by


@dataclass(frozen=True, slots=True)
class Subject:
    """A person and one server. `managed`: the caller asks as its manager."""

    user: Any
    server: Server
    managed: bool


def subject_of(caller: ApiCaller, *, tenant: str, slug: str, person: str | None) -> Subject:
    """The caller at a server that they may use, or `person` at one that the caller manages; raises Problem."""
    myself = person in (None, caller.user.get_username())
    server = managed_server(caller, tenant=tenant, slug=slug) if person is not None else None
    if server is None and myself:
        usable = usable_at(caller.principal, tenant=tenant, slug=slug)
        if usable is None:
            raise Problem("unknown_server")
        return Subject(caller.user, usable.server, managed=False)
    if server is None:
        raise Problem("not_manager")
    found = person_at(server, str(person))
    if found is None:
        raise Problem("unknown_person")
    return Subject(found, server, managed=True)


def servers_of(caller: ApiCaller, person: str | None) -> tuple[Any, list[Usable]]:
    """A person and their servers: all of the caller's, or those of `person` that the caller manages."""
    if person in (None, caller.user.get_username()):
        return caller.user, usable_by(caller.principal)
    found = servers_of_person(caller, str(person))
    if found is None:
        raise Problem("unknown_person")
    return found
