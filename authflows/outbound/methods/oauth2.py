"""OAuth2 per person: the access token of the caller's own connection (F-303, F-306, CL-19)."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from authflows.models import Connection
from authflows.outbound import connections
from authflows.outbound.connections import EXPIRES_SOON, NotRefreshed, explain, open_tokens, origin_of, settings_of
from authflows.outbound.credential_results import Answer, Credential, Kind, NeedsConnection, NotObtained, RefreshDue
from authflows.outbound.needs import Missing, Need
from servers.errors import SecretUnavailable


def credential(connection: Connection | None, *, name: str, url: str, now: datetime) -> Answer:
    """What the connection (with its client and its server's auth_config) is good for at the server's `url`.

    Its tokens leave only for the origin that they were given for, and only while the provider is the same one
    (T21, T29).
    """
    if connection is None:
        return NeedsConnection(Missing(Need.CONNECT, f"{name} is not connected to your account yet."))
    problem = _problem(connection, url)
    if problem is not None:
        return NeedsConnection(Missing(Need.RECONNECT, f"{name} has to be connected again. {explain(problem)}"))
    epoch = f"connection.{connection.pk}.{connection.epoch}"
    obtain = partial(_refresh, connection.pk, connection.generation)
    due_at, ends_at = _due_at(connection, now), connection.access_expires_at
    usable = None
    if ends_at is None or ends_at > now:
        try:
            token = open_tokens(connection).access_token
        except SecretUnavailable as error:
            return NeedsConnection(Missing(Need.RECONNECT, f"{name} has to be connected again. {error.public_message}"))
        until = due_at if due_at is not None and due_at > now else ends_at
        usable = Credential(
            headers=(("Authorization", f"Bearer {token}"),),
            epoch=epoch,
            shared=False,
            kind=Kind.CONNECTION,
            id=connection.pk,
            generation=connection.generation,
            stamp=f"{Kind.CONNECTION}:{connection.pk}",
            url=url,
            until=until.timestamp() if until is not None else None,
            renew=obtain,
        )
    if usable is not None and (due_at is None or due_at > now):
        return usable
    return RefreshDue(key=(connection.pk, connection.generation), epoch=epoch, obtain=obtain, usable=usable)


def _problem(connection: Connection, url: str) -> str | None:
    # Not the scopes that a call was refused for: all other calls go on with the token that there is.
    if connection.state != Connection.State.CONNECTED:
        return connection.last_error or "upstream_refused"
    if not connection.origin == origin_of(url) == origin_of(connection.server.url):
        return "endpoint_changed"
    return None if settings_of(connection) is not None else "issuer_changed"


def _due_at(connection: Connection, now: datetime) -> datetime | None:
    """When to ask for another token: shortly before the end of this one, and not before the provider may be asked."""
    ends_at = connection.access_expires_at
    if ends_at is None or not connection.sealed_refresh_token:
        return ends_at
    lifetime = ends_at - (connection.refreshed_at or connection.connected_at)
    # Some tokens live for less than a minute.
    due_at = ends_at - min(EXPIRES_SOON, max(lifetime / 4, timedelta(0)))
    if connection.retry_at is not None and due_at <= now < connection.retry_at:
        return min(connection.retry_at, ends_at)
    return due_at


def _refresh(connection_id: UUID, generation: int) -> NotObtained | None:
    answer = connections.refresh(connection_id, seen_generation=generation)
    if isinstance(answer, NotRefreshed):
        return NotObtained(answer.dead, answer.code, answer.sentence)
    return None
