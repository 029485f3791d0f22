"""What is secret of a connection opens nowhere else and stands nowhere in clear."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest
from django.db import connection as database
from django.test import Client

from authflows.models import Connection
from authflows.outbound import connections
from servers.errors import SecretUnavailable
from servers.models import AccessRule, AuditEvent, Server
from tests.conftest import Cast
from tests.support.connecting import begin, come_back
from tests.support.faulty_provider import FaultyProvider, as_json
from tests.support.provider_faults import refresh, tokens_now

pytestmark = pytest.mark.django_db(transaction=True)


# --- what lies in the database


@pytest.mark.requirement("T55")
def test_sealed_tokens_open_in_their_own_row_and_field_only(
    browser: Client, cast: Cast, connected: Connection, faulty_drive: Server
) -> None:
    AccessRule.objects.create(server=faulty_drive, user=cast.outsider)
    values = {
        name: getattr(connected, name)
        for name in ("client", "origin", "connected_at", "sealed_access_token", "sealed_refresh_token")
    }
    stolen = Connection.objects.create(user=cast.outsider, server=faulty_drive, **values)
    with pytest.raises(SecretUnavailable):
        connections.open_tokens(stolen)
    Connection.objects.filter(pk=connected.pk).update(sealed_access_token=connected.sealed_refresh_token)
    with pytest.raises(SecretUnavailable):
        connections.open_tokens(Connection.objects.get(pk=connected.pk))
    # Who opens the page is told what to do.
    outcome = refresh(Connection.objects.get(pk=connected.pk))
    assert isinstance(outcome, connections.NotRefreshed)
    assert outcome.sentence


@pytest.mark.requirement("T55", "T56", "CL-19")
def test_no_secret_of_a_whole_trip_is_in_a_log_a_page_an_audit_row_or_a_column(
    browser: Client, cast: Cast, faulty_drive: Server, faulty: FaultyProvider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []

    def look(response: Any) -> None:
        seen.append(f"{response.headers} {response.content.decode()}")

    def everything() -> str:
        with database.cursor() as cursor:
            found = []
            for table in database.introspection.table_names(cursor):
                cursor.execute(f'SELECT * FROM "{table}"')
                found.append(str(cursor.fetchall()))
        return "\n".join(found)

    stored = [everything()]
    url = begin(browser, cast, faulty_drive)
    stored.append(everything())
    target = faulty.sign_in(url)
    faulty.always("/token", as_json({"error": "temporarily_unavailable"}, 503))
    look(come_back(browser, target))
    faulty.replies.clear()
    look(come_back(browser, faulty.sign_in(begin(browser, cast, faulty_drive))))
    connection = Connection.objects.get()
    for path in (
        "/portal/connections/",
        "/portal/servers/default/drive/",
        f"/portal/connections/{connection.pk}/revoke/",
    ):
        look(browser.get(path))
    stored.append(everything())
    refresh(connection)
    stored.append(everything())
    faulty.always("/token", as_json({"error": "invalid_grant", "error_description": tokens_now().access_token}, 400))
    refresh(Connection.objects.get())
    look(browser.get("/portal/connections/"))
    look(browser.post(f"/portal/connections/{connection.pk}/revoke/", follow=True))
    stored.append(everything())
    assert len(faulty.given) > 6
    assert sum("canary" in json.dumps(dict(one.form)) for one in faulty.asked) >= 4, "they were used"
    assert any(str(connection.pk).replace("-", "") in text.replace("-", "") for text in stored), "the tables were read"
    state = re.findall(r"state=([\w-]+)", url)
    for text in (*stored, *seen, caplog.text, str(list(AuditEvent.objects.values_list()))):
        for secret in (*faulty.given, *state):
            assert secret not in text
