"""The members of a virtual server as one person may use them: with whose credential, and what is still missing.

Members that the person has no right on are not there: a virtual server opens nothing that its members do not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from authflows.inbound.principals import principal_for
from authflows.models import Connection, OwnKey
from authflows.outbound import my_connections, my_own_keys
from authflows.outbound.my_connections import MyConnection
from authflows.outbound.my_own_keys import MyOwnKey
from authflows.outbound.needs import Missing
from servers.access import Allowed
from servers.models import AuthConfig, Server
from servers.models.virtual import VirtualMember
from servers.usable import usable_by

Method = AuthConfig.Method


class Reach(StrEnum):
    """With whose credential a server is called."""

    NOBODY = "nobody"
    """It asks for none."""
    ORGANISATION = "organisation"
    ACCOUNT = "account"
    """The person's own account at a provider."""
    OWN_KEY = "own_key"
    BROUGHT = "brought"
    """The caller's own, which comes with each call."""


_REACH: Final[Mapping[str, Reach]] = {
    Method.NONE: Reach.NOBODY,
    Method.SHARED_HEADER: Reach.ORGANISATION,
    Method.CLIENT_CREDENTIALS: Reach.ORGANISATION,
    Method.OAUTH2: Reach.ACCOUNT,
    Method.OWN_HEADER: Reach.OWN_KEY,
    Method.PASSTHROUGH: Reach.BROUGHT,
    Method.TOKEN_EXCHANGE: Reach.BROUGHT,
}


@dataclass(frozen=True, slots=True)
class MyMember:
    """One server that the person reaches, with what they have for it. Without `item` there is nothing to have."""

    server: Server
    reach: Reach
    item: MyConnection | MyOwnKey | None = None
    enabled: bool = True
    allowed: Allowed | None = None
    """Of a virtual server's member: what they may have of it now; None while it is switched off."""

    @property
    def personal(self) -> bool:
        """Whether it is for the person to connect or to enter something, now or once."""
        return self.reach in (Reach.ACCOUNT, Reach.OWN_KEY)

    @property
    def missing(self) -> Missing | None:
        """What they still have to do."""
        return self.item.missing if self.item is not None else None

    @property
    def account(self) -> str:
        """The name of the connected account, as far as the provider told it."""
        connection = self.item.connection if isinstance(self.item, MyConnection) else None
        return connection.account_label if connection is not None else ""


@dataclass(frozen=True, slots=True)
class Tally:
    """How many of the members that ask for something of the person have it."""

    members: tuple[MyMember, ...]

    @property
    def personal(self) -> list[MyMember]:
        """Those that ask for something."""
        return [member for member in self.members if member.personal]

    @property
    def missing(self) -> list[MyMember]:
        """Those of them that cannot be called yet."""
        return [member for member in self.personal if member.missing is not None and member.enabled]

    @property
    def done(self) -> int:
        """How many of them can be called."""
        return sum(1 for member in self.personal if member.missing is None)


def members_for(user: Any, virtual: Server) -> tuple[MyMember, ...]:
    """The members that the person may use, in the virtual server's order; those that are switched off too."""
    return members_of_each(user, [virtual])[virtual.pk]


def members_of_each(user: Any, virtuals: Collection[Server]) -> dict[UUID, tuple[MyMember, ...]]:
    """The same for several virtual servers; at most eight queries, however many members they have."""
    rows = VirtualMember.objects.filter(virtual__in=virtuals).select_related("server__tenant", "server__auth_config")
    members = list(rows.order_by("position", "alias"))
    allowed = _allowed(user, {row.server_id for row in members})
    mine = [row for row in members if row.server_id in allowed]
    asking = {row.server_id for row in mine if not row.credential}
    connections = {
        row.server_id: row for row in Connection.objects.filter(user=user, server__in=asking).select_related("client")
    }
    keys = {row.server_id: row for row in OwnKey.objects.filter(user=user, server__in=asking).select_related("user")}
    found: dict[UUID, list[MyMember]] = defaultdict(list)
    for row in mine:
        decision = allowed[row.server_id]
        if row.credential:
            member = MyMember(row.server, Reach.ORGANISATION, enabled=decision is not None)
        else:
            connection, key = connections.get(row.server_id), keys.get(row.server_id)
            member = _member(row.server, connection, key, enabled=decision is not None)
        found[row.virtual_id].append(replace(member, allowed=decision))
    return {virtual.pk: tuple(found[virtual.pk]) for virtual in virtuals}


def reached_by(user: Any, server: Server) -> tuple[MyMember, ...]:
    """What an approval for `server` (with its auth_config) opens: its members, or itself."""
    if server.is_virtual:
        return members_for(user, server)
    connection = Connection.objects.filter(user=user, server=server).select_related("client").first()
    key = OwnKey.objects.filter(user=user, server=server).select_related("user").first()
    return (_member(server, connection, key, enabled=server.enabled),)


def reached_by_each(user: Any, servers: Collection[Server]) -> dict[UUID, tuple[MyMember, ...]]:
    """The same for several servers, which get their auth_config; a bounded number of queries."""
    found = members_of_each(user, [server for server in servers if server.is_virtual])
    plain = {server.pk: server for server in servers if not server.is_virtual}
    for config in AuthConfig.objects.filter(server__in=plain):
        plain[config.server_id].auth_config = config
    connections = {
        row.server_id: row for row in Connection.objects.filter(user=user, server__in=plain).select_related("client")
    }
    keys = {row.server_id: row for row in OwnKey.objects.filter(user=user, server__in=plain).select_related("user")}
    for server in plain.values():
        member = _member(server, connections.get(server.pk), keys.get(server.pk), enabled=server.enabled)
        found[server.pk] = (member,)
    return found


def virtual_servers_with(servers: Collection[UUID], usable: Mapping[UUID, Server]) -> dict[UUID, list[Server]]:
    """Through which of the `usable` virtual servers each of these servers is called with what a person has for it."""
    virtual = [server.pk for server in usable.values() if server.is_virtual]
    found: dict[UUID, list[Server]] = defaultdict(list)
    if virtual:
        for row in VirtualMember.objects.filter(virtual__in=virtual, server__in=servers).order_by("virtual__name"):
            if not row.credential:
                found[row.server_id].append(usable[row.virtual_id])
    return dict(found)


def _allowed(user: Any, server_ids: Collection[UUID]) -> dict[UUID, Allowed | None]:
    """The servers among these that the person has a right on, and what they may have; None: it is switched off."""
    found = usable_by(principal_for(user, credential="session"), among=server_ids)
    return {one.server.pk: one.allowed for one in found}


def _member(server: Server, connection: Connection | None, key: OwnKey | None, *, enabled: bool) -> MyMember:
    config: AuthConfig | None = getattr(server, "auth_config", None)
    method = Method(config.method) if config is not None else Method.NONE
    item: MyConnection | MyOwnKey | None = None
    if method == Method.OAUTH2:
        item = my_connections.shown(server, connection)
    elif method == Method.OWN_HEADER or (method == Method.SHARED_HEADER and key is not None):
        item = my_own_keys.shown(server, key)
    return MyMember(server, _REACH[method], item, enabled)
