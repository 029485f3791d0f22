"""Virtual servers in the admin: adding one, its members, what each shows, preview, and what a member's end ends."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from authflows.inbound.api_keys import create_key
from authflows.inbound.virtual_accounts import create_virtual_account
from servers.items import ItemKind
from servers.models import (
    AccessRule,
    AuditEvent,
    AuthConfig,
    Catalogue,
    CatalogueItem,
    Items,
    Membership,
    Role,
    Server,
    ServerGroup,
    StoredSecret,
)
from servers.models.virtual import VirtualMember, VirtualSelection
from servers.virtual.actors import Actor
from servers.virtual.arrangement import arrangement_of
from servers.virtual.facts import Selection
from servers.virtual.saving import present, save
from servers.virtual.wanted import Wanted
from tests.conftest import Cast
from tests.servers.test_admin_access import page, signed_in
from tests.servers.virtual.test_saving import virtual_in
from tests.support.offering import offer, offering

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-605")]
TOOL = ItemKind.TOOL


@pytest.fixture
def wiki(cast: Cast) -> Server:
    server = offering(cast.tenant, "wiki", tools=["search", "read"], resources=["file:///a"])
    AccessRule.objects.create(server=server, user=cast.manager, role=Role.USER)
    return server


@pytest.fixture
def tracker(cast: Cast) -> Server:
    return offering(cast.tenant, "tracker", tools=["search", "create"], method=AuthConfig.Method.OAUTH2)


@pytest.fixture
def toolbox(cast: Cast, wiki: Server, tracker: Server) -> Server:
    """The manager's, of a member that they may use and of one that they may not."""
    server = virtual_in(cast.tenant)
    AccessRule.objects.create(server=server, user=cast.manager, role=Role.MANAGER)
    save(server, [Wanted(wiki.pk), Wanted(tracker.pk)], actor=Actor.of(cast.admin))
    return server


def inlines(client: Client, url: str) -> dict[str, Any]:
    """What the collaborators' rows of a page have to say when nothing is changed in them."""
    forms = client.get(url).context["inline_admin_formsets"]
    return {
        f"{one.formset.prefix}-{name}": value
        for one in forms
        for name, value in (("TOTAL_FORMS", "0"), ("INITIAL_FORMS", "0"))
    }


def member_url(virtual: Server, server: Server) -> str:
    member = VirtualMember.objects.get(virtual=virtual, server=server)
    return page("servers_server_member", virtual.pk, member.pk)


def members_url(virtual: Server) -> str:
    return page("servers_server_members", virtual.pk)


def text_of(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def tokens(answer: Any) -> dict[str, str]:
    return {str(line.key): line.token for line in answer.context["lines"]}


def names(virtual: Server) -> list[str]:
    return [entry.name for entry in arrangement_of(virtual.pk, virtual=True).entries.get(TOOL, ())]


# --- adding and changing


def test_a_virtual_server_is_added_beside_the_others(cast: Cast, wiki: Server, tracker: Server) -> None:
    client = signed_in(cast.admin)
    url = page("servers_server_add_virtual")
    listed = client.get(page("servers_server_changelist")).content.decode()
    assert listed.index("Add MCP Server") < listed.index(url) < listed.index("Add virtual server")
    form = client.get(url).content.decode()
    assert "<h1>Add virtual server</h1>" in form
    for absent in ("Endpoint URL", "Authentication type", "Test connection", "custom CA"):
        assert absent not in form
    posted = {
        "tenant": cast.tenant.pk, "name": "Toolbox", "slug": "toolbox", "description": "Everything", "enabled": "on",
        "members": [wiki.pk, tracker.pk], "list_unconnected": "on", **inlines(client, url),
    }  # fmt: skip
    answer = client.post(url, posted)
    made = Server.objects.get(slug="toolbox")
    assert answer.url == members_url(made)  # type: ignore[attr-defined]
    assert (made.kind, made.url, made.auth_config.method, made.list_unconnected) == ("virtual", "", "none", True)
    assert sorted(names(made)) == ["tracker__create", "tracker__search", "wiki__read", "wiki__search"]
    assert made.access_rules.get().user == cast.admin, "who makes it manages it"
    actions = set(AuditEvent.objects.values_list("action", flat=True))
    assert actions == {"server:create", "server:change_members", "collaborator:add"}


def test_without_a_member_none_is_made(cast: Cast, wiki: Server) -> None:
    client, url = signed_in(cast.admin), page("servers_server_add_virtual")
    posted = {"tenant": cast.tenant.pk, "name": "Toolbox", "slug": "toolbox", "enabled": "on", **inlines(client, url)}
    assert "A virtual server needs at least one member." in client.post(url, posted).content.decode()
    assert not Server.objects.filter(slug="toolbox").exists()


def test_who_may_add_servers_adds_virtual_ones(cast: Cast, wiki: Server) -> None:
    url = page("servers_server_add_virtual")
    assert signed_in(cast.manager).get(url).status_code == 403
    group = ServerGroup.objects.create(tenant=cast.tenant, slug="team", name="Team")
    AccessRule.objects.create(group=group, user=cast.manager, role=Role.MANAGER)
    client = signed_in(cast.manager)
    form = client.get(url).content.decode()
    assert "Wiki (wiki)" in form
    assert "Tracker" not in form, "a server that they may not use"
    posted = {"name": "Toolbox", "slug": "toolbox", "members": [wiki.pk], "enabled": "on", **inlines(client, url)}
    assert client.post(url, posted).status_code == 200, "only to their group"
    assert client.post(url, {**posted, "group": group.pk}).status_code == 302
    assert Server.objects.get(slug="toolbox").group == group


@pytest.mark.requirement("F-107")
def test_members_of_another_tenant_are_refused_when_it_is_made(cast: Cast, wiki: Server) -> None:
    far = offering(cast.other_tenant, "far")
    client, url = signed_in(cast.admin), page("servers_server_add_virtual")
    posted = {
        "tenant": cast.tenant.pk, "name": "Toolbox", "slug": "toolbox", "members": [wiki.pk, far.pk],
        **inlines(client, url),
    }  # fmt: skip
    assert "Of another tenant: Far." in client.post(url, posted).content.decode()
    assert not Server.objects.filter(slug="toolbox").exists()


def test_its_page_changes_what_it_is_and_leads_to_its_members(cast: Cast, toolbox: Server) -> None:
    client, url = signed_in(cast.manager), page("servers_server_change", toolbox.pk)
    form = client.get(url).content.decode()
    for shown in (toolbox.mcp_url, members_url(toolbox), page("servers_server_preview", toolbox.pk), "Wiki"):
        assert shown in form
    for absent in ("Endpoint URL", "Authentication type", "Test connection"):
        assert absent not in form
    formsets = client.get(url).context["inline_admin_formsets"]
    posted = {"name": "Box", "slug": "toolbox", "description": "", "enabled": "on"}
    rule = AccessRule.objects.get(server=toolbox)
    for one in formsets:
        prefix, initial = one.formset.prefix, one.formset.initial_form_count()
        posted |= {f"{prefix}-TOTAL_FORMS": str(initial), f"{prefix}-INITIAL_FORMS": str(initial)}
        if initial:
            posted |= {f"{prefix}-0-id": str(rule.pk), f"{prefix}-0-server": str(toolbox.pk)}
            posted |= {f"{prefix}-0-{name}": str(getattr(rule, name) or "") for name in ("role", "items", "hints")}
    answer = client.post(url, posted)
    assert answer.status_code == 302, answer.context["errors"]
    toolbox.refresh_from_db()
    assert (toolbox.name, toolbox.list_unconnected, toolbox.kind) == ("Box", False, "virtual")
    assert len(present(toolbox)) == 2, "members stay"


# --- the page of members


def test_members_are_ordered_renamed_added_and_removed(cast: Cast, toolbox: Server, wiki: Server) -> None:
    client, url = signed_in(cast.manager), members_url(toolbox)
    first, second = present(toolbox)
    posted = {
        "do": "save", f"order-{first.server_id}": "2", f"alias-{first.server_id}": "pages",
        f"order-{second.server_id}": "1", f"alias-{second.server_id}": "tracker",
    }  # fmt: skip
    assert client.post(url, posted).status_code == 302
    assert names(toolbox) == ["tracker__search", "tracker__create", "pages__search", "pages__read"]
    assert client.post(url, {"do": "add", "server": [cast.server.pk]}).status_code == 302
    assert [one.alias for one in present(toolbox)] == ["tracker", "pages", "calculator"]
    posted = {"do": "save", f"alias-{second.server_id}": "tracker", f"remove-{second.server_id}": "on"}
    assert client.post(url, posted).status_code == 302
    assert [one.alias for one in present(toolbox)] == ["pages", "calculator"]


def test_a_refused_save_keeps_what_was_typed_and_shows_both_items(cast: Cast, toolbox: Server) -> None:
    client, url = signed_in(cast.admin), members_url(toolbox)
    wiki, tracker = present(toolbox)
    posted = {
        "do": "save", f"order-{wiki.server_id}": "1", f"alias-{wiki.server_id}": "same",
        f"order-{tracker.server_id}": "2", f"alias-{tracker.server_id}": "same",
    }  # fmt: skip
    answer = client.post(url, posted)
    assert answer.status_code == 200
    assert "Wiki and Tracker both have the prefix “same”: give one of them another one." in text_of(answer)
    assert [row.alias for row in answer.context["rows"]] == ["same", "same"]
    assert [one.alias for one in present(toolbox)] == ["wiki", "tracker"]


def test_somebody_who_removed_everything_is_told(cast: Cast, toolbox: Server) -> None:
    posted = {"do": "save"}
    for one in present(toolbox):
        posted |= {f"alias-{one.server_id}": "x", f"remove-{one.server_id}": "on"}
    answer = signed_in(cast.admin).post(members_url(toolbox), posted)
    assert "needs at least one member" in text_of(answer)
    assert len(present(toolbox)) == 2


def test_only_servers_that_the_manager_may_use_are_offered(cast: Cast, toolbox: Server) -> None:
    offering(cast.tenant, "secret-plans")
    answer = signed_in(cast.manager).get(members_url(toolbox))
    assert [server.slug for server in answer.context["offered"]] == ["calculator"]
    assert "secret-plans" not in text_of(answer)
    answer = signed_in(cast.manager).post(
        members_url(toolbox), {"do": "add", "server": [Server.objects.get(slug="secret-plans").pk, "nonsense"]}
    )
    assert "Choose members among the servers of this tenant that you may use yourself." in text_of(answer)


def test_servers_are_found_by_name_where_there_are_many(cast: Cast, toolbox: Server) -> None:
    for number in range(120):
        Server.objects.create(tenant=cast.tenant, slug=f"s-{number}", name=f"Server {number}", url="https://x.example/")
    client = signed_in(cast.admin)
    answer = client.get(members_url(toolbox))
    assert (len(answer.context["offered"]), answer.context["not_offered"]) == (100, 21)
    answer = client.get(members_url(toolbox), {"q": "server 11"})
    assert len(answer.context["offered"]) == 11


@pytest.mark.parametrize("who", ["member", "outsider", "stranger"])
def test_others_do_not_see_these_pages(cast: Cast, toolbox: Server, wiki: Server, who: str) -> None:
    client = signed_in(getattr(cast, who))
    for url in (members_url(toolbox), member_url(toolbox, wiki), page("servers_server_preview", toolbox.pk)):
        assert client.get(url).status_code == 302, "to the sign-in, which refuses"


def test_a_manager_of_another_server_does_not_find_it(cast: Cast, toolbox: Server, wiki: Server) -> None:
    AccessRule.objects.filter(server=toolbox).delete()
    client = signed_in(cast.manager)
    for url in (members_url(toolbox), member_url(toolbox, wiki), page("servers_server_preview", toolbox.pk)):
        assert client.get(url).status_code == 404
        assert client.post(url, {"do": "save"}).status_code in (404, 405)
    assert len(present(toolbox)) == 2


def test_a_server_of_its_own_has_no_such_pages(cast: Cast, toolbox: Server, wiki: Server) -> None:
    client = signed_in(cast.admin)
    assert client.get(members_url(wiki)).status_code == 404
    assert client.get(page("servers_server_preview", wiki.pk)).status_code == 404
    other = virtual_in(cast.tenant, "other-box")
    member = VirtualMember.objects.get(server=wiki)
    assert client.get(page("servers_server_member", other.pk, member.pk)).status_code == 404


# --- what one member shows


def test_items_are_chosen_named_and_described(cast: Cast, toolbox: Server, wiki: Server) -> None:
    client, url = signed_in(cast.manager), member_url(toolbox, wiki)
    token = tokens(client.get(url))
    posted = {
        "do": "items", f"about-{token['search']}": "Finds\r\npages.", f"name-{token['search']}": "find_page",
        f"shown-{token['search']}": "on", f"about-{token['read']}": "", f"name-{token['read']}": "",
        f"shown-{token['file:///a']}": "on", f"about-{token['file:///a']}": "",
    }  # fmt: skip
    assert client.post(url, posted).status_code == 302
    assert present(toolbox)[0].selections == {
        (TOOL, "search"): Selection(True, "find_page", "Finds\npages."),
        (TOOL, "read"): Selection(False),
    }
    assert names(toolbox)[0] == "find_page"


@pytest.mark.requirement("T35")
def test_a_name_that_another_item_has_is_refused_and_stays_in_the_field(
    cast: Cast, toolbox: Server, wiki: Server
) -> None:
    client, url = signed_in(cast.admin), member_url(toolbox, wiki)
    token = tokens(client.get(url))["search"]
    posted = {"do": "items", f"shown-{token}": "on", f"name-{token}": "tracker__create", f"about-{token}": ""}
    answer = client.post(url, posted)
    assert (
        "The tool “search” of Wiki and the tool “create” of Tracker would both be called “tracker__create”. Give one "
        "of the members another prefix or one of them a name of its own, or leave one out."
    ) in text_of(answer)
    assert 'value="tracker__create"' in text_of(answer)
    assert present(toolbox)[0].selections == {}


def test_from_everything_to_the_chosen_and_back_keeps_what_is_shown(cast: Cast, toolbox: Server, wiki: Server) -> None:
    client, url = signed_in(cast.manager), member_url(toolbox, wiki)
    settings = {"do": "settings", "tools": "chosen", "prompts": "all", "resources": "all", "headers-0-name": ""}
    assert client.post(url, settings).status_code == 302
    offer(wiki, tools=["new"])
    assert "wiki__new" not in names(toolbox)
    assert names(toolbox)[:2] == ["wiki__search", "wiki__read"]
    assert client.post(url, {**settings, "tools": "all"}).status_code == 302
    assert names(toolbox)[:3] == ["wiki__search", "wiki__read", "wiki__new"]
    assert not VirtualSelection.objects.exists()


def test_the_credential_of_a_member_goes_in_and_never_comes_out(cast: Cast, toolbox: Server, wiki: Server) -> None:
    client, url = signed_in(cast.manager), member_url(toolbox, wiki)
    posted = {
        "do": "settings", "tools": "all", "prompts": "all", "resources": "all",
        "headers-0-name": "Authorization", "headers-0-value": "Bearer canary-credential",
    }  # fmt: skip
    assert client.post(url, posted).status_code == 302
    row = VirtualMember.objects.get(server=wiki)
    assert row.header_templates() == [("Authorization", "secret://default:toolbox:wiki-authorization")]
    shown = text_of(client.get(url))
    assert "canary-credential" not in shown
    assert "secret://default:toolbox:wiki-authorization" in shown
    kept = {**posted, "headers-0-value": "", "headers-0-stored": "Authorization", "tools": "chosen"}
    assert client.post(url, kept).status_code == 302
    assert VirtualMember.objects.get(server=wiki).credential == row.credential
    secrets = text_of(signed_in(cast.admin).get(page("servers_storedsecret_changelist")))
    assert "Toolbox" in secrets, "where it is used"
    secret = StoredSecret.objects.get()
    signed_in(cast.admin).post(page("servers_storedsecret_delete", secret.pk), {"post": "yes"})
    assert StoredSecret.objects.exists(), "it is used"
    assert client.post(url, {**kept, "headers-0-remove": "on"}).status_code == 302
    assert VirtualMember.objects.get(server=wiki).credential == []


def test_references_are_for_admins_of_the_tenant(cast: Cast, toolbox: Server, wiki: Server) -> None:
    posted = {
        "do": "settings", "tools": "all", "prompts": "all", "resources": "all",
        "headers-0-name": "X-Key", "headers-0-value": "env://TEST_UPSTREAM_TOKEN",
    }  # fmt: skip
    answer = signed_in(cast.manager).post(member_url(toolbox, wiki), posted)
    assert "only a tenant admin may use this reference" in text_of(answer)
    assert signed_in(cast.admin).post(member_url(toolbox, wiki), posted).status_code == 302
    assert VirtualMember.objects.get(server=wiki).header_templates() == [("X-Key", "env://TEST_UPSTREAM_TOKEN")]


def test_a_credential_for_another_address_has_to_be_entered_again(cast: Cast, toolbox: Server, wiki: Server) -> None:
    client, url = signed_in(cast.manager), member_url(toolbox, wiki)
    posted = {
        "do": "settings", "tools": "all", "prompts": "all", "resources": "all",
        "headers-0-name": "X-Key", "headers-0-value": "one",
    }  # fmt: skip
    client.post(url, posted)
    Server.objects.filter(pk=wiki.pk).update(url="https://moved.example/mcp")
    assert "it is not sent there" in text_of(client.get(url))
    kept = {**posted, "headers-0-value": "", "headers-0-stored": "X-Key", "headers-0-name": "X-Other"}
    assert "Enter the value of X-Other again" in text_of(client.post(url, kept))
    assert client.post(url, {**kept, "headers-0-value": "two"}).status_code == 302
    assert VirtualMember.objects.get(server=wiki).credential_origin == "https://moved.example"


def test_what_a_member_shows_is_not_for_those_who_may_not_use_it(cast: Cast, toolbox: Server, tracker: Server) -> None:
    client, url = signed_in(cast.manager), member_url(toolbox, tracker)
    answer = client.get(url)
    assert "You may not use this member yourself" in text_of(answer)
    assert "create" not in text_of(answer).partition("<h1>")[2]
    assert client.post(url, {"do": "show_none"}).status_code == 403
    assert names(toolbox)[-1] == "tracker__create"


def test_items_that_the_manager_may_not_use_are_not_listed_and_stay(cast: Cast, toolbox: Server, wiki: Server) -> None:
    rule = AccessRule.objects.get(server=wiki, user=cast.manager)
    rule.items, rule.item_names = Items.ONLY, ["tool:search"]
    rule.save()
    client, url = signed_in(cast.manager), member_url(toolbox, wiki)
    answer = client.get(url)
    assert list(tokens(answer)) == ["search"]
    client.post(url, {"do": "show_none"})
    assert names(toolbox)[0] == "wiki__read"


def test_a_thousand_tools_are_paged_searched_and_chosen_at_once(
    cast: Cast, toolbox: Server, django_assert_max_num_queries: Any
) -> None:
    big = offering(cast.tenant, "big", tools=[f"tool_{number}" for number in range(1000)])
    save(toolbox, [*present(toolbox), Wanted(big.pk)], actor=Actor.of(cast.admin))
    client, url = signed_in(cast.admin), member_url(toolbox, big)
    client.get(url)
    with django_assert_max_num_queries(20):
        answer = client.get(url, {"p": "3"})
    assert len(answer.context["lines"]) == 200
    assert answer.context["lines"][0].key == "tool_400"
    assert "page 3 of 5" in text_of(answer)
    posted = {"do": "items"}
    for token in tokens(answer).values():
        posted |= {f"name-{token}": "", f"about-{token}": "", f"shown-{token}": "on"}
    assert client.post(f"{url}?p=3", posted).status_code == 302, "a page fits into one posted form"
    answer = client.post(f"{url}?q=tool_99&kind=tool", {"do": "show_none"})
    assert answer.url.endswith("?kind=tool&q=tool_99#items")  # type: ignore[attr-defined]
    shown = names(toolbox)
    assert len(shown) == 4 + 1000 - 11
    assert "big__tool_99" not in shown
    assert "What tool_42 does." in text_of(client.get(url, {"q": "what tool_42 DOES"}))


def test_what_is_no_longer_offered_can_be_taken_back(cast: Cast, toolbox: Server, wiki: Server) -> None:
    chosen = {(TOOL, "search"): Selection(name="find"), (TOOL, "vanished"): Selection(name="old")}
    save(toolbox, [Wanted(wiki.pk, selections=chosen)], actor=Actor.of(cast.admin))
    CatalogueItem.objects.filter(key="search").update(enabled=False)
    Catalogue.objects.get(server=wiki).save()
    client, url = signed_in(cast.admin), member_url(toolbox, wiki)
    answer = client.get(url)
    off = [str(line.key) for line in answer.context["lines"] if not line.served]
    assert off == ["search", "vanished"]
    token = tokens(answer)["vanished"]
    client.post(url, {"do": "items", f"name-{token}": "", f"about-{token}": "", f"shown-{token}": "on"})
    assert list(present(toolbox)[0].selections) == [(TOOL, "search")]


def test_texts_of_members_cannot_act_on_the_page(cast: Cast, toolbox: Server) -> None:
    evil = offering(cast.tenant, "evil", tools=["<script>alert(1)</script>", "a\u202eb"])
    save(toolbox, [*present(toolbox), Wanted(evil.pk)], actor=Actor.of(cast.admin))
    client = signed_in(cast.admin)
    posted = {
        "do": "items",
        **{f"name-{token}": "same" for token in tokens(client.get(member_url(toolbox, evil))).values()},
    }
    posted |= {f"{field}-{name.removeprefix('name-')}": "on" for name in list(posted) for field in ("shown", "about")}
    refused = client.post(member_url(toolbox, evil), posted).content.decode()
    assert "would both be called “same”" in refused
    assert "<script>alert" not in refused
    assert "\u202e" not in refused
    for url in (member_url(toolbox, evil), page("servers_server_preview", toolbox.pk) + "?person=manager"):
        shown = client.get(url).content.decode()
        assert "<script>alert" not in shown
        assert "\u202e" not in shown


# --- preview


def previewed(cast: Cast, virtual: Server, name: str, viewer: Any = None) -> Any:
    return signed_in(viewer or cast.admin).get(page("servers_server_preview", virtual.pk), {"person": name})


def test_a_preview_shows_what_the_person_gets_and_why_not_the_rest(
    cast: Cast, toolbox: Server, wiki: Server, tracker: Server
) -> None:
    AccessRule.objects.create(server=toolbox, team=cast.readers, role=Role.USER)
    AccessRule.objects.create(
        server=wiki, user=cast.member, role=Role.USER, items=Items.EXCEPT, item_names=["tool:read"]
    )
    answer = previewed(cast, toolbox, "member")
    found = answer.context["preview"]
    assert [(one.entry.name, one.member) for one in found.shown] == [("wiki__search", "Wiki"), ("file:///a", "Wiki")]
    assert {(one.key, one.why) for one in found.hidden} == {
        ("read", "the rules that let them use the member are about other items"),
        ("search", "no rule lets them use it: make them, or a team of theirs, a collaborator"),
        ("create", "no rule lets them use it: make them, or a team of theirs, a collaborator"),
    }
    assert "gets 1 tool." in text_of(answer)
    AccessRule.objects.create(server=tracker, user=cast.member, role=Role.USER)
    answer = previewed(cast, toolbox, "member")
    assert "Tracker is not connected to your account yet." in text_of(answer)
    assert len(answer.context["preview"].shown) == 4, "it is listed as something to connect"
    Server.objects.filter(pk=toolbox.pk).update(list_unconnected=False)
    assert len(previewed(cast, toolbox, "member").context["preview"].shown) == 2


def test_a_preview_says_when_the_person_may_not_use_it_at_all(cast: Cast, toolbox: Server) -> None:
    assert "outsider cannot use Toolbox" in text_of(previewed(cast, toolbox, "outsider"))
    for unknown in ("nobody", "stranger", "a\0b"):
        assert "Nobody in this tenant is called" in text_of(previewed(cast, toolbox, unknown))


def test_a_preview_for_a_virtual_account(cast: Cast, toolbox: Server, wiki: Server) -> None:
    account = create_virtual_account(cast.tenant, name="nightly", description="", actor="t")
    for server in (toolbox, wiki):
        AccessRule.objects.create(server=server, user=account.user, role=Role.USER)
    answer = previewed(cast, toolbox, account.user.username)
    assert len(answer.context["preview"].shown) == 3
    assert "default/nightly (virtual account)" in text_of(answer)


def test_a_preview_is_what_the_list_is_made_of(cast: Cast, toolbox: Server, wiki: Server) -> None:
    """Held, disabled and not chosen items are not in the list, and each says why."""
    offer(wiki, tools=["held"], approved="", state=CatalogueItem.State.HELD)
    offer(wiki, tools=["off"], enabled=False)
    one, two = present(toolbox)
    left_out = {(TOOL, "read"): Selection(chosen=False)}
    save(toolbox, [Wanted(one.server_id, "wiki", selections=left_out), two], actor=Actor.of(cast.admin))
    AccessRule.objects.create(server=toolbox, user=cast.admin, role=Role.USER)
    AccessRule.objects.create(server=wiki, user=cast.admin, role=Role.USER)
    hidden = {one.key: one.why for one in previewed(cast, toolbox, "admin").context["preview"].hidden}
    assert "does not serve it" in hidden["held"]
    assert "does not serve it" in hidden["off"]
    assert hidden["read"] == "this virtual server does not show it"
    mine = previewed(cast, toolbox, "admin", viewer=cast.manager).context["preview"].hidden
    assert not {"held", "off"} & {one.key for one in mine}, "held items are for those who manage the member"


def test_rules_of_the_virtual_server_are_about_the_names_that_it_shows(
    cast: Cast, toolbox: Server, wiki: Server
) -> None:
    AccessRule.objects.create(server=wiki, user=cast.member, role=Role.USER)
    AccessRule.objects.create(
        server=toolbox, user=cast.member, role=Role.USER, items=Items.ONLY, item_names=["tool:wiki__read"]
    )
    found = previewed(cast, toolbox, "member").context["preview"]
    assert [one.entry.name for one in found.shown] == ["wiki__read"]
    why = {one.key: one.why for one in found.hidden if one.member == "Wiki"}
    assert why["search"] == "the rules that let them use this virtual server are about other items"


def test_many_tools_come_with_a_hint(cast: Cast, toolbox: Server, wiki: Server) -> None:
    assert "models choose worse" not in text_of(previewed(cast, toolbox, "manager"))
    offer(wiki, tools=[f"t{number}" for number in range(50)])
    assert "52 tools are many: above about 40" in text_of(previewed(cast, toolbox, "manager"))


# --- where members go


def test_a_deletion_of_a_member_says_whose_virtual_servers_lose_what_and_asks(
    cast: Cast, toolbox: Server, wiki: Server
) -> None:
    client, url = signed_in(cast.admin), page("servers_server_delete", wiki.pk)
    line = "The virtual server Toolbox of manager loses 2 tools and 1 resource of Wiki."
    answer = client.get(url)
    assert line in text_of(answer)
    assert "Catalogue item: " not in text_of(answer)
    assert "Nothing was deleted" in text_of(client.post(url, {"post": "yes"}))
    assert Server.objects.filter(pk=wiki.pk).exists()
    assert client.post(url, {"post": "yes", "confirm_ending": "wiki"}).status_code == 302
    assert [one.alias for one in present(toolbox)] == ["tracker"]


def test_the_last_member_is_named_as_such(cast: Cast, toolbox: Server, wiki: Server) -> None:
    save(toolbox, [Wanted(wiki.pk)], actor=Actor.of(cast.admin))
    answer = signed_in(cast.admin).get(page("servers_server_delete", wiki.pk))
    assert "and is left without members." in text_of(answer)


def test_members_are_not_deleted_in_passing(cast: Cast, toolbox: Server, wiki: Server, tracker: Server) -> None:
    client, url = signed_in(cast.admin), page("servers_server_changelist")
    posted = {"action": "delete_selected", "post": "yes"}
    answer = client.post(url, {**posted, "_selected_action": [wiki.pk]}, follow=True)
    assert "Toolbox of manager loses" in text_of(answer)
    assert Server.objects.filter(pk=wiki.pk).exists()
    # With the virtual server itself nobody loses anything more.
    client.post(url, {**posted, "_selected_action": [wiki.pk, toolbox.pk]})
    assert not Server.objects.filter(pk__in=(wiki.pk, toolbox.pk)).exists()


def test_a_virtual_server_is_deleted_with_its_choices_and_no_member(cast: Cast, toolbox: Server) -> None:
    create_key(owner=cast.member, name="laptop", actor="member", servers=[toolbox])
    client, url = signed_in(cast.admin), page("servers_server_delete", toolbox.pk)
    assert "is limited to it" in text_of(client.get(url))
    assert client.post(url, {"post": "yes"}).status_code == 302
    assert not VirtualMember.objects.exists()
    assert Server.objects.filter(slug__in=("wiki", "tracker")).count() == 2


def test_disabling_members_in_the_list_asks_first(cast: Cast, toolbox: Server, wiki: Server) -> None:
    client, url = signed_in(cast.admin), page("servers_server_changelist")
    posted = {"action": "disable", "_selected_action": [wiki.pk]}
    assert "Toolbox of manager loses 2 tools" in text_of(client.post(url, posted))
    wiki.refresh_from_db()
    assert wiki.enabled
    client.post(url, {**posted, "confirmed": "yes"})
    wiki.refresh_from_db()
    assert not wiki.enabled


def test_the_form_of_a_member_asks_before_it_is_switched_off(cast: Cast, toolbox: Server, wiki: Server) -> None:
    client, url = signed_in(cast.admin), page("servers_server_change", wiki.pk)
    AccessRule.objects.filter(server=wiki).delete()
    posted = {
        "name": "Wiki", "slug": "wiki", "url": wiki.url, "method": "none", "connect_timeout": "10",
        "response_timeout": "120", "path": "auto", **inlines(client, url),
    }  # fmt: skip
    answer = client.post(url, posted)
    assert "Virtual servers lose something with this change" in text_of(answer)
    assert "Toolbox of manager loses 2 tools and 1 resource of Wiki." in text_of(answer)
    wiki.refresh_from_db()
    assert wiki.enabled
    assert client.post(url, {**posted, "confirm_ending": "wiki"}).status_code == 302
    wiki.refresh_from_db()
    assert not wiki.enabled


# --- among the other servers


def test_the_list_of_servers_shows_it_as_what_it_is(
    cast: Cast, toolbox: Server, django_assert_max_num_queries: Any
) -> None:
    client, url = signed_in(cast.admin), page("servers_server_changelist")
    shown = text_of(client.get(url))
    assert f'<a href="{members_url(toolbox)}">2 members</a>' in shown
    assert "Test connection of Toolbox" not in shown
    assert "Test connection of Wiki" in shown
    with django_assert_max_num_queries(30) as counted:
        client.get(url)
    few = len(counted)
    assert few
    for number in range(10):
        virtual_in(cast.tenant, f"box-{number}")
    with django_assert_max_num_queries(few):
        client.get(url)


def test_nothing_tests_a_virtual_server(cast: Cast, toolbox: Server) -> None:
    client = signed_in(cast.admin)
    assert client.post(reverse("test-connection", args=[toolbox.pk])).status_code == 404
    posted = {"action": "test_connections", "_selected_action": [toolbox.pk]}
    answer = client.post(page("servers_server_changelist"), posted, follow=True)
    assert "A virtual server has no address of its own: test its members." in text_of(answer)
    toolbox.refresh_from_db()
    assert toolbox.health == "unknown"
    numbers = client.get(page("index")).context["numbers"]
    assert sum(row["count"] for row in numbers["health"]) == 3


def test_the_portal_shows_it_like_any_other_with_its_one_url(cast: Cast, toolbox: Server) -> None:
    AccessRule.objects.create(server=toolbox, user=cast.member, role=Role.USER)
    client = signed_in(cast.member)
    assert toolbox.mcp_url in text_of(client.get("/portal/"))
    shown = text_of(client.get("/portal/servers/default/toolbox/"))
    assert toolbox.mcp_url in shown
    assert "claude mcp add --transport http toolbox" in shown


@pytest.mark.django_db(transaction=True)
def test_the_members_page_takes_few_queries(cast: Cast, toolbox: Server, django_assert_max_num_queries: Any) -> None:
    client = signed_in(cast.admin)
    client.get(members_url(toolbox))
    with django_assert_max_num_queries(20) as counted:
        client.get(members_url(toolbox))
    few = len(counted)
    assert few
    extra = [offering(cast.tenant, f"extra-{number}", tools=["a"]) for number in range(10)]
    save(toolbox, [*present(toolbox), *(Wanted(one.pk) for one in extra)], actor=Actor.of(cast.admin))
    client.get(members_url(toolbox))
    with django_assert_max_num_queries(few):
        client.get(members_url(toolbox))


def test_a_membership_that_ends_takes_the_members_from_the_choice(cast: Cast, toolbox: Server, wiki: Server) -> None:
    AccessRule.objects.filter(server=wiki, user=cast.manager).update(expires_at=timezone.now())
    answer = signed_in(cast.manager).get(member_url(toolbox, wiki))
    assert "You may not use this member yourself" in text_of(answer)
    Membership.objects.filter(user=cast.manager).delete()
    assert signed_in(cast.manager).get(members_url(toolbox)).status_code == 302
