"""Why can't I?: the portal's page about oneself, and the admin's about others."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client

from authflows.inbound.api_keys import create_key
from servers.models import AccessRule, Membership, Server
from tests.conftest import Cast
from tests.support.catalogues import State, item, tool

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-503")]


def why(client: Client, person: Any, **asked: str) -> str:
    client.force_login(person)
    response = client.get("/portal/why/", asked)
    assert response.status_code == 200
    text = html.unescape(response.content.decode())
    return re.sub(r'name="csrfmiddlewaretoken" value="[^"]*"', "", text)


def admin_why(client: Client, reader: Any, person: str = "", server: str = "", **asked: str) -> str:
    client.force_login(reader)
    response = client.get("/admin/why/", {"person": person, "server": server, **asked})
    assert response.status_code == 200
    return html.unescape(response.content.decode())


@pytest.mark.parametrize(
    "typed",
    [
        "default/calculator",
        "http://127.0.0.1:8000/default/mcp/calculator/server",
        "/default/mcp/calculator/key",
        "Calculator",
        "calculator",
    ],
)
def test_a_person_asks_by_whatever_they_have_at_hand(client: Client, cast: Cast, typed: str) -> None:
    text = why(client, cast.member, server=typed)
    assert "Nothing stands in your way at Calculator" in text or "Nothing refuses you at Calculator" in text
    assert "User through the team readers" in text


@pytest.mark.requirement("RS-13")
@pytest.mark.parametrize("person", ["outsider", "stranger", "admin"])
def test_a_server_that_is_not_mine_reads_like_one_that_is_not_there(client: Client, cast: Cast, person: str) -> None:
    one = why(client, getattr(cast, person), server="default/calculator", item="add")
    other = why(client, getattr(cast, person), server="default/not-there", item="add")
    assert one.replace("calculator", "not-there") == other
    assert "nobody has given you access" in one


def test_a_server_that_people_can_ask_for_is_explained(client: Client, cast: Cast) -> None:
    Server.objects.update(requestable=True)
    text = why(client, cast.outsider, server="default/calculator")
    assert "No rule names you or a team of yours" in text
    assert "Servers you can ask for" in text
    assert "nobody has given you access" in why(client, cast.stranger, server="default/calculator")


@pytest.mark.requirement("T25")
def test_what_was_typed_is_text(client: Client, cast: Cast) -> None:
    client.force_login(cast.member)
    for name in ("server", "item", "client", "kind"):
        asked = {"server": "default/calculator", name: "<script>canary</script>"}
        assert b"<script>canary" not in client.get("/portal/why/", asked).content


@pytest.mark.parametrize("typed", ["", " ", "\0", "x" * 501, "http://[", "default/" + "a" * 400])
def test_nonsense_is_answered(client: Client, cast: Cast, typed: str) -> None:
    text = why(client, cast.member, server=typed)
    assert "Enter the server’s MCP URL" in text or "no MCP server at this address" in text


def test_the_page_costs_a_bounded_number_of_queries(
    client: Client, cast: Cast, django_assert_max_num_queries: Any
) -> None:
    for number in range(12):
        create_key(owner=cast.member, name=f"key {number}", actor="tests", servers=[cast.server])
    item(cast.server, tool("add"))
    client.force_login(cast.member)
    with django_assert_max_num_queries(19):
        response = client.get("/portal/why/", {"server": "default/calculator", "tool": "add", "client": "key 1"})
    assert len(response.content) < 100 * 1024


def test_a_moment_in_a_sentence_is_a_time_for_the_readers_zone(client: Client, cast: Cast) -> None:
    ends = datetime(2030, 7, 28, 14, 5, tzinfo=UTC)
    AccessRule.objects.filter(server=cast.server, team=cast.readers).update(expires_at=ends)
    shown = 'until <time datetime="2030-07-28T14:05Z">2030-07-28 14:05 UTC</time>.'
    assert shown in why(client, cast.member, server="default/calculator")
    assert shown in admin_why(client, cast.admin, "member", "default/calculator")


def test_a_stranger_to_the_gateway_signs_in_first(client: Client, cast: Cast) -> None:
    assert client.get("/portal/why/").status_code == 302
    assert client.get("/admin/why/").status_code == 302


# Others


def test_a_manager_asks_about_somebody_and_reads_which_rule_decides(client: Client, cast: Cast) -> None:
    text = admin_why(client, cast.manager, "member", "default/calculator")
    assert "member may use Calculator" in text
    assert "User through the team readers" in text
    text = admin_why(client, cast.manager, "outsider", "default/calculator")
    assert "outsider cannot use Calculator" in text
    assert "no_rule" in text
    assert f"/admin/servers/server/{cast.server.pk}/change/" in text


def test_a_manager_reads_why_a_tool_is_hidden(client: Client, cast: Cast) -> None:
    held = item(cast.server, tool("held"), state=State.HELD)
    text = admin_why(client, cast.manager, "member", "default/calculator", tool="held")
    assert "held until somebody approves it" in text
    assert str(held.pk) in text


@pytest.mark.parametrize(
    ("reader", "person", "server"),
    [
        ("manager", "stranger", "default/calculator"),
        ("manager", "absent", "default/calculator"),
        ("manager", "member", "default/elsewhere"),
        ("manager", "member", "default/absent"),
    ],
)
def test_a_manager_asks_about_their_own_servers_and_tenant_only(
    client: Client, cast: Cast, reader: str, person: str, server: str
) -> None:
    Server.objects.create(tenant=cast.tenant, slug="elsewhere", name="Elsewhere", url="http://127.0.0.1:9/mcp")
    text = admin_why(client, getattr(cast, reader), person, server)
    assert "gh-why-steps" not in text
    assert "Elsewhere" not in text
    assert ("Nobody whom you may ask about" in text) is (person != "member")
    assert ("You administer no server" in text) is (person == "member")


@pytest.mark.parametrize("person", ["member", "outsider", "stranger"])
def test_the_page_is_closed_to_who_administers_nothing(client: Client, cast: Cast, person: str) -> None:
    client.force_login(getattr(cast, person))
    assert client.get("/admin/why/", {"person": "member", "server": "default/calculator"}).status_code in (302, 403)


def test_an_auditor_does_not_get_in(client: Client, cast: Cast) -> None:
    Membership.objects.filter(user=cast.outsider).update(role=Membership.Role.AUDITOR)
    client.force_login(cast.outsider)
    response = client.get("/admin/why/", {"person": "member", "server": "default/calculator"})
    assert b"gh-why-steps" not in response.content


def test_an_admin_asks_about_somebody_who_is_switched_off(client: Client, cast: Cast) -> None:
    cast.member.is_active = False
    cast.member.save()
    text = admin_why(client, cast.admin, "member", "default/calculator")
    assert "The account is switched off" in text
    assert f"/admin/auth/user/{cast.member.pk}/change/" in text


def test_every_link_of_an_explanation_opens(client: Client, cast: Cast) -> None:
    item(cast.server, tool("held"), state=State.HELD)
    AccessRule.objects.filter(team=cast.readers).update(items="only", item_names=["tool:other"])
    client.force_login(cast.admin)
    pages = [
        admin_why(client, cast.admin, "outsider", "default/calculator"),
        admin_why(client, cast.admin, "member", "default/calculator", tool="held"),
        admin_why(client, cast.admin, "member", "default/calculator", tool="absent"),
        admin_why(client, cast.admin, "stranger", "default/calculator"),
    ]
    links = {link for page in pages for link in re.findall(r'class="gh-why-fix">[^<]*<a href="([^"]+)"', page)}
    assert links
    for link in links:
        assert client.get(link).status_code == 200, link
