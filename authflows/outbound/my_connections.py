"""A person's connections and what is still missing, as the portal shows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.utils import timezone

from authflows.models import Connection, ConnectLink
from authflows.outbound.connections import explain
from authflows.outbound.needs import Missing, missing_connection
from servers.models import AuthConfig, Server
from servers.oauth_settings import OAuthSettings

LINK_LIFETIME = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class MyConnection:
    """One server that people connect to, and how it stands for this person."""

    server: Server
    connection: Connection | None
    missing: Missing | None
    needed_scope: tuple[str, ...]

    @property
    def state(self) -> str:
        """`connected`, `reconnect` or `missing`."""
        if self.connection is None:
            return "missing"
        return "reconnect" if self.missing else "connected"

    @property
    def lacking(self) -> list[str]:
        """Scopes that the server is set up to use and the provider did not give."""
        if self.connection is None:
            return []
        given = set(self.connection.scope.split())
        return [scope for scope in self.needed_scope if scope not in given and scope != "offline_access"]

    @property
    def trouble(self) -> str:
        """What went wrong at the last refresh, while the connection still stands."""
        if self.connection is None or self.missing is not None or not self.connection.last_error:
            return ""
        return explain(self.connection.last_error)


def connections_of(user: Any, usable: Mapping[UUID, Server]) -> list[MyConnection]:
    """The person's connections, and those of the servers that they may use which could be connected; two queries.

    A connection to a server that they may no longer use is listed too: it is theirs to revoke.
    """
    rows = Connection.objects.filter(user=user).select_related("server__tenant", "server__auth_config", "client")
    held = {connection.server_id: connection for connection in rows}
    found = {server_id: connection.server for server_id, connection in held.items()}
    for config in AuthConfig.objects.filter(server__in=usable, method=AuthConfig.Method.OAUTH2):
        server = usable[config.server_id]
        server.auth_config = config
        found[server.pk] = server
    return [shown(server, held.get(server_id)) for server_id, server in found.items()]


def connection_to(user: Any, server: Server) -> MyConnection | None:
    """How one server, with its auth_config, stands for the person; None where nothing is to be connected."""
    config = getattr(server, "auth_config", None)
    if config is None or config.method != AuthConfig.Method.OAUTH2:
        return None
    return shown(server, Connection.objects.filter(user=user, server=server).first())


def link_for(user: Any, server: Server, *, asked_by: str = "", through_id: UUID | None = None) -> ConnectLink:
    """A link to the page where this person connects this server; one that has time left is used again.

    `through_id` is that of the virtual server that was called.
    """
    now = timezone.now()
    links = ConnectLink.objects.filter(user=user, server=server, through=through_id)
    return links.filter(expires_at__gt=now + LINK_LIFETIME / 3).first() or ConnectLink.objects.create(
        user=user, server=server, through_id=through_id, asked_by=asked_by[:255], expires_at=now + LINK_LIFETIME
    )


def shown(server: Server, connection: Connection | None) -> MyConnection:
    """How `server`, with its auth_config, stands with this connection (with its client). No query."""
    config = getattr(server, "auth_config", None)
    needed = OAuthSettings.read(config.settings).scopes if config else ()
    return MyConnection(server, connection, missing_connection(connection, server), needed)
