"""With whose credential an admin's connection test calls a server: their own, where the server knows people."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from authflows.models import Connection, OwnKey
from authflows.outbound import connections, own_keys
from authflows.outbound.connections import EXPIRES_SOON, NotRefreshed
from authflows.outbound.methods import client_credentials
from authflows.outbound.needs import missing_connection, missing_own_key
from authflows.outbound.testing import Header
from authflows.outbound.token_endpoint import TokenFailure
from servers.models import AuthConfig, Server

Method = AuthConfig.Method


class NothingToTestWith(Exception):
    """There is no credential for the test; the text says what the tester can do about it."""


def headers_for(user: Any, server: Server, config: AuthConfig) -> list[Header] | None:
    """The headers of the tester's own credential at a saved server; None where its method needs nobody's.

    Raises NothingToTestWith, and SecretUnavailable. May block on the provider.
    """
    if config.method == Method.OAUTH2:
        return _connected(user, server)
    if config.method == Method.OWN_HEADER:
        return _own_key(user, server, config)
    if config.method == Method.CLIENT_CREDENTIALS:
        obtained = client_credentials.obtain(server, config)
        if isinstance(obtained, TokenFailure):
            raise NothingToTestWith(f"The provider gave no token. {obtained.sentence}")
        return [("Authorization", f"Bearer {obtained.token}")]
    if config.method in (Method.PASSTHROUGH, Method.TOKEN_EXCHANGE):
        raise NothingToTestWith(
            "Calls to this server carry what each caller brings, so there is nothing to test with here. "
            "Call it through the gateway with a client instead."
        )
    return None


def _connected(user: Any, server: Server) -> list[Header]:
    where = f"Save, then press Connect Now on {server.name}'s page in the portal, and test again: the test uses your "
    connection = Connection.objects.select_related("client").filter(user=user, server=server).first()
    missing = missing_connection(connection, server)
    if connection is None or missing is not None:
        raise NothingToTestWith(f"{missing.sentence if missing else ''} {where}own connection.".strip())
    ends = connection.access_expires_at
    if ends is not None and ends < timezone.now() + EXPIRES_SOON:
        outcome = connections.refresh(connection.pk, seen_generation=connection.generation)
        if isinstance(outcome, NotRefreshed):
            raise NothingToTestWith(f"Your connection could not be renewed. {outcome.sentence}")
        connection.refresh_from_db()
    return [("Authorization", f"Bearer {connections.open_tokens(connection).access_token}")]


def _own_key(user: Any, server: Server, config: AuthConfig) -> list[Header]:
    key = OwnKey.objects.filter(user=user, server=server).first()
    missing = missing_own_key(key, server)
    if key is None or missing is not None:
        sentence = missing.sentence if missing else ""
        raise NothingToTestWith(f"{sentence} Enter yours on {server.name}'s page in the portal, and test again.")
    return own_keys.headers_with(server, config, own_keys.open_key(key).values)
