"""The admin page of access requests: who sees which, and what an answer does."""

from __future__ import annotations

import html
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from servers import access_requests
from servers.models import AccessRequest, AccessRule, Role, Server
from servers.virtual.actors import principal_of
from tests.conftest import Cast

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-504")]

LIST = "/admin/servers/accessrequest/"


@pytest.fixture
def asked(cast: Cast) -> AccessRequest:
    cast.server.requestable = True
    cast.server.save()
    return access_requests.ask(principal_of(cast.outsider), cast.server.pk, reason="Quarterly <b>report</b>", days=7)


def page(client: Client, person: Any, path: str = LIST) -> str:
    client.force_login(person)
    response = client.get(path)
    assert response.status_code == 200
    return response.content.decode()


def answer(client: Client, person: Any, asked: AccessRequest, **fields: str) -> str:
    client.force_login(person)
    response = client.post(LIST, {"request": str(asked.pk), **fields}, follow=True)
    assert response.status_code == 200
    asked.refresh_from_db()
    return html.unescape(response.content.decode())


def test_a_manager_reads_who_asks_for_what_why_and_for_how_long(
    client: Client, cast: Cast, asked: AccessRequest
) -> None:
    text = page(client, cast.manager)
    for words in ("outsider", "Calculator", "Quarterly &lt;b&gt;report", "for 7 days", "7 days (asked for)"):
        assert words in text
    assert 'href="/admin/servers/accessrequest/"' in page(client, cast.manager, "/admin/")


def test_one_click_gives_what_was_asked_for(client: Client, cast: Cast, asked: AccessRequest) -> None:
    assert "may use the server until" in answer(client, cast.manager, asked, do="approve", duration="7", answer="")
    assert asked.state == "approved"
    rule = AccessRule.objects.get(server=cast.server, user=cast.outsider)
    assert rule.role == Role.USER
    assert asked.answered_at is not None
    assert rule.expires_at is not None
    assert (rule.expires_at - asked.answered_at).days == 7
    assert "Nobody waits" in page(client, cast.manager)
    assert "Approved" in page(client, cast.manager, f"{LIST}?state=approved")


@pytest.mark.parametrize(("duration", "ends"), [("90", True), ("0", False)], ids=["longer", "no end"])
def test_a_manager_gives_another_duration(
    client: Client, cast: Cast, asked: AccessRequest, duration: str, ends: bool
) -> None:
    answer(client, cast.manager, asked, do="approve", duration=duration)
    assert (AccessRule.objects.get(server=cast.server, user=cast.outsider).expires_at is not None) is ends


def test_a_no_needs_a_sentence(client: Client, cast: Cast, asked: AccessRequest) -> None:
    assert "Say in a sentence why not" in answer(client, cast.manager, asked, do="refuse", duration="7")
    assert asked.state == "pending"
    assert "Refused. outsider reads" in answer(client, cast.manager, asked, do="refuse", answer="Ask for the copy.")
    assert (asked.state, asked.answer) == ("refused", "Ask for the copy.")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"do": "approve"},
        {"do": "approve", "duration": "366"},
        {"do": "approve", "duration": "-1"},
        {"do": "approve", "duration": "7", "request": "nonsense"},
        {"do": "delete", "duration": "7"},
        {"do": "refuse", "answer": "x" * 501},
    ],
    ids=["nothing", "no duration", "too long", "negative", "no id", "another verb", "a long sentence"],
)
def test_an_answer_that_is_none_changes_nothing(
    client: Client, cast: Cast, asked: AccessRequest, fields: dict[str, str]
) -> None:
    answer(client, cast.manager, asked, **fields)
    assert asked.state == "pending"
    assert not AccessRule.objects.filter(user=cast.outsider).exists()


def test_the_second_of_two_managers_reads_that_it_is_answered(client: Client, cast: Cast, asked: AccessRequest) -> None:
    access_requests.refuse(asked.pk, person=cast.admin, answer="No.")
    assert "refused already" in answer(client, cast.manager, asked, do="approve", duration="7")
    assert not AccessRule.objects.filter(user=cast.outsider).exists()


def test_others_neither_see_nor_answer(client: Client, cast: Cast, asked: AccessRequest) -> None:
    second = Server.objects.create(tenant=cast.tenant, slug="second", name="Second", url="http://127.0.0.1:7/mcp")
    AccessRule.objects.create(server=second, user=cast.member, role=Role.MANAGER)
    assert "Calculator" not in page(client, cast.member)
    response = client.post(LIST, {"request": str(asked.pk), "do": "approve", "duration": "7"})
    assert response.status_code == 403
    for person in (cast.outsider, cast.stranger):
        client.force_login(person)
        assert client.get(LIST).status_code in (302, 403)
        assert client.post(LIST, {"request": str(asked.pk), "do": "approve", "duration": "7"}).status_code in (302, 403)
    asked.refresh_from_db()
    assert asked.state == "pending"


def test_requests_are_not_made_changed_or_deleted_by_hand(client: Client, cast: Cast, asked: AccessRequest) -> None:
    client.force_login(cast.admin)
    assert client.get(f"{LIST}add/").status_code in (403, 404)
    assert client.get(f"{LIST}{asked.pk}/delete/").status_code == 404
    assert client.get(f"{LIST}{asked.pk}/history/").status_code == 404
    assert client.get(f"{LIST}{asked.pk}/change/")["Location"] == LIST


def test_a_manager_deletes_a_server_with_its_requests(client: Client, cast: Cast, asked: AccessRequest) -> None:
    client.force_login(cast.manager)
    text = client.get(f"/admin/servers/server/{cast.server.pk}/delete/").content.decode()
    assert "your account doesn" not in text
    assert "permission to delete" not in text


def test_many_requests_cost_no_more_queries_than_one(client: Client, cast: Cast, asked: AccessRequest) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            client.get(LIST)
        return len(captured)

    client.force_login(cast.manager)
    few = queries()
    for number in range(20):
        server = Server.objects.create(
            tenant=cast.tenant, slug=f"s{number}", name=f"S {number}", url="http://127.0.0.1:7/mcp", requestable=True
        )
        AccessRule.objects.create(server=server, user=cast.manager, role=Role.MANAGER)
        AccessRequest.objects.create(server=server, person=cast.outsider, reason="Why not", days=None)
    assert queries() == few <= 20


@pytest.mark.parametrize("path", ["/admin/servers/server/add/", "/admin/servers/server/add-virtual/"])
def test_the_forms_of_servers_ask_whether_people_may_ask(client: Client, cast: Cast, path: str) -> None:
    text = page(client, cast.admin, path)
    assert "People may ask for access" in text
    assert 'name="requestable"' in text
