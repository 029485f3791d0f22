"""The portal's list of servers: states, filters, connecting in place, and asking for what is not mine."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from servers import access_requests
from servers.models import AccessRequest, AccessRule, Role, Server, ServerGroup
from servers.virtual.actors import principal_of
from tests.authflows.test_my_connections import leaves_for
from tests.conftest import Cast
from tests.servers.test_admin_access import signed_in
from tests.support import connecting
from tests.support.connecting import come_back
from tests.support.faulty_provider import FaultyProvider
from tests.support.virtual import virtual_server

pytestmark = pytest.mark.django_db
PAGE = "/portal/"


def text_of(response: Any) -> str:
    assert response.status_code == 200, response.content
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode())))


@pytest.fixture
def drive(cast: Cast, faulty: FaultyProvider) -> Server:
    return connecting.make_server(cast, faulty, scopes=("files.read",), userinfo_endpoint=f"{faulty.issuer}/userinfo")


@pytest.fixture
def payroll(cast: Cast) -> Server:
    """A server of the tenant that nobody but its manager may use, and that can be asked for."""
    group = ServerGroup.objects.create(tenant=cast.tenant, slug="money", name="Finance")
    server = Server.objects.create(
        tenant=cast.tenant,
        group=group,
        slug="canary-slug",
        name="Payroll",
        description="Salaries and days off.",
        url="http://canary-host.internal:9/mcp",
        health="failing",
        requestable=True,
    )
    AccessRule.objects.create(server=server, user=cast.manager, role=Role.MANAGER)
    return server


# Mine


@pytest.mark.requirement("F-602", "F-304")
def test_connect_now_on_the_card_comes_back_to_the_list(
    browser: Client, cast: Cast, drive: Server, faulty: FaultyProvider
) -> None:
    page = browser.get(PAGE)
    assert "Drive Not connected Connect Now" in text_of(page)
    assert 'name="from" value="servers"' in page.content.decode()
    started = browser.post("/portal/servers/default/drive/connect/", {"from": "servers"})
    back = come_back(browser, faulty.sign_in(leaves_for(started)))
    assert back.headers["Location"] == PAGE
    text = text_of(browser.get(PAGE))
    assert "Connected as 2001@example.com" in text
    assert "Connect Now" not in text


@pytest.mark.requirement("F-602", "F-304")
def test_another_try_after_a_failure_comes_back_to_the_list_too(
    browser: Client, cast: Cast, drive: Server, faulty: FaultyProvider
) -> None:
    started = browser.post("/portal/servers/default/drive/connect/", {"from": "servers"})
    failed = come_back(browser, faulty.sign_in(leaves_for(started), error="access_denied", code=None))
    assert 'name="from" value="servers"' in failed.content.decode()


@pytest.mark.requirement("F-602", "F-308")
def test_a_key_is_entered_from_the_card(browser: Client, cast: Cast, safe: Server) -> None:
    page = browser.get(PAGE).content.decode()
    assert "No key yet" in page
    target = re.search(r'href="([^"]+/own-key/\?from=servers)"', page)
    assert target is not None
    assert 'href="/portal/"' in browser.get(target[1]).content.decode()


@pytest.mark.requirement("F-602")
def test_the_list_is_filtered_by_state_and_by_group(cast: Cast, browser: Client, safe: Server) -> None:
    group = ServerGroup.objects.create(tenant=cast.tenant, slug="office", name="Office")
    broken = Server.objects.create(
        tenant=cast.tenant, slug="b", name="Broken", url="http://127.0.0.1:9/mcp", enabled=False, group=group
    )
    AccessRule.objects.create(server=broken, user=cast.member, role=Role.USER)

    def names(query: str) -> list[str]:
        return re.findall(r"<h2><a href=[^>]+>([^<]+)</a></h2>", browser.get(PAGE + query).content.decode())

    assert sorted(names("")) == sorted(["Broken", "Calculator", safe.name])
    assert names("?state=ready") == ["Calculator"]
    assert names("?state=connect") == [safe.name]
    assert names("?state=trouble") == ["Broken"]
    assert names(f"?group={group.pk}") == ["Broken"]
    assert names(f"?group={group.pk}&state=ready") == []
    assert names("?q=office") == ["Broken"]
    assert names("?state=nonsense") == []
    page = browser.get(f"{PAGE}?group={group.pk}").content.decode()
    assert re.search(r'aria-current="true">Office <span class="count">1</span>', page)


@pytest.mark.requirement("F-504")
def test_a_card_says_when_the_right_ends(cast: Cast) -> None:
    assert "Your access ends" not in text_of(signed_in(cast.member).get(PAGE))
    end = timezone.now() + timedelta(days=3)
    AccessRule.objects.filter(team=cast.readers).update(expires_at=end)
    assert f"Your access ends {end:%Y-%m-%d %H:%M} UTC" in text_of(signed_in(cast.member).get(PAGE))
    AccessRule.objects.create(server=cast.server, user=cast.member, expires_at=None)
    assert "Your access ends" not in text_of(signed_in(cast.member).get(PAGE))


@pytest.mark.requirement("F-602")
def test_everything_on_the_list_costs_at_most_twenty_queries(
    browser: Client, cast: Cast, drive: Server, safe: Server, payroll: Server
) -> None:
    virtual_server(cast, (cast.server, "calc"), (drive, "drive"), (safe, "vault"), slug="office")

    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert "Payroll" in browser.get(PAGE).content.decode()
        return len(captured)

    few = queries()
    for number in range(30):
        server = Server.objects.create(
            tenant=cast.tenant,
            slug=f"s{number}",
            name=f"Server {number}",
            url="http://127.0.0.1:9/mcp",
            requestable=number % 2 == 0,
        )
        if number % 3:
            AccessRule.objects.create(server=server, user=cast.member, role=Role.USER)
        elif number % 2 == 0:
            AccessRequest.objects.create(server=server, person=cast.member, reason="Why not")
    assert queries() == few <= 20
    assert len(browser.get(PAGE).content) < 100 * 1024


# What I can ask for


@pytest.mark.requirement("F-504", "F-602")
def test_what_can_be_asked_for_shows_its_name_description_and_group_and_nothing_else(
    cast: Cast, payroll: Server
) -> None:
    page = signed_in(cast.outsider).get(PAGE)
    text = text_of(page)
    for words in ("Servers you can ask for", "Payroll", "Salaries and days off.", "in Finance", "Request access"):
        assert words in text
    form = signed_in(cast.outsider).get(f"/portal/ask/{payroll.pk}/")
    assert "Request access to Payroll" in text_of(form)
    for answer in (page, form):
        assert "canary" not in answer.content.decode()
    assert "Not answering" not in text


@pytest.mark.requirement("F-504")
def test_the_section_is_for_those_who_may_ask(cast: Cast, payroll: Server) -> None:
    for person, asks in (("outsider", True), ("member", True), ("manager", False), ("stranger", False)):
        assert ("Servers you can ask for" in text_of(signed_in(getattr(cast, person)).get(PAGE))) is asks
    Server.objects.filter(pk=payroll.pk).update(requestable=False)
    assert "Payroll" not in text_of(signed_in(cast.outsider).get(PAGE))


@pytest.mark.requirement("F-504")
def test_a_request_is_made_waits_and_is_withdrawn(cast: Cast, payroll: Server) -> None:
    client = signed_in(cast.outsider)
    said = client.post(f"/portal/ask/{payroll.pk}/", {"reason": "Month end", "duration": "90"}, follow=True)
    assert "You asked for Payroll" in text_of(said)
    made = AccessRequest.objects.get()
    assert (made.person, made.server, made.reason, made.days) == (cast.outsider, payroll, "Month end", 90)
    text = text_of(client.get(PAGE))
    assert "Waiting since" in text
    assert "Request access" not in text
    said = client.post(f"/portal/ask/requests/{made.pk}/withdraw/", follow=True)
    assert "is withdrawn" in text_of(said)
    assert "Request access" in text_of(client.get(PAGE))


@pytest.mark.requirement("F-504")
def test_an_answer_reaches_the_person(cast: Cast, payroll: Server) -> None:
    client, principal = signed_in(cast.outsider), principal_of(cast.outsider)
    made = access_requests.ask(principal, payroll.pk, reason="Month end", days=7)
    access_requests.refuse(made.pk, person=cast.manager, answer="Use <i>Reports</i>.")
    page = client.get(PAGE)
    assert "Use &lt;i&gt;Reports&lt;/i&gt;." in page.content.decode()
    assert "Ask again" in text_of(page)
    made = access_requests.ask(principal, payroll.pk, reason="Month end, really", days=7)
    access_requests.approve(made.pk, days=7, person=cast.manager)
    text = text_of(client.get(PAGE))
    assert "Servers you can ask for" not in text
    assert "/default/mcp/canary-slug/server" in text
    assert "Your access ends" in text


@pytest.mark.requirement("F-504")
@pytest.mark.parametrize(
    "fields",
    [{}, {"reason": " ", "duration": "7"}, {"reason": "x" * 501, "duration": "7"}, {"reason": "x", "duration": "2"}],
    ids=["nothing", "blank", "too long", "another duration"],
)
def test_a_request_without_a_reason_or_a_known_duration_is_shown_again(
    cast: Cast, payroll: Server, fields: dict[str, str]
) -> None:
    response = signed_in(cast.outsider).post(f"/portal/ask/{payroll.pk}/", fields)
    assert response.status_code == 200
    assert 'class="errorlist"' in response.content.decode()
    assert not AccessRequest.objects.exists()


@pytest.mark.requirement("F-504")
def test_asking_too_often_is_said_in_the_form(cast: Cast, payroll: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_requests, "MOST_A_DAY", 0)
    response = signed_in(cast.outsider).post(f"/portal/ask/{payroll.pk}/", {"reason": "x", "duration": "7"})
    assert "Wait a day" in text_of(response)


@pytest.mark.requirement("F-504", "F-107")
def test_what_cannot_be_asked_for_looks_like_what_does_not_exist(cast: Cast, payroll: Server) -> None:
    elsewhere = Server.objects.create(
        tenant=cast.other_tenant, slug="there", name="There", url="http://127.0.0.1:9/mcp", requestable=True
    )
    client = signed_in(cast.outsider)
    absent = client.get("/portal/ask/00000000-0000-4000-8000-000000000000/")
    for server in (cast.server, elsewhere):
        hidden = client.get(f"/portal/ask/{server.pk}/")
        assert hidden.status_code == absent.status_code == 404
        assert hidden.content == absent.content
        assert client.post(f"/portal/ask/{server.pk}/", {"reason": "x", "duration": "7"}).status_code == 404
    assert not AccessRequest.objects.exists()


@pytest.mark.requirement("F-504")
def test_nobody_withdraws_for_somebody_else_or_by_a_link(cast: Cast, payroll: Server) -> None:
    made = access_requests.ask(principal_of(cast.outsider), payroll.pk, reason="Month end", days=7)
    path = f"/portal/ask/requests/{made.pk}/withdraw/"
    assert signed_in(cast.member).post(path).status_code == 404
    assert signed_in(cast.outsider).get(path).status_code == 405
    made.refresh_from_db()
    assert made.state == "pending"


@pytest.mark.requirement("F-504")
def test_the_form_of_a_server_that_is_mine_by_now_leads_to_the_list(cast: Cast, payroll: Server) -> None:
    client = signed_in(cast.manager)
    assert client.get(f"/portal/ask/{payroll.pk}/")["Location"] == PAGE


@pytest.mark.requirement("F-504", "T13")
def test_asking_needs_the_token_of_the_page(cast: Cast, payroll: Server) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast.outsider)
    assert client.post(f"/portal/ask/{payroll.pk}/", {"reason": "x", "duration": "7"}).status_code == 403
    assert not AccessRequest.objects.exists()
