"""Lists of virtual servers: merged, named, filtered for whoever asks, in pages; and what stands in no list cannot be
called."""

from __future__ import annotations

import json
from typing import Any

import pytest

from servers.models import AccessRule, CatalogueItem, Server, VirtualMember, VirtualSelection
from tests.conftest import Cast
from tests.support.calls import Caller, caller_for, message, tool_call
from tests.support.gateway import LiveGateway
from tests.support.upstream import Answer, Request, Upstream, json_answer
from tests.support.virtual import add_server, set_catalogue, tool, virtual_server

pytestmark = pytest.mark.django_db(transaction=True)
ANYWHERE = "http://127.0.0.1:9/mcp"


def names(caller: Caller, method: str = "tools/list") -> list[str]:
    """What a list says, by name or URI."""
    result = caller.post(message(method)).json()["result"]
    (found,) = (value for key, value in result.items() if isinstance(value, list))
    return [one.get("name") if method in ("tools/list", "prompts/list") else one.get("uri") for one in found]


def two(cast: Cast) -> tuple[Server, Server]:
    """Two servers with a tool of the same name, and one of their own each."""
    first, second = (add_server(cast, slug, ANYWHERE, eras="modern") for slug in ("first", "second"))
    set_catalogue(first, {"tool": [tool("search"), tool("create")]})
    set_catalogue(second, {"tool": [tool("search"), tool("drop", annotations={"destructiveHint": True})]})
    return first, second


@pytest.mark.requirement("F-605", "T35")
def test_the_tools_of_all_members_stand_in_one_list_under_names_of_their_own(gateway: LiveGateway, cast: Cast) -> None:
    first, second = two(cast)
    caller = caller_for(gateway, virtual_server(cast, (first, "a"), (second, "b")), cast.member)
    assert names(caller) == ["a__search", "a__create", "b__search", "b__drop"]


@pytest.mark.requirement("F-605", "T35")
def test_of_two_equal_names_the_earlier_member_keeps_it(gateway: LiveGateway, cast: Cast) -> None:
    def who(request: Request) -> Answer:
        return json_answer({"jsonrpc": "2.0", "id": request.json()["id"], "result": {"content": []}})

    with Upstream(who) as upstream:
        first, second = two(cast)
        Server.objects.filter(pk=first.pk).update(url=upstream.origin + "/first")
        Server.objects.filter(pk=second.pk).update(url=upstream.origin + "/second")
        bundle = virtual_server(cast, (first, ""), (second, "b"))
        # As when an item comes later whose name is taken by then.
        VirtualSelection.objects.create(
            member=bundle.members.get(server=second), kind="tool", key="drop", name="create"
        )
        caller = caller_for(gateway, bundle, cast.member)
        assert names(caller) == ["search", "create", "b__search"]


@pytest.mark.requirement("F-605")
def test_what_is_not_chosen_is_not_there_and_own_names_and_texts_are(gateway: LiveGateway, cast: Cast) -> None:
    first, second = two(cast)
    bundle = virtual_server(cast, (first, "a"), (second, "b"))
    member = bundle.members.get(server=second)
    VirtualMember.objects.filter(pk=member.pk).update(tools=VirtualMember.Show.CHOSEN)
    VirtualSelection.objects.create(
        member=member, kind="tool", key="search", name="look_up", description="Looks things up in our own words."
    )
    caller = caller_for(gateway, bundle, cast.member)
    tools = caller.post(message("tools/list")).json()["result"]["tools"]
    assert [one["name"] for one in tools] == ["a__search", "a__create", "look_up"]
    assert tools[-1]["description"] == "Looks things up in our own words."
    for hidden in ("b__drop", "drop", "b__search"):
        assert caller.post(tool_call(hidden)).json()["error"]["code"] == -32602


@pytest.mark.requirement("T46", "F-502")
def test_a_member_that_is_not_theirs_looks_as_if_it_were_not_there(gateway: LiveGateway, cast: Cast) -> None:
    first, second = two(cast)
    bundle = virtual_server(cast, (first, "a"), (second, "b"))
    AccessRule.objects.filter(server=second).delete()
    caller = caller_for(gateway, bundle, cast.member)
    assert names(caller) == ["a__search", "a__create"]
    hidden, unknown = caller.post(tool_call("b__search")), caller.post(tool_call("b__nothing"))
    assert hidden.status == unknown.status == 200
    assert hidden.json()["error"]["message"].replace("search", "nothing") == unknown.json()["error"]["message"]


@pytest.mark.requirement("T45", "F-502")
def test_lists_differ_where_rights_differ(gateway: LiveGateway, cast: Cast) -> None:
    first, second = two(cast)
    bundle = virtual_server(cast, (first, "a"), (second, "b"))
    AccessRule.objects.filter(server=second).update(hints="not_destructive")
    for server in (first, second, bundle):
        AccessRule.objects.create(server=server, user=cast.outsider)
    assert names(caller_for(gateway, bundle, cast.member)) == ["a__search", "a__create"]
    # Without a hint a tool may destroy something; with everything allowed that does not matter.
    assert names(caller_for(gateway, bundle, cast.outsider)) == ["a__search", "a__create", "b__search", "b__drop"]


@pytest.mark.requirement("F-804", "T34")
def test_what_an_admin_holds_or_disables_is_gone_at_once(gateway: LiveGateway, cast: Cast) -> None:
    from servers.catalogue.settling import settle

    first, second = two(cast)
    caller = caller_for(gateway, virtual_server(cast, (first, "a"), (second, "b")), cast.member)
    assert "b__drop" in names(caller)
    CatalogueItem.objects.filter(catalogue__server=second, key="drop").update(enabled=False)
    settle(second.catalogue)
    assert "b__drop" not in names(caller)
    assert caller.post(tool_call("b__drop")).json()["error"]["code"] == -32602


@pytest.mark.requirement("F-605", "SV-12")
def test_a_long_list_comes_in_pages_whose_cursors_are_good_for_one_person_and_list(
    gateway: LiveGateway, cast: Cast
) -> None:
    server = add_server(cast, "many", ANYWHERE)
    set_catalogue(server, {"tool": [tool(f"tool_{n:05}", description="x" * 400) for n in range(4000)]})
    bundle = virtual_server(cast, (server, "m"))
    caller = caller_for(gateway, bundle, cast.member)
    seen, cursor, cursors = [], None, []
    while True:
        result = caller.post(message("tools/list", {"cursor": cursor} if cursor else {})).json()["result"]
        seen += [one["name"] for one in result["tools"]]
        assert len(json.dumps(result)) < 1_400_000
        cursor = result.get("nextCursor")
        if cursor is None:
            break
        cursors.append(cursor)
    assert seen == [f"m__tool_{n:05}" for n in range(4000)]
    assert cursors

    def refused(found: Caller, method: str, text: Any) -> bool:
        answer = found.post(message(method, {"cursor": text})).json()
        return "error" in answer and answer["error"]["code"] == -32602

    AccessRule.objects.create(server=server, user=cast.outsider)
    AccessRule.objects.create(server=bundle, user=cast.outsider)
    for found, method, text in (
        (caller_for(gateway, bundle, cast.outsider), "tools/list", cursors[0]),
        (caller, "prompts/list", cursors[0]),
        (caller, "tools/list", cursors[0][:-2] + "xx"),
        (caller, "tools/list", ""),
        (caller, "tools/list", 7),
    ):
        assert refused(found, method, text)
    set_catalogue(server, {"tool": [tool("other")]})
    assert refused(caller, "tools/list", cursors[0])


@pytest.mark.requirement("F-605", "T45", "SV-8")
def test_a_modern_list_says_that_it_is_private_and_not_to_be_kept(gateway: LiveGateway, cast: Cast) -> None:
    first, second = two(cast)
    caller = caller_for(gateway, virtual_server(cast, (first, "a"), (second, "b")), cast.member)
    result = caller.modern("tools/list").json()["result"]
    assert (result["resultType"], result["ttlMs"], result["cacheScope"]) == ("complete", 0, "private")
    assert "resultType" not in caller.post(message("tools/list")).json()["result"]


@pytest.mark.requirement("F-605")
def test_a_virtual_server_of_nothing_has_empty_lists(gateway: LiveGateway, cast: Cast) -> None:
    caller = caller_for(gateway, virtual_server(cast), cast.member)
    for method in ("tools/list", "prompts/list", "resources/list", "resources/templates/list"):
        assert names(caller, method) == []


@pytest.mark.requirement("T54", "SE-11")
def test_opening_a_server_of_twenty_members_asks_none_of_them(gateway: LiveGateway, cast: Cast) -> None:
    with Upstream() as upstream:
        members = [add_server(cast, f"m{n}", f"{upstream.origin}/mcp", eras="legacy") for n in range(20)]
        for member in members:
            set_catalogue(member, {"tool": [tool("echo")]})
        bundle = virtual_server(cast, *((member, member.slug) for member in members))
        caller = caller_for(gateway, bundle, cast.member)
        caller.open_session()
        assert caller.modern("server/discover").status == 200
        assert len(names(caller)) == 20
        assert upstream.requests == []


@pytest.mark.requirement("F-605")
@pytest.mark.parametrize("listed", [True, False])
def test_tools_of_a_member_that_is_not_connected_say_so_or_are_hidden(
    gateway: LiveGateway, cast: Cast, listed: bool
) -> None:
    from servers.models import AuthConfig
    from servers.own_header import OwnHeaderSettings

    first, second = two(cast)
    settings = OwnHeaderSettings((("X-Key", "{{KEY}}"),), {})
    AuthConfig.objects.filter(server=second).update(method=AuthConfig.Method.OWN_HEADER, settings=settings.stored())
    bundle = virtual_server(cast, (first, "a"), (second, "b"), list_unconnected=listed)
    caller = caller_for(gateway, bundle, cast.member)
    tools = caller.post(message("tools/list")).json()["result"]["tools"]
    assert [one["name"] for one in tools] == (["a__search", "a__create"] + (["b__search", "b__drop"] if listed else []))
    if listed:
        assert tools[-1]["description"].startswith("[Connect Second to use this.]")
        text = caller.post(tool_call("b__search")).json()["result"]["content"][0]["text"]
        assert f"{gateway.origin}/connect/" in text
        assert "Second" in text
