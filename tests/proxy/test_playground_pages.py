"""The playground's page and the list of what a person can choose there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from servers.models import AccessRule, AuthConfig, Server
from tests.conftest import Cast
from tests.support.virtual import virtual_server

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-603")]
MOST_QUERIES = 20


def listed(person: Any) -> dict[str, dict[str, Any]]:
    """The servers of the list by slug."""
    browser = Client()
    browser.force_login(person)
    answer = browser.get("/portal/playground/servers/")
    assert answer.status_code == 200
    return {one["slug"]: one for one in answer.json()["servers"]}


def add(cast: Cast, slug: str, method: str = AuthConfig.Method.NONE) -> Server:
    """A server that the member may use."""
    server = Server.objects.create(tenant=cast.tenant, slug=slug, name=slug.title(), url=f"https://{slug}.example/mcp")
    AuthConfig.objects.create(server=server, method=method)
    AccessRule.objects.create(server=server, user=cast.member)
    return server


def test_the_page_is_for_people_who_are_signed_in(cast: Cast) -> None:
    browser = Client()
    assert browser.get("/portal/playground/").status_code == 302
    assert browser.get("/portal/playground/servers/").status_code == 302

    browser.force_login(cast.member)
    page = browser.get("/portal/playground/")

    assert page.status_code == 200
    assert len(page.content) < 100 * 1024
    assert b"Add Tool/MCP Servers" in page.content


def test_the_list_holds_what_the_person_may_use_and_nothing_else(cast: Cast) -> None:
    add(cast, "wiki")
    ended = add(cast, "ended")
    AccessRule.objects.filter(server=ended).update(expires_at=timezone.now() - timedelta(minutes=1))

    assert set(listed(cast.member)) == {"calculator", "wiki"}
    assert set(listed(cast.manager)) == {"calculator"}
    assert listed(cast.outsider) == {}
    assert listed(cast.admin) == {}
    assert listed(cast.stranger) == {}


def test_each_server_says_what_is_missing_and_where_that_is_done(cast: Cast) -> None:
    add(cast, "mail", AuthConfig.Method.OAUTH2)
    add(cast, "keyed", AuthConfig.Method.OWN_HEADER)
    off = add(cast, "off")
    Server.objects.filter(pk=off.pk).update(enabled=False)

    found = listed(cast.member)

    assert found["calculator"]["missing"] is None
    assert found["calculator"]["url"] == "/portal/playground/default/calculator/mcp"
    mail, keyed = found["mail"]["missing"], found["keyed"]["missing"]
    assert (mail["action"], mail["url"], mail["post"]) == (
        "Connect Now",
        "/portal/servers/default/mail/connect/",
        True,
    )
    assert (keyed["action"], keyed["url"], keyed["post"]) == (
        "Enter key",
        "/portal/servers/default/keyed/own-key/",
        False,
    )
    assert found["off"]["state"] == "off"


def test_a_virtual_server_names_the_members_that_are_missing(cast: Cast) -> None:
    mail = add(cast, "mail", AuthConfig.Method.OAUTH2)
    virtual_server(cast, (mail, "mail"), (cast.server, "sums"), slug="toolbox")

    missing = listed(cast.member)["toolbox"]["missing"]

    assert missing["sentence"] == "Not connected yet: Mail."
    assert missing["url"] == "/portal/servers/default/toolbox/#members"


def test_many_servers_cost_no_more_queries_than_few(cast: Cast) -> None:
    methods = (AuthConfig.Method.NONE, AuthConfig.Method.OAUTH2, AuthConfig.Method.OWN_HEADER)
    for number in range(30):
        add(cast, f"server-{number}", methods[number % 3])
    browser = Client()
    browser.force_login(cast.member)

    with CaptureQueriesContext(connection) as queries:
        assert len(browser.get("/portal/playground/servers/").json()["servers"]) == 31

    assert len(queries) <= MOST_QUERIES
    with CaptureQueriesContext(connection) as queries:
        browser.get("/portal/playground/")
    assert len(queries) <= MOST_QUERIES
