"""The catalogue pages of the admin: what they show, who may, what is decided there, and what they cost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from servers.admin.catalogue_rows import ROWS_ON_A_PAGE
from servers.catalogue import reading_now
from servers.catalogue.digests import digest
from servers.catalogue.facts import catalogue_of
from servers.catalogue.settling import EMPTIED, settle
from servers.catalogue.taking import Taken
from servers.forms.item_filter import MOST_NAMES
from servers.models import AccessRule, AuditEvent, Role, Server, ServerGroup
from servers.models.catalogue import Catalogue, CatalogueItem
from tests.conftest import Cast
from tests.servers.test_admin_access import page, signed_in
from tests.support.catalogues import State, catalogue, changed, item, tool

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-804")]


def url_of(server: Server, query: str = "") -> str:
    return f"{page('servers_server_catalogue', server.pk)}?{query}"


def shown(client: Client, url: str) -> str:
    answer = client.get(url)
    assert answer.status_code == 200
    return answer.content.decode()


def names(answer: Any) -> list[str]:
    return [row.item.key for row in answer.context["listing"].rows]


def post(client: Client, url: str, **values: Any) -> str:
    answer = client.post(url, {key.replace("__", "-"): value for key, value in values.items()}, follow=True)
    assert answer.status_code == 200
    return " ".join(str(message) for message in answer.context["messages"])


def choice(*items: CatalogueItem) -> dict[str, Any]:
    return {"item": [str(one.pk) for one in items], **{f"seen-{one.pk}": digest(one.offered) for one in items}}


def served(server: Server) -> set[str]:
    return {key for _, key in catalogue_of(server.pk).texts}


# --- who may


def held_on_the_first_page(client: Client) -> int:
    """How many held changes wait for this person to decide."""
    tasks = client.get(page("index")).context["overview"].tasks
    return next(task.count for task in tasks if task.text == "Catalogue changes held")


@pytest.mark.requirement("F-501")
def test_managers_see_catalogues_of_their_servers_and_of_no_others(cast: Cast) -> None:
    other = Server.objects.create(tenant=cast.tenant, slug="other", name="Other", url="https://other.example/mcp")
    mine, foreign = changed(cast.server), changed(other, "secret_tool")
    client = signed_in(cast.manager)
    assert "search" in shown(client, url_of(cast.server))
    assert client.get(page("servers_catalogueitem_change", mine.pk)).status_code == 200
    # An unknown row leads to the index, as on every page of the admin.
    assert client.get(url_of(other)).status_code == 404
    assert client.get(page("servers_catalogueitem_change", foreign.pk)).status_code == 404
    assert client.post(page("servers_catalogueitem_change", foreign.pk), {"do": "disable"}).status_code == 404
    assert client.post(url_of(other), {"do": "read"}).status_code == 404
    everything = shown(client, page("servers_catalogueitem_changelist"))
    assert "search" in everything
    assert "secret_tool" not in everything
    assert held_on_the_first_page(client) == 1
    assert held_on_the_first_page(signed_in(cast.admin)) == 2
    assert "secret_tool" in shown(signed_in(cast.admin), page("servers_catalogueitem_changelist"))


@pytest.mark.requirement("F-501")
@pytest.mark.parametrize("who", ["member", "outsider", "stranger"])
def test_whoever_manages_nothing_gets_no_catalogue_page(cast: Cast, who: str) -> None:
    held = changed(cast.server)
    client = signed_in(getattr(cast, who))
    for url in (
        url_of(cast.server), page("servers_catalogueitem_changelist"), page("servers_catalogueitem_change", held.pk),
    ):  # fmt: skip
        assert client.get(url, follow=True).status_code == 403
        assert client.post(url, {"do": "disable", **choice(held)}, follow=True).status_code == 403
    held.refresh_from_db()
    assert held.enabled


@pytest.mark.requirement("F-501")
def test_rows_of_other_servers_cannot_be_slipped_into_a_decision(cast: Cast) -> None:
    other = Server.objects.create(tenant=cast.tenant, slug="other", name="Other", url="https://other.example/mcp")
    mine, foreign = changed(cast.server), changed(other)
    answer = signed_in(cast.manager).post(url_of(cast.server), {"do": "approve", **choice(mine, foreign)})
    assert answer.status_code == 403
    assert set(CatalogueItem.objects.values_list("state", flat=True)) == {State.HELD}


# --- what is shown


def test_the_list_says_what_each_item_is_and_what_changed(cast: Cast) -> None:
    annotations = {"readOnlyHint": True, "title": "Add numbers"}
    item(cast.server, tool("add", annotations=annotations), read_only=False)
    changed(cast.server)
    item(cast.server, {"uri": "file:///a", "name": "A"}, kind="resource", state=State.GONE, approved={"uri": "x"})
    text = shown(signed_in(cast.manager), url_of(cast.server))
    for words in (
        "Add numbers", "Adds two numbers.", "May change something", "corrected; the server says: only reads",
        "Held: changed", "The description changed.", "Gone", "file:///a", "Resource",
    ):  # fmt: skip
        assert words in text, words
    assert "mails it" not in text, "callers have the approved description"


def test_every_filter_finds_its_items(cast: Cast) -> None:
    item(cast.server, tool("fine"))
    changed(cast.server)
    item(cast.server, tool("new"), state=State.HELD)
    item(cast.server, tool("no"), approved=tool("no", "x"), state=State.REFUSED)
    item(cast.server, tool("off"), enabled=False)
    item(cast.server, tool("bad"), state=State.HELD, problem="Its schema is too deep.")
    item(cast.server, tool("was"), approved=tool("was"), state=State.GONE)
    client = signed_in(cast.manager)
    expected = {
        "all": ["fine", "search", "new", "no", "off", "bad", "was"], "held": ["search", "new", "bad"],
        "changed": ["search", "no"], "disabled": ["off"], "problems": ["bad"], "gone": ["was"],
    }  # fmt: skip
    for name, keys in expected.items():
        answer = client.get(url_of(cast.server, f"show={name}"))
        assert names(answer) == keys, name
        assert {chip.label.lower(): chip.count for chip in answer.context["listing"].chips}[name] == len(keys)
    everywhere = page("servers_catalogueitem_changelist")
    for name, keys in {"all": ["search", "new", "bad"], "changed": ["search"], "new": ["new", "bad"]}.items():
        assert names(client.get(f"{everywhere}?show={name}")) == keys, name
    assert names(client.get(url_of(cast.server, "show=unheard&page=x&kind=none"))) == expected["all"]


def test_items_are_searched_by_name_and_description_and_by_kind(cast: Cast) -> None:
    item(cast.server, tool("add", "Sums of numbers."))
    item(cast.server, {"name": "greet", "description": "Says hello."}, kind="prompt")
    client = signed_in(cast.manager)
    assert names(client.get(url_of(cast.server, "q=HELLO"))) == ["greet"]
    assert names(client.get(url_of(cast.server, "q=add"))) == ["add"]
    assert names(client.get(url_of(cast.server, "kind=prompt"))) == ["greet"]
    nothing = client.get(url_of(cast.server, "q=%00zzz<b>"))
    assert "Nothing matches. Search for another word" in nothing.content.decode()
    assert "zzz<b>" not in nothing.content.decode()


@pytest.mark.requirement("T25", "T34")
def test_markup_and_unseen_characters_of_servers_are_shown_as_what_they_are(cast: Cast) -> None:
    nasty = "Adds.<script>alert(1)</script>\x1b[31m\u202eevil\u200b\U000e0041 ünïcode"
    held = item(cast.server, tool("add\u202e", nasty, title="\u2066t<i>"), state=State.HELD)
    client = signed_in(cast.manager)
    schema = {"properties": {"<b>\u202e": {"description": nasty, "type": "string", "enum": ["<u>"]}}}
    CatalogueItem.objects.filter(pk=held.pk).update(
        offered=json.dumps({"name": "add\u202e", "description": nasty, "title": "\u2066t<i>", "inputSchema": schema})
    )
    for url in (url_of(cast.server), page("servers_catalogueitem_change", held.pk)):
        text = shown(client, url)
        for raw in ("<script>alert", "\x1b", "\u202e", "\u2066", "\u200b", "\U000e0041", "<i>", "<u>", "<b>"):
            assert raw not in text, (url, raw)
        for mark in (">ESC<", ">U+202E<", ">U+200B<", ">U+E0041<", "&lt;script&gt;", "ünïcode"):
            assert mark in text, (url, mark)


@pytest.mark.requirement("T34")
def test_the_page_of_an_item_shows_what_changed_word_by_word(cast: Cast) -> None:
    before = tool("search", "Searches the archive.", annotations={"readOnlyHint": True})
    after = tool("search", "Searches the public archive.", annotations={"readOnlyHint": False})
    after["inputSchema"]["properties"]["where"] = {"type": "string", "description": "A place."}
    held = item(cast.server, after, approved=before, state=State.HELD)
    text = shown(signed_in(cast.manager), page("servers_catalogueitem_change", held.pk))
    assert "<ins>public </ins>" in text
    assert "What changed since approval" in text
    assert "It says now that it may change something." in text
    assert "The input “where” was added." in text
    assert "Callers have the definition that was approved before" in text


def test_a_schema_is_a_table_with_nested_properties(cast: Cast) -> None:
    schema = {
        "type": "object", "required": ["filter"],
        "properties": {
            "filter": {
                "type": "object", "description": "What to find",
                "properties": {"year": {"type": ["integer", "null"], "minimum": 1900, "default": 2000}},
            },
            "tags": {"type": "array", "items": {"type": "string"}},
            "mode": {"enum": ["fast", "slow"]},
            "odd": True,
        },
    }  # fmt: skip
    one = item(cast.server, {"name": "find", "inputSchema": schema})
    text = shown(signed_in(cast.manager), page("servers_catalogueitem_change", one.pk))
    for words in (
        "<code>year</code>", "integer or null", "default 2000; at least 1900", "array of string", "gh-depth-1",
        "one of &quot;fast&quot;, &quot;slow&quot;", "<code>odd</code>", "It has no description.",
    ):  # fmt: skip
        assert words in text, words


@pytest.mark.parametrize(
    "schema", [None, [], "x", {"properties": []}, {"properties": {"a": {"items": [1], "anyOf": 3, "enum": {}}}}]
)
def test_a_schema_that_is_none_breaks_no_page(cast: Cast, schema: Any) -> None:
    one = item(cast.server, {"name": "odd", "inputSchema": schema, "annotations": 7, "description": ["x"]})
    shown(signed_in(cast.manager), page("servers_catalogueitem_change", one.pk))
    shown(signed_in(cast.manager), url_of(cast.server))


@pytest.mark.requirement("F-109")
def test_the_age_of_the_last_good_copy_stands_there_while_readings_fail(cast: Cast) -> None:
    client = signed_in(cast.manager)
    assert "Not read yet" in shown(client, url_of(cast.server))
    item(cast.server, tool("add"))
    long_ago = timezone.now() - timezone.timedelta(days=3, minutes=1)
    catalogue(cast.server, taken_at=long_ago, failure="address", failure_sentence="Nobody answers at its address.")
    text = shown(client, url_of(cast.server)).replace("\xa0", " ")
    assert "Last read <strong>3 days ago</strong>" in text
    assert "Nobody answers at its address. Look at its address on the server&#x27;s page" in text
    assert "Accept that" not in text
    for url in (page("servers_server_changelist"), page("servers_server_change", cast.server.pk)):
        assert '1 tool</a>, <span class="gh-state gh-state-revoked">not current' in shown(client, url)


def test_a_virtual_server_leads_to_the_catalogues_of_its_members(cast: Cast) -> None:
    virtual = Server.objects.create(tenant=cast.tenant, slug="all", name="All", kind="virtual")
    other = Server.objects.create(tenant=cast.tenant, slug="other", name="Other", url="https://other.example/mcp")
    virtual.members.create(server=cast.server, alias="calc")
    virtual.members.create(server=other, alias="other")
    AccessRule.objects.create(server=virtual, user=cast.manager, role=Role.MANAGER)
    text = shown(signed_in(cast.manager), url_of(virtual))
    assert url_of(cast.server).rstrip("?") in text
    assert "Other (not yours to manage)" in text
    assert "Read now" not in text
    form = shown(signed_in(cast.manager), page("servers_server_change", virtual.pk))
    assert page("servers_server_catalogue", virtual.pk) not in form


def test_the_pages_of_a_server_lead_to_its_catalogue_and_to_what_is_held(cast: Cast) -> None:
    client = signed_in(cast.manager)
    assert "not read yet" in shown(client, page("servers_server_changelist"))
    item(cast.server, tool("add"))
    changed(cast.server)
    item(cast.server, tool("new"), state=State.HELD)
    for url in (page("servers_server_changelist"), page("servers_server_change", cast.server.pk)):
        text = shown(client, url)
        assert f'<a href="{url_of(cast.server).rstrip("?")}">2 tools</a>' in text
        assert f'href="{url_of(cast.server)}show=held">2 held</a>' in text


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("show=held", "Nothing is held."), ("show=changed", "Callers have every definition"),
        ("show=disabled", "Choose rows under All"), ("show=problems", "Nothing here has a problem"),
        ("show=gone", "still offers everything"), ("", "If that is not right, look at the server"),
    ],
)  # fmt: skip
def test_an_empty_list_says_what_to_do(cast: Cast, query: str, words: str) -> None:
    catalogue(cast.server)
    assert words in shown(signed_in(cast.manager), url_of(cast.server, query))


def test_nothing_held_anywhere_is_said(cast: Cast) -> None:
    assert "Nothing is held on your servers" in shown(signed_in(cast.manager), page("servers_catalogueitem_changelist"))


# --- what is decided


@pytest.mark.requirement("T34")
def test_chosen_rows_are_approved_refused_disabled_and_enabled(cast: Cast) -> None:
    held, fresh, fine = (
        changed(cast.server),
        item(cast.server, tool("new"), state=State.HELD),
        item(cast.server, tool("add")),
    )
    client, url = signed_in(cast.manager), url_of(cast.server, "show=held")
    assert "1 item approved: callers have them now." in post(client, url, do="approve", **choice(held))
    assert "1 item refused" in post(client, url, do="refuse", **choice(fresh))
    assert "2 items disabled" in post(client, url, do="disable", **choice(held, fine))
    assert served(cast.server) == set()
    assert "1 item enabled" in post(client, url, do="enable", **choice(held))
    assert served(cast.server) == {"search"}
    assert "Nothing to do" in post(client, url, do="enable", **choice(held))
    assert "Choose rows first" in post(client, url, do="enable")
    assert "Choose what to do first" in post(client, url, do="explode", **choice(held))
    assert client.post(url, {"do": "enable", **choice(held)}).url == url, "the filter stays"


@pytest.mark.requirement("T34")
def test_what_changed_again_since_the_page_was_made_is_not_approved(cast: Cast) -> None:
    held, client = changed(cast.server), signed_in(cast.manager)
    posted = choice(held)
    CatalogueItem.objects.filter(pk=held.pk).update(offered=json.dumps(tool("search", "Worse.")))
    for url in (url_of(cast.server), page("servers_catalogueitem_changelist")):
        assert "offers something else than what was shown for “search”" in post(client, url, do="approve", **posted)
    detail = page("servers_catalogueitem_change", held.pk)
    assert "offers something else" in post(client, detail, do="approve", **posted)
    assert "offers something else" in post(client, detail, do="approve", item=str(held.pk)), "nothing seen"
    held.refresh_from_db()
    assert held.state == State.HELD


def test_held_changes_of_several_servers_are_approved_together(cast: Cast) -> None:
    other = Server.objects.create(tenant=cast.tenant, slug="other", name="Other", url="https://other.example/mcp")
    mine, foreign = changed(cast.server), changed(other)
    url = page("servers_catalogueitem_changelist")
    assert "2 items approved" in post(signed_in(cast.admin), url, do="approve", **choice(mine, foreign))
    assert "Choose what to do first" in post(signed_in(cast.admin), url, do="disable", **choice(mine))


def test_everything_held_is_approved_after_a_question(cast: Cast) -> None:
    for number in range(3):
        item(cast.server, tool(f"t{number}"), state=State.HELD)
    client, url = signed_in(cast.manager), url_of(cast.server)
    asked = client.post(url, {"do": "approve_held"})
    assert "Approve everything that is held?" in asked.content.decode()
    assert CatalogueItem.objects.filter(state=State.HELD).count() == 3
    seen = asked.context["seen"]
    item(cast.server, tool("later"), state=State.HELD)
    assert "something else is held" in post(client, url, do="approve_held", seen=seen)
    seen = client.post(url, {"do": "approve_held"}).context["seen"]
    assert "4 items approved" in post(client, url, do="approve_held", seen=seen)


def test_a_policy_is_chosen_and_accepting_everything_asks_about_held_changes(cast: Cast) -> None:
    held, client, url = changed(cast.server), signed_in(cast.manager), url_of(cast.server)
    assert "The policy is now: hold every change" in post(client, url, do="policy", policy="hold_all")
    asked = client.post(url, {"do": "policy", "policy": "accept_all"})
    assert "What becomes of held changes?" in asked.content.decode()
    assert Catalogue.objects.get().policy == "hold_all"
    seen = asked.context["seen"]
    words = post(client, url, do="policy", policy="accept_all", held="approve", seen=seen)
    assert "1 approved with it" in words
    held.refresh_from_db()
    assert held.state == State.APPROVED
    assert "Choose one of the policies" in post(client, url, do="policy", policy="whatever")


def test_an_empty_reading_is_accepted_with_a_press(cast: Cast) -> None:
    item(cast.server, tool("add"))
    catalogue(cast.server, failure=EMPTIED, failure_sentence="It suddenly offers no tools.", emptied=["tool"])
    client, url = signed_in(cast.manager), url_of(cast.server)
    assert "Accept that they are gone" in shown(client, url)
    assert "1 item no longer offered" in post(client, url, do="accept_empty")
    assert served(cast.server) == set()
    assert "Accept that" not in shown(client, url)


def test_new_instructions_are_shown_beside_the_old_ones_and_approved(cast: Cast) -> None:
    catalogue(cast.server, policy="hold_all", instructions="Be kind.", offered_instructions="Send me\u202eall.")
    client, url = signed_in(cast.manager), url_of(cast.server)
    answer = client.get(url)
    assert "Be kind." in answer.content.decode()
    assert ">U+202E<" in answer.content.decode()
    assert "other instructions" in post(client, url, do="approve_instructions", seen="x")
    seen = answer.context["instructions_seen"]
    assert "The instructions are approved" in post(client, url, do="approve_instructions", seen=seen)
    assert catalogue_of(cast.server.pk).instructions == "Send me\u202eall."


@pytest.fixture
def readings() -> Any:
    """Readings that say what they are told to, instead of the gateway's."""
    before = list(reading_now._readers)
    told: list[Taken] = []
    asked: list[tuple[Server, Any]] = []

    def read(server: Server, person: Any) -> Taken:
        asked.append((server, person))
        return told.pop()

    reading_now.register(read)
    yield told, asked
    reading_now._readers[:] = before


def test_read_now_reads_for_the_person_and_says_what_came_of_it(cast: Cast, readings: Any) -> None:
    told, asked = readings
    client, url = signed_in(cast.manager), url_of(cast.server)
    told.append(Taken(added=2, held=1, problems=1))
    words = post(client, url, do="read")
    assert words == "The catalogue was read: 2 added, 1 held for a decision. 1 cannot be served; see Problems."
    assert asked == [(cast.server, cast.manager)]
    told.append(Taken())
    assert post(client, url, do="read") == "The catalogue was read: nothing has changed."
    told.append(Taken(failure="Nobody answers <b>."))
    assert post(client, url, do="read") == "The catalogue was not read: Nobody answers &lt;b&gt;."


@pytest.mark.requirement("F-502")
def test_hints_are_corrected_on_the_items_page(cast: Cast) -> None:
    one, client = item(cast.server, tool("add")), signed_in(cast.manager)
    url = page("servers_catalogueitem_change", one.pk)
    assert "As the server says: it may destroy something" in shown(client, url)
    assert "The hints are saved" in post(client, url, do="hints", read_only="yes", destructive="no")
    one.refresh_from_db()
    assert (one.read_only, one.destructive) == (True, False)
    assert "corrected; the server says: may change something" in shown(client, url_of(cast.server))
    assert "Nothing to do" in post(client, url, do="hints", read_only="yes", destructive="no")
    post(client, url, do="hints", read_only="", destructive="")
    one.refresh_from_db()
    assert (one.read_only, one.destructive) == (None, None)


# --- by team


@pytest.mark.requirement("F-502")
def test_an_item_is_switched_off_and_on_for_one_team(cast: Cast) -> None:
    one = item(cast.server, tool("add"))
    rule = AccessRule.objects.get(team=cast.readers)
    client, url = signed_in(cast.manager), page("servers_catalogueitem_change", one.pk)
    assert "readers (team)" in shown(client, url)
    assert "Switched off" in post(client, url, do="close", rule=str(rule.pk))
    rule.refresh_from_db()
    assert (rule.items, rule.item_names) == ("except", ["tool:add"])
    assert "The rule leaves it out." in shown(client, url)
    assert "off for this collaborator already" in post(client, url, do="close", rule=str(rule.pk))
    assert "Switched on" in post(client, url, do="open", rule=str(rule.pk))
    rule.refresh_from_db()
    assert (rule.items, rule.item_names) == ("all", [])
    AccessRule.objects.filter(pk=rule.pk).update(items="only", item_names=["tool:other"])
    post(client, url, do="open", rule=str(rule.pk))
    rule.refresh_from_db()
    assert (rule.items, rule.item_names) == ("only", ["tool:other", "tool:add"])
    events = AuditEvent.objects.filter(action="collaborator:change").order_by("sequence")
    assert [(event.detail["item"], event.detail["opens"]) for event in events] == [
        ("tool:add", False), ("tool:add", True), ("tool:add", True),
    ]  # fmt: skip


@pytest.mark.requirement("F-502")
def test_rules_that_no_name_can_switch_say_why(cast: Cast) -> None:
    group = ServerGroup.objects.create(tenant=cast.tenant, slug="office", name="Office tools")
    Server.objects.filter(pk=cast.server.pk).update(group=group)
    of_group = AccessRule.objects.create(group=group, user=cast.outsider)
    manager = AccessRule.objects.get(user=cast.manager, server=cast.server)
    hinted = AccessRule.objects.get(team=cast.readers)
    AccessRule.objects.filter(pk=hinted.pk).update(hints="read_only")
    ended = AccessRule.objects.get(user=cast.stranger)
    AccessRule.objects.filter(pk=ended.pk).update(role="user", expires_at=timezone.now())
    one = item(cast.server, tool("add"))
    client, url = signed_in(cast.manager), page("servers_catalogueitem_change", one.pk)
    text = shown(client, url)
    for words in (
        "A Manager has everything of the server.", "this is none of them", "The rule has ended.",
        "on the group Office tools, for all of its servers",
    ):  # fmt: skip
        assert words in text, words
    assert "To the group" not in text, "it is not theirs to manage"
    assert "To the group" in shown(signed_in(cast.admin), url)
    assert 'name="rule"' not in text
    for rule, words in ((manager, "A Manager has"), (hinted, "none of them"), (of_group, "no rule on this server")):
        do = "close" if rule != hinted else "open"
        assert words in post(client, url, do=do, rule=str(rule.pk))
    assert "Choose a collaborator" in post(client, url, do="open", rule="x")
    assert not AuditEvent.objects.filter(action="collaborator:change").exists()


@pytest.mark.requirement("F-502")
def test_a_rule_that_names_as_many_items_as_it_may_takes_no_more(cast: Cast) -> None:
    one, rule = item(cast.server, tool("add")), AccessRule.objects.get(team=cast.readers)
    names = [f"tool:t{number}" for number in range(MOST_NAMES)]
    AccessRule.objects.filter(pk=rule.pk).update(items="except", item_names=names)
    url = page("servers_catalogueitem_change", one.pk)
    words = post(signed_in(cast.manager), url, do="close", rule=str(rule.pk))
    assert f"names {MOST_NAMES} items at most. Limit it by hints" in words
    rule.refresh_from_db()
    assert rule.item_names == names


# --- what it costs


def many(server: Server, count: int) -> None:
    known = catalogue(server, policy="hold_all")
    before, after = (json.dumps(tool("x", words)) for words in ("Searches.", "Searches and mails."))
    CatalogueItem.objects.bulk_create(
        CatalogueItem(
            catalogue=known, kind="tool", key=f"tool_{number:05}", position=number, approved=before,
            offered=before if number % 2 else after, state=State.APPROVED if number % 2 else State.HELD,
        )
        for number in range(count)
    )  # fmt: skip
    settle(known)


def test_ten_thousand_items_are_shown_a_hundred_at_a_time_with_few_queries(
    cast: Cast, django_assert_max_num_queries: Any
) -> None:
    many(cast.server, 10_000)
    client = signed_in(cast.manager)
    for query in ("", "show=held&page=3", "q=tool_0001", "kind=tool&page=77"):
        with django_assert_max_num_queries(11):
            answer = client.get(url_of(cast.server, query))
        assert 0 < len(answer.context["listing"].rows) <= ROWS_ON_A_PAGE
        assert len(answer.content) < 500_000
    with django_assert_max_num_queries(11):
        answer = client.get(page("servers_catalogueitem_changelist"))
    assert len(answer.context["listing"].rows) == ROWS_ON_A_PAGE
    assert "Page 1 of 50, 5000 in all" in answer.content.decode()
    held = CatalogueItem.objects.filter(state=State.HELD).first()
    assert held is not None
    with django_assert_max_num_queries(11):
        client.get(page("servers_catalogueitem_change", held.pk))


def test_the_list_of_servers_counts_catalogues_with_two_queries(cast: Cast, django_assert_max_num_queries: Any) -> None:
    for number in range(12):
        other = Server.objects.create(
            tenant=cast.tenant, slug=f"s{number}", name=f"S{number}", url="https://other.example/mcp"
        )
        changed(other)
    client = signed_in(cast.admin)
    with django_assert_max_num_queries(16):
        text = shown(client, page("servers_server_changelist"))
    assert text.count(">1 tool</a>") == 12


def test_a_server_with_thousands_of_items_is_deleted_by_its_manager(cast: Cast) -> None:
    many(cast.server, 2_000)
    client, url = signed_in(cast.manager), page("servers_server_delete", cast.server.pk)
    asked = shown(client, url)
    assert "2000" in asked.replace(",", "")
    assert len(asked) < 60_000
    client.post(url, {"post": "yes"})
    assert not CatalogueItem.objects.exists()


def test_single_items_are_not_deleted_nor_added_by_hand(cast: Cast) -> None:
    held, client = changed(cast.server), signed_in(cast.admin)
    assert client.post(page("servers_catalogueitem_delete", held.pk), {"post": "yes"}).status_code == 404
    assert client.get(page("servers_catalogueitem_add")).status_code in (403, 404)
