"""The portal: which servers a person sees, and what a page says about one."""

from __future__ import annotations

import html
import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from servers.models import AccessRule, Hints, Items, Role, Server, ServerGroup
from tests.conftest import Cast

pytestmark = pytest.mark.django_db


def page(client: Client, person: object, path: str = "/portal/") -> str:
    client.force_login(person)  # type: ignore[arg-type]
    response = client.get(path)
    assert response.status_code == 200
    return html.unescape(response.content.decode())


def one(cast: Cast) -> str:
    return f"/portal/servers/{cast.tenant.slug}/{cast.server.slug}/"


def test_the_root_leads_to_the_portal(client: Client, cast: Cast) -> None:
    assert client.get("/")["Location"] == "/portal/"


@pytest.mark.requirement("F-501")
@pytest.mark.parametrize(
    ("person", "sees"),
    [("manager", True), ("member", True), ("outsider", False), ("stranger", False), ("admin", False)],
)
def test_a_person_sees_exactly_the_servers_that_they_may_use(
    client: Client, cast: Cast, person: str, sees: bool
) -> None:
    text = page(client, getattr(cast, person))
    assert ("http://127.0.0.1:8000/default/mcp/calculator/server" in text) is sees
    assert ("Calculator" in text) is sees
    assert client.get(one(cast)).status_code == (200 if sees else 404)


def test_a_server_that_does_not_exist_looks_like_one_that_i_may_not_use(client: Client, cast: Cast) -> None:
    client.force_login(cast.outsider)
    hidden, absent = client.get(one(cast)), client.get("/portal/servers/default/absent/")
    assert hidden.status_code == absent.status_code == 404
    assert hidden.content == absent.content


def test_a_right_that_ended_shows_nothing(client: Client, cast: Cast) -> None:
    AccessRule.objects.filter(team=cast.readers).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert "Calculator" not in page(client, cast.member)


def test_a_right_on_the_group_shows_its_servers(client: Client, cast: Cast) -> None:
    group = ServerGroup.objects.create(tenant=cast.tenant, slug="maths", name="Mathematics")
    cast.server.group = group
    cast.server.save()
    AccessRule.objects.create(group=group, user=cast.outsider, role=Role.USER)
    text = page(client, cast.outsider)
    assert "Calculator" in text
    assert "in Mathematics" in text
    assert client.get(one(cast)).status_code == 200


def test_a_server_that_is_switched_off_says_so(client: Client, cast: Cast) -> None:
    Server.objects.update(enabled=False)
    assert "Switched off" in page(client, cast.member)
    assert "every call to it is refused" in page(client, cast.member, one(cast))
    assert "Switched off" not in page(client, cast.outsider)


@pytest.mark.parametrize(
    ("health", "words"), [("unknown", "Not tested yet"), ("ok", "Ready"), ("failing", "Not answering")]
)
def test_the_state_is_what_the_last_test_said(client: Client, cast: Cast, health: str, words: str) -> None:
    Server.objects.update(health=health, health_at=timezone.now(), health_detail={"error": "canary-host.internal"})
    for path in ("/portal/", one(cast)):
        text = page(client, cast.member, path)
        assert words in text
        assert "canary" not in text


def test_without_a_server_the_page_says_what_to_do(client: Client, cast: Cast) -> None:
    text = page(client, cast.outsider)
    assert "No servers yet" in text
    assert "tell them your username: <strong>outsider</strong>" in text
    text = page(client, cast.admin)
    assert "Being an admin alone opens none" in text
    assert "/admin/servers/server/add/" in text


def test_only_who_may_enter_the_administration_is_shown_the_way(client: Client, cast: Cast) -> None:
    for person, shown in ((cast.admin, True), (cast.manager, True), (cast.member, False)):
        assert ('href="/admin/"' in page(client, person)) is shown


def test_the_list_costs_the_same_few_queries_for_one_server_and_for_forty(client: Client, cast: Cast) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert "Calculator" in client.get("/portal/").content.decode()
        return len(captured)

    client.force_login(cast.member)
    few = queries()
    group = ServerGroup.objects.create(tenant=cast.tenant, slug="many", name="Many")
    for number in range(40):
        server = Server.objects.create(
            tenant=cast.tenant,
            slug=f"s{number}",
            name=f"Server {number}",
            url="http://127.0.0.1:9/mcp",
            group=group if number % 2 else None,
        )
        team = Group.objects.create(name=f"team {number}")
        cast.member.groups.add(team)
        AccessRule.objects.create(server=server, team=team, role=Role.USER)
    AccessRule.objects.create(group=group, user=cast.member, role=Role.USER)
    assert queries() == few <= 14


def test_a_long_list_has_pages_and_a_search(client: Client, cast: Cast) -> None:
    for number in range(30):
        server = Server.objects.create(
            tenant=cast.tenant, slug=f"s{number}", name=f"Number {number:02}", url="http://127.0.0.1:9/mcp"
        )
        AccessRule.objects.create(server=server, user=cast.member, role=Role.USER)
    first, second = page(client, cast.member), page(client, cast.member, "/portal/?page=2")
    assert "Page 1 of 2" in first
    assert "Number 29" not in first
    assert "Number 29" in second
    found = page(client, cast.member, "/portal/?q=NUMBER+07")
    assert "Number 07" in found
    assert "Number 08" not in found
    assert "Nothing matches “zzz”" in page(client, cast.member, "/portal/?q=zzz")


@pytest.mark.requirement("T25")
def test_names_and_descriptions_are_text_and_never_markup(client: Client, cast: Cast) -> None:
    Server.objects.update(name="<b>bold</b>", description="<script>alert(1)</script>")
    client.force_login(cast.member)
    for path in ("/portal/", one(cast), "/portal/?q=%3Cscript%3E", "/portal/keys/new/"):
        response = client.get(path)
        text = response.content.decode()
        assert "<b>" not in text
        assert "<script>" not in text
        assert "default-src 'self'" in response["Content-Security-Policy"]


@pytest.mark.requirement("T13", "T25")
@pytest.mark.parametrize("path", ["/portal/", "/portal/keys/", "/portal/keys/new/", "/sign-in/", "/absent/"])
def test_pages_hold_no_inline_code_and_cannot_be_framed_or_kept(client: Client, cast: Cast, path: str) -> None:
    if path != "/sign-in/":
        client.force_login(cast.member)
    response = client.get(path)
    text = response.content.decode()
    assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", text)
    assert "frame-ancestors 'none'" in response["Content-Security-Policy"]
    assert response["X-Frame-Options"] == "DENY"
    assert "no-store" in response["Cache-Control"]


def test_a_person_who_was_switched_off_is_out_at_once(client: Client, cast: Cast) -> None:
    page(client, cast.member)
    cast.member.is_active = False
    cast.member.save()
    assert client.get("/portal/").status_code == 302


@pytest.mark.requirement("F-502")
def test_a_person_reads_what_of_a_server_is_theirs(client: Client, cast: Cast) -> None:
    assert "What you may use" not in page(client, cast.member, one(cast))
    rule = AccessRule.objects.get(team=cast.readers)
    rule.items, rule.item_names = Items.ONLY, ["tool:add", "prompt:greet"]
    rule.save()
    assert "1 tool and 1 prompt" in page(client, cast.member)
    assert "What you may use of this server: 1 tool and 1 prompt." in page(client, cast.member, one(cast))
    AccessRule.objects.create(server=cast.server, user=cast.member, role=Role.USER, hints=Hints.READ_ONLY)
    expected = "1 tool and 1 prompt; besides everything, of tools only those that only read."
    assert expected in page(client, cast.member, one(cast))
    assert "What you may use" not in page(client, cast.manager, one(cast))
