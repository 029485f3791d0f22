"""Rotating the key ring: tokens, registered secrets and people's own keys are sealed anew too."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.conf import settings as current
from django.core.management import CommandError, call_command
from django.db import connection as database

from authflows.models import Connection, OwnKey, UpstreamClient
from authflows.outbound import connections, own_keys
from authflows.outbound.token_endpoint import TokenAnswer
from authflows.outbound.upstream_clients import facts_of, seal_secret
from gateway_project.keys import make_ring_key
from servers.sealing import KeyRing, sealed_with
from tests.conftest import Cast

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-404", "SE-2")]


def ring(*keys: str) -> KeyRing:
    return KeyRing.parse(",".join(keys))


def run() -> str:
    printed = io.StringIO()
    call_command("rotate_keys", stdout=printed)
    return printed.getvalue()


def keep(cast: Cast, client: UpstreamClient, answer: TokenAnswer) -> Connection:
    return connections.store(
        user=cast.member,
        server=cast.server,
        client=client,
        answer=answer,
        requested_scope="",
        account_label="ada",
        account_subject="1",
        lifetime_seconds=300,
    )


def held(cast: Cast) -> tuple[UpstreamClient, Connection, OwnKey]:
    """A registered client, a connection and a key of one's own, sealed with the ring of the moment."""
    client = UpstreamClient(tenant=cast.tenant, issuer="https://p.example", registration="dynamic", client_id="c")
    seal_secret(client, "canary-secret")
    client.save()
    connection = keep(cast, client, TokenAnswer("canary-access", "canary-refresh", 300, None))
    key = OwnKey(user=cast.member, server=cast.server, origin="http://127.0.0.1:9", set_by="member")
    sealer = current.KEY_RING.sealer(own_keys.PURPOSE)
    key.sealed_values = sealer.seal(b'{"method": "own_header", "values": {"K": "canary-key"}}', key.seal_context())
    key.save()
    return client, connection, key


def test_after_a_rotation_everything_opens_without_the_old_key(cast: Cast, settings: Any) -> None:
    old, new = make_ring_key(), make_ring_key()
    settings.KEY_RING = ring(old)
    client, connection, key = held(cast)
    settings.KEY_RING = ring(new, old)
    printed = run()
    new_id = new.partition(":")[0]
    assert f"Sealed anew with key {new_id}: 4" in printed
    assert f"Nothing stored needs key {old.partition(':')[0]} any more" in printed
    assert "canary" not in printed
    settings.KEY_RING = ring(new)
    for row in (client, connection, key):
        row.refresh_from_db()
    assert facts_of(client).secret == "canary-secret"
    assert connections.open_tokens(connection) == connections.Tokens("canary-access", "canary-refresh")
    assert own_keys.open_key(key).values == {"K": "canary-key"}
    assert f"Sealed anew with key {new_id}: 0" in run()


def test_what_does_not_open_is_named_and_holds_up_nothing(cast: Cast, settings: Any) -> None:
    lost, old, new = make_ring_key(), make_ring_key(), make_ring_key()
    settings.KEY_RING = ring(old)
    client, connection, _ = held(cast)
    settings.KEY_RING = ring(lost)
    seal_secret(client, "lost")
    client.save()
    settings.KEY_RING = ring(new, old)
    with pytest.raises(CommandError, match=str(client.pk)):
        run()
    connection.refresh_from_db()
    assert sealed_with(connection.sealed_access_token) == new.partition(":")[0]


def test_tokens_that_were_refreshed_meanwhile_are_not_overwritten(cast: Cast, settings: Any) -> None:
    old, new = make_ring_key(), make_ring_key()
    settings.KEY_RING = ring(old)
    client, connection, _ = held(cast)
    settings.KEY_RING = ring(new, old)
    done: list[bool] = []

    def refreshed_first(execute: Any, sql: str, *arguments: Any) -> Any:
        # Between reading the row and writing it, somebody stores newer tokens.
        if sql.startswith('UPDATE "authflows_connection"') and not done:
            done.append(True)
            keep(cast, client, TokenAnswer("newer", "newer-refresh", 300, None))
        return execute(sql, *arguments)

    with database.execute_wrapper(refreshed_first):
        run()
    connection.refresh_from_db()
    assert done
    assert connections.open_tokens(connection).access_token == "newer"
