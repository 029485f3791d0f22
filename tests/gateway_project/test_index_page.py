"""The admin's first page: what to set up, what waits for somebody, and calls over time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from authflows.models import Connection, UpstreamClient
from gateway_project.index_page import Task
from servers.models import AccessRequest, Call, Server
from tests.conftest import Cast
from tests.servers.test_admin_access import page, signed_in
from tests.support.catalogues import State, item, tool

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-802")]


def connect(cast: Cast, person: Any, **fields: Any) -> Connection:
    client, _ = UpstreamClient.objects.get_or_create(
        tenant=cast.tenant, issuer="https://provider.example", registration="dynamic", client_id="c"
    )
    values = {"origin": "http://127.0.0.1:9", "connected_at": timezone.now(), "server": cast.server, "client": client}
    return Connection.objects.create(user=person, **values | fields)


def overview(person: Any, **query: str) -> Any:
    return signed_in(person).get(page("index"), query).context["overview"]


def counts(tasks: list[Task]) -> dict[str, int]:
    return {task.text: task.count for task in tasks}


def test_what_waits_is_counted_for_those_who_can_do_it(cast: Cast) -> None:
    soon, later = timezone.now() + timedelta(days=2), timezone.now() + timedelta(days=20)
    AccessRequest.objects.create(server=cast.server, person=cast.outsider, reason="reports")
    AccessRequest.objects.create(
        server=cast.server, person=cast.member, reason="x", state="refused", answered_at=timezone.now()
    )
    item(cast.server, tool("new"), state=State.HELD)
    connect(cast, cast.member, state="needs_reconnect")
    connect(cast, cast.outsider, access_expires_at=soon)
    connect(cast, cast.manager, access_expires_at=soon, sealed_refresh_token="sealed")
    connect(cast, cast.admin, access_expires_at=later)
    far = Server.objects.create(tenant=cast.other_tenant, slug="far", name="Far", url="https://far.example/")
    AccessRequest.objects.create(server=far, person=cast.stranger, reason="x")
    mine = overview(cast.manager)
    assert counts(mine.tasks) == {
        "Access requests to answer": 1,
        "Catalogue changes held": 1,
        "Connections to connect again": 1,
        "Connections that end within 7 days": 1,
    }
    assert [(row.person, row.ends_at) for row in mine.connections] == [("member", None), ("outsider", soon)]
    assert counts(overview(cast.admin).tasks)["Access requests to answer"] == 2


def test_the_period_is_chosen_and_anything_else_is_a_day(cast: Cast) -> None:
    assert overview(cast.admin, period="7d").period.label == "7 days"
    assert overview(cast.admin, period="'><script>").period.label == "24 hours"


def test_names_that_callers_chose_stay_text(cast: Cast) -> None:
    Call.objects.create(
        at=timezone.now(), request_id="r", tenant="default", server="calculator", server_id=cast.server.pk,
        http_method="POST", method="tools/call", item="<script>alert(1)</script>", decision="allowed", status=200,
        outcome="ok", bytes_in=1, bytes_out=1, milliseconds=1,
    )  # fmt: skip
    text = signed_in(cast.manager).get(page("index")).content.decode()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert "Half of the answers came within 1 ms" in text


@pytest.mark.parametrize("who", [lambda cast: cast.admin, lambda cast: cast.manager], ids=["admin", "manager"])
def test_the_page_is_small_and_asks_the_database_seldom(cast: Cast, who: Callable[[Cast], Any]) -> None:
    for hour in range(24):
        for number in range(8):
            Call.objects.create(
                at=timezone.now() - timedelta(hours=hour), request_id="r", tenant="default", server="calculator",
                server_id=cast.server.pk, http_method="POST", method="tools/call", item=f"tool_{number}",
                decision="allowed", status=200, outcome="ok", bytes_in=1, bytes_out=1, milliseconds=number * 100,
            )  # fmt: skip
    connect(cast, cast.member, state="needs_reconnect")
    client = signed_in(who(cast))
    with CaptureQueriesContext(
        connection,
    ) as asked:
        answer = client.get(page("index"))
    assert len(asked) <= 20
    assert len(answer.content) < 100 * 1024
