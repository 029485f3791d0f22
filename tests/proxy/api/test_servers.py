"""Who I am, which servers are mine, and their tools."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from servers.models import AccessRule, Items, Server
from tests.conftest import Cast
from tests.proxy.api.conftest import Asker
from tests.support.virtual import add_server, set_catalogue, tool, virtual_server

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-604")]
TOOLS = {"tool": [tool("add", description="Adds."), tool("wipe/all")]}


def test_i_learn_who_i_am(me: Asker) -> None:
    found = me.get("me").json()

    assert found["username"] == "member"
    assert found["tenants"] == ["default"]
    assert found["credential"].startswith("api_key:")
    assert (found["limited"], found["program"]) == (False, False)


def test_i_see_the_servers_that_are_mine(me: Asker, cast: Cast) -> None:
    add_server(cast, "notes", "http://127.0.0.1:9/mcp")
    Server.objects.create(tenant=cast.tenant, slug="hidden", name="Hidden", url="http://127.0.0.1:9/mcp")

    found = me.get("servers").json()

    assert [one["slug"] for one in found["items"]] == ["calculator", "notes"]
    assert (found["total"], found["next"]) == (2, None)
    first = found["items"][0]
    assert first["fqn"] == "default:mcp-server:calculator"
    assert first["mcp_url"] == cast.server.mcp_url
    assert first["role"] == "user"
    assert "127.0.0.1:9" not in str(found)


@pytest.mark.parametrize("who", ["outsider", "stranger", "admin"])
def test_a_server_without_a_right_looks_like_none(asking: Callable[..., Asker], cast: Cast, who: str) -> None:
    asker = asking(getattr(cast, who))

    answers = [asker.get(f"servers/default/{slug}{page}") for slug in ("calculator", "none") for page in ("", "/tools")]

    assert asker.get("servers").json()["items"] == []
    assert {answer.status_code for answer in answers} == {404}
    assert {(answer.json()["code"], answer.json()["detail"]) for answer in answers} == {
        ("unknown_server", answers[0].json()["detail"])
    }


def test_a_limited_key_shows_its_servers_only(asking: Callable[..., Asker], cast: Cast) -> None:
    notes = add_server(cast, "notes", "http://127.0.0.1:9/mcp")
    asker = asking(cast.member, [notes])

    assert [one["slug"] for one in asker.get("servers").json()["items"]] == ["notes"]
    assert asker.get("servers/default/calculator").status_code == 404
    assert asker.get("servers/default/calculator/connection").status_code == 404
    assert [one["server"]["slug"] for one in asker.get("connections").json()["items"]] == ["notes"]
    assert asker.get("me").json()["limited"]


def test_a_list_comes_in_parts_that_lead_to_each_other(me: Asker, cast: Cast) -> None:
    for number in range(4):
        add_server(cast, f"s{number}", "http://127.0.0.1:9/mcp")
    slugs, answer = [], me.get("servers", limit=2).json()
    while True:
        slugs += [one["slug"] for one in answer["items"]]
        assert answer["total"] == 5
        if answer["next"] is None:
            break
        query = answer["next"].partition("?")[2]
        answer = me.get(f"servers?{query}").json()

    assert slugs == ["calculator", "s0", "s1", "s2", "s3"]


def test_a_list_can_be_searched(me: Asker, cast: Cast) -> None:
    add_server(cast, "notes", "http://127.0.0.1:9/mcp", description="Meeting minutes")

    assert [one["slug"] for one in me.get("servers", q="MINUTES").json()["items"]] == ["notes"]
    assert me.get("servers", tenant="other").json()["total"] == 0


@pytest.mark.parametrize("query", [{"limit": "0"}, {"limit": "1001"}, {"offset": "-1"}, {"limit": "x"}])
def test_a_bad_page_is_refused_with_its_field(me: Asker, query: dict[str, str]) -> None:
    answer = me.get("servers", **query)

    assert answer.status_code == 400
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert list(answer.json()["fields"]) == list(query)


def test_many_servers_take_no_more_queries(me: Asker, cast: Cast, django_assert_max_num_queries: Any) -> None:
    for number in range(30):
        add_server(cast, f"s{number}", "http://127.0.0.1:9/mcp")

    with django_assert_max_num_queries(20):
        assert me.get("servers").json()["total"] == 31
    with django_assert_max_num_queries(20):
        assert me.get("connections").json()["total"] == 31


def test_tools_are_those_of_the_catalogue_that_i_may_call(me: Asker, cast: Cast) -> None:
    set_catalogue(cast.server, TOOLS)
    assert [one["name"] for one in me.get("servers/default/calculator/tools").json()["items"]] == ["add", "wipe/all"]
    assert me.get("servers/default/calculator/tools/wipe/all").json()["name"] == "wipe/all"

    AccessRule.objects.filter(team=cast.readers).update(items=Items.ONLY, item_names=["tool:add"])
    AccessRule.objects.get(team=cast.readers).save()

    found = me.get("servers/default/calculator/tools").json()
    assert found["items"] == [{"name": "add", "inputSchema": {"type": "object"}, "description": "Adds."}]
    assert me.get("servers/default/calculator/tools/wipe/all").json()["code"] == "unknown_tool"


def test_a_virtual_server_shows_its_own_names(me: Asker, cast: Cast) -> None:
    set_catalogue(cast.server, TOOLS)
    hidden = Server.objects.create(tenant=cast.tenant, slug="hidden", name="Hidden", url="http://127.0.0.1:9/mcp")
    set_catalogue(hidden, TOOLS)
    virtual_server(cast, (cast.server, "math"), (hidden, "no"))

    names = [one["name"] for one in me.get("servers/default/bundle/tools", q="MATH__a").json()["items"]]

    assert names == ["math__add"]
    assert not any("no__" in one["name"] for one in me.get("servers/default/bundle/tools").json()["items"])


def test_a_server_that_was_never_read_says_so(me: Asker) -> None:
    answer = me.get("servers/default/calculator/tools")

    assert (answer.status_code, answer.json()["code"]) == (503, "not_ready")
    assert answer.headers["Retry-After"]


def test_a_server_that_is_switched_off_is_shown_so(me: Asker, cast: Cast) -> None:
    set_catalogue(cast.server, TOOLS)
    cast.server.enabled = False
    cast.server.save()

    found = me.get("servers/default/calculator").json()

    assert (found["state"], found["role"]) == ("off", None)
    assert me.get("servers/default/calculator/tools").json()["items"] == []


def test_an_ended_right_shows_nothing(me: Asker, cast: Cast) -> None:
    assert me.get("servers").json()["total"] == 1

    AccessRule.objects.filter(team=cast.readers).update(expires_at=timezone.now())

    assert me.get("servers").json()["total"] == 0


def test_a_page_of_ours_asks_with_its_session(cast: Cast) -> None:
    browser = Client()
    browser.force_login(cast.member)

    assert browser.get("/api/v1/me").json()["credential"] == "session"
