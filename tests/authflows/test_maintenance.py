"""`manage.py maintain`: connections are renewed before they end, idle ones too, dead ones left alone."""

from __future__ import annotations

from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from authflows.models import Connection, ConnectLink
from authflows.outbound import maintenance, my_connections
from servers.models import Server
from tests.conftest import Cast
from tests.support.connecting import begin, come_back
from tests.support.oidc_provider import OidcProvider

pytestmark = [pytest.mark.django_db, pytest.mark.node]


@pytest.fixture
def connection(browser: Client, cast: Cast, drive: Server, oidc_provider: OidcProvider) -> Connection:
    come_back(browser, oidc_provider.sign_in(begin(browser, cast, drive)))
    return Connection.objects.get()


def maintain() -> str:
    out = StringIO()
    call_command("maintain", once=True, stdout=out)
    return out.getvalue()


@pytest.mark.requirement("F-306")
def test_a_connection_in_use_is_renewed_shortly_before_its_end(connection: Connection) -> None:
    now = timezone.now()
    Connection.objects.update(last_used_at=now, access_expires_at=now + timedelta(minutes=2))
    assert "1 refreshed, 0 could not be" in maintain()
    renewed = Connection.objects.get()
    assert renewed.generation == connection.generation + 1
    assert renewed.access_expires_at
    assert renewed.access_expires_at > now + timedelta(minutes=2)
    assert "0 refreshed" in maintain()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"last_used_at": timedelta(hours=-1), "access_expires_at": timedelta(minutes=2)}, 1),
        ({"last_used_at": timedelta(hours=-1), "access_expires_at": timedelta(minutes=30)}, 0),
        ({"last_used_at": timedelta(days=-3), "access_expires_at": timedelta(days=-3)}, 0),
        ({"connected_at": timedelta(days=-6), "access_expires_at": timedelta(days=-6)}, 1),
        (
            {
                "connected_at": timedelta(days=-9),
                "refreshed_at": timedelta(days=-1),
                "access_expires_at": timedelta(-1),
            },
            0,
        ),
        ({"last_used_at": timedelta(0), "access_expires_at": timedelta(0), "retry_at": timedelta(minutes=1)}, 0),
        ({"last_used_at": timedelta(0), "access_expires_at": timedelta(0), "lease_until": timedelta(minutes=1)}, 0),
        ({"last_used_at": timedelta(0), "access_expires_at": timedelta(0), "state": "needs_reconnect"}, 0),
        ({"last_used_at": timedelta(0), "access_expires_at": timedelta(0), "sealed_refresh_token": ""}, 0),
    ],
)
def test_what_is_due(connection: Connection, changes: dict[str, Any], expected: int) -> None:
    now = timezone.now()
    moments = {name: now + value if isinstance(value, timedelta) else value for name, value in changes.items()}
    Connection.objects.update(**moments)
    assert len(maintenance.due(now)) == expected


@pytest.mark.requirement("F-306", "CL-20")
def test_a_provider_that_is_down_is_asked_again_later_and_the_connection_stays(
    connection: Connection, drive: Server
) -> None:
    now = timezone.now()
    Connection.objects.update(last_used_at=now, access_expires_at=now)
    config = drive.auth_config
    type(config).objects.update(settings={**config.settings, "token_endpoint": "http://127.0.0.1:9/token"})
    assert "0 refreshed, 1 could not be" in maintain()
    waiting = Connection.objects.get()
    assert (waiting.state, waiting.failures) == ("connected", 1)
    assert waiting.retry_at
    assert waiting.retry_at > now
    assert "0 refreshed, 0 could not be" in maintain()


def test_prune_takes_away_links_whose_time_is_over(cast: Cast, drive: Server) -> None:
    my_connections.link_for(cast.member, drive)
    ConnectLink.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert "connect links: 1 deleted" in maintain()
