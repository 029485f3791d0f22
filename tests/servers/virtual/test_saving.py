"""Saving the members of a virtual server: who may, what is refused, what is written."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth import get_user_model

from servers import changes
from servers.header_auth import HeaderChoice, uses_of_secrets
from servers.items import ItemKind
from servers.models import AccessRule, AuditEvent, AuthConfig, Membership, Role, Server, StoredSecret, Tenant
from servers.models.virtual import VirtualMember, VirtualSelection
from servers.secrets.resolver import fill
from servers.virtual.actors import Actor
from servers.virtual.arrangement import arrangement_of
from servers.virtual.facts import Selection
from servers.virtual.saving import NotSaved, edit, present, save
from servers.virtual.wanted import Wanted
from tests.conftest import Cast
from tests.support.offering import offer, offering

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-605")]
TOOL, PROMPT, RESOURCE = ItemKind.TOOL, ItemKind.PROMPT, ItemKind.RESOURCE


def virtual_in(tenant: Tenant, slug: str = "toolbox") -> Server:
    server = Server.objects.create(tenant=tenant, slug=slug, name=slug.title(), kind=Server.Kind.VIRTUAL)
    AuthConfig.objects.create(server=server)
    return server


@pytest.fixture
def toolbox(cast: Cast) -> Server:
    return virtual_in(cast.tenant)


@pytest.fixture
def wiki(cast: Cast) -> Server:
    return offering(cast.tenant, "wiki", tools=["search", "read"], resources=["file:///a"])


@pytest.fixture
def tracker(cast: Cast) -> Server:
    return offering(cast.tenant, "issue-tracker", tools=["search", "create"], prompts=["triage"])


@pytest.fixture
def admin(cast: Cast) -> Actor:
    return Actor.of(cast.admin)


def changed(virtual: Server, member: Server, **fields: Any) -> list[Wanted]:
    """The present members, with this change of one."""
    return [replace(one, **fields) if one.server_id == member.pk else one for one in present(virtual)]


def names(virtual: Server, kind: ItemKind = TOOL) -> list[str]:
    return [entry.name for entry in arrangement_of(virtual.pk, virtual=True).entries.get(kind, ())]


def test_members_show_everything_under_their_own_prefix(
    toolbox: Server, wiki: Server, tracker: Server, admin: Actor
) -> None:
    saved = save(toolbox, [Wanted(tracker.pk), Wanted(wiki.pk, alias="w")], actor=admin)
    assert saved.added == ["issue-tracker", "wiki"]
    assert names(toolbox) == ["issue_tracker__search", "issue_tracker__create", "w__search", "w__read"]
    assert names(toolbox, PROMPT) == ["issue_tracker__triage"]
    assert names(toolbox, RESOURCE) == ["file:///a"]


def test_what_was_saved_is_what_is_read_back(toolbox: Server, wiki: Server, tracker: Server, admin: Actor) -> None:
    members = (
        Wanted(
            wiki.pk,
            "wiki",
            tools="chosen",
            resources="chosen",
            selections={(TOOL, "search"): Selection(name="find_page", description="Finds a page.")},
        ),
        Wanted(tracker.pk, "tracker", selections={(TOOL, "create"): Selection(chosen=False)}),
    )
    save(toolbox, members, actor=admin)
    assert present(toolbox) == members
    assert names(toolbox) == ["find_page", "tracker__search"]
    assert save(toolbox, present(toolbox), actor=admin).anything is False


def test_the_order_and_the_prefixes_can_change_places(
    toolbox: Server, wiki: Server, tracker: Server, admin: Actor
) -> None:
    save(toolbox, [Wanted(wiki.pk, "one"), Wanted(tracker.pk, "two")], actor=admin)
    ids = set(VirtualMember.objects.values_list("pk", flat=True))
    saved = save(toolbox, [Wanted(tracker.pk, "one"), Wanted(wiki.pk, "two")], actor=admin)
    assert [(one.server_id, one.alias) for one in present(toolbox)] == [(tracker.pk, "one"), (wiki.pk, "two")]
    assert set(VirtualMember.objects.values_list("pk", flat=True)) == ids, "sessions of members go on"
    assert saved.moved
    assert sorted(saved.changed) == ["issue-tracker", "wiki"]


def test_a_removed_member_takes_its_choices_along(toolbox: Server, wiki: Server, tracker: Server, admin: Actor) -> None:
    chosen = {(TOOL, "search"): Selection(name="find")}
    save(toolbox, [Wanted(wiki.pk, selections=chosen), Wanted(tracker.pk)], actor=admin)
    saved = save(toolbox, [Wanted(tracker.pk)], actor=admin)
    assert saved.removed == ["wiki"]
    assert not VirtualSelection.objects.exists()
    assert names(toolbox) == ["issue_tracker__search", "issue_tracker__create"]


# --- what is refused


def refused(toolbox: Server, members: list[Wanted], actor: Actor) -> list[str]:
    before = present(toolbox)
    with pytest.raises(NotSaved) as error:
        save(toolbox, members, actor=actor)
    assert present(toolbox) == before
    return list(error.value.messages)


def test_a_virtual_server_has_a_member(toolbox: Server, admin: Actor) -> None:
    assert refused(toolbox, [], admin) == ["A virtual server needs at least one member."]


@pytest.mark.requirement("T35")
def test_two_items_of_one_name_are_refused_naming_both_and_what_helps(
    toolbox: Server, wiki: Server, tracker: Server, admin: Actor
) -> None:
    own = {(TOOL, "read"): Selection(name="tracker__create")}
    with pytest.raises(NotSaved) as error:
        save(toolbox, [Wanted(tracker.pk, "tracker"), Wanted(wiki.pk, "wiki", selections=own)], actor=admin)
    (text,) = error.value.messages
    assert text == (
        "The tool “create” of Issue Tracker and the tool “read” of Wiki would both be called “tracker__create”. Give "
        "one of the members another prefix or one of them a name of its own, or leave one out."
    )
    (problem,) = error.value.problems
    assert problem.collision is not None
    assert (problem.member, problem.collision.entry.name) == (wiki.pk, "tracker__create")


@pytest.mark.requirement("T35")
def test_a_member_cannot_take_the_name_of_anothers_tool(toolbox: Server, wiki: Server, admin: Actor) -> None:
    """A member that offers `wiki__search` itself gets its own prefix in front of it."""
    evil = offering(wiki.tenant, "evil", tools=["wiki__search", "search"])
    save(toolbox, [Wanted(evil.pk), Wanted(wiki.pk)], actor=admin)
    assert names(toolbox) == ["evil__wiki__search", "evil__search", "wiki__search", "wiki__read"]
    found = arrangement_of(toolbox.pk, virtual=True).find(TOOL, "wiki__search")
    assert found is not None
    assert found.member.server_id == wiki.pk
    # Without a prefix it could, so that is not saved.
    assert len(refused(toolbox, [Wanted(evil.pk, ""), Wanted(wiki.pk, "wiki")], admin)) == 1


def test_names_that_are_cut_collide_only_when_they_are_equal(toolbox: Server, wiki: Server, admin: Actor) -> None:
    long = "x" * 80
    offer(wiki, tools=[long, f"{long}y"])
    save(toolbox, [Wanted(wiki.pk)], actor=admin)
    cut = names(toolbox)[2]
    assert len(cut) == 64
    assert len(set(names(toolbox))) == 4
    own = {(TOOL, "read"): Selection(name=cut)}
    assert "would both be called" in refused(toolbox, [Wanted(wiki.pk, selections=own)], admin)[0]


def test_an_item_that_is_left_out_takes_no_name(toolbox: Server, wiki: Server, tracker: Server, admin: Actor) -> None:
    without = {(TOOL, "search"): Selection(chosen=False)}
    save(toolbox, [Wanted(wiki.pk, "", selections=without), Wanted(tracker.pk, "t")], actor=admin)
    own = {(TOOL, "create"): Selection(name="search")}
    members = [Wanted(wiki.pk, "", selections=without), Wanted(tracker.pk, "t", selections=own)]
    save(toolbox, members, actor=admin)
    assert names(toolbox) == ["read", "t__search", "search"]


@pytest.mark.parametrize(
    ("aliases", "text"),
    [
        (("a", "a"), "both have the prefix “a”"),
        (("", ""), "both have no prefix"),
        (("a__b", "c"), "The prefix of Wiki cannot be used"),
        (("Wiki", "c"), "The prefix of Wiki cannot be used"),
        (("a" * 25, "c"), "The prefix of Wiki cannot be used"),
    ],
)
def test_prefixes_are_unique_and_plain(
    toolbox: Server, wiki: Server, tracker: Server, admin: Actor, aliases: tuple[str, str], text: str
) -> None:
    members = [Wanted(wiki.pk, aliases[0]), Wanted(tracker.pk, aliases[1])]
    assert text in refused(toolbox, members, admin)[0]


@pytest.mark.parametrize(
    ("key", "selection"),
    [
        ((TOOL, "search"), Selection(name="with space")),
        ((TOOL, "search"), Selection(name="x" * 65)),
        ((TOOL, "search"), Selection(name="näme")),
        ((RESOURCE, "file:///a"), Selection(name="a")),
        ((TOOL, "search"), Selection(description="x" * 4001)),
        ((TOOL, "search"), Selection(description="nul\0")),
        ((TOOL, "x" * 501), Selection(chosen=False)),
    ],
)
def test_names_and_descriptions_of_ones_own_have_to_fit(
    toolbox: Server, wiki: Server, admin: Actor, key: Any, selection: Selection
) -> None:
    assert len(refused(toolbox, [Wanted(wiki.pk, selections={key: selection})], admin)) == 1


def test_a_server_stands_once(toolbox: Server, wiki: Server, admin: Actor) -> None:
    assert "stands twice" in refused(toolbox, [Wanted(wiki.pk, "a"), Wanted(wiki.pk, "b")], admin)[0]


def test_equal_uris_are_saved_with_a_warning(toolbox: Server, wiki: Server, tracker: Server, admin: Actor) -> None:
    offer(tracker, resources=["file:///a", "file:///b"])
    saved = save(toolbox, [Wanted(tracker.pk), Wanted(wiki.pk)], actor=admin)
    assert saved.warnings == [
        "Issue Tracker and Wiki have the same resource file:///a: reads go to Issue Tracker, which stands earlier."
    ]


# --- who may


NOT_THEIRS = "Choose members among the servers of this tenant that you may use yourself."


def test_a_manager_chooses_among_the_servers_that_they_may_use(
    cast: Cast, toolbox: Server, wiki: Server, tracker: Server
) -> None:
    AccessRule.objects.create(server=toolbox, user=cast.manager, role=Role.MANAGER)
    AccessRule.objects.create(server=wiki, user=cast.manager, role=Role.USER)
    actor = Actor.of(cast.manager)
    save(toolbox, [Wanted(wiki.pk), Wanted(cast.server.pk)], actor=actor)
    assert refused(toolbox, [Wanted(wiki.pk), Wanted(tracker.pk)], actor) == [NOT_THEIRS]


def test_one_that_is_switched_off_may_be_a_member(cast: Cast, toolbox: Server, wiki: Server) -> None:
    AccessRule.objects.create(server=wiki, user=cast.member, role=Role.USER)
    Server.objects.filter(pk=wiki.pk).update(enabled=False)
    assert save(toolbox, [Wanted(wiki.pk)], actor=Actor.of(cast.member)).added == ["wiki"]


def test_who_administers_a_tenant_takes_any_server_of_it(cast: Cast, toolbox: Server, wiki: Server) -> None:
    tina = get_user_model().objects.create_user("tina")
    Membership.objects.filter(user=tina, tenant=cast.tenant).update(role=Membership.Role.ADMIN)
    assert save(toolbox, [Wanted(wiki.pk)], actor=Actor.of(tina)).added == ["wiki"]


@pytest.mark.requirement("F-107")
def test_no_member_comes_from_another_tenant(cast: Cast, toolbox: Server, admin: Actor) -> None:
    far = offering(cast.other_tenant, "far", tools=["x"])
    AccessRule.objects.create(server=far, user=cast.manager, role=Role.USER)
    Membership.objects.create(user=cast.manager, tenant=cast.other_tenant)
    for actor in (admin, Actor.of(cast.manager)):
        assert refused(toolbox, [Wanted(far.pk)], actor) == [NOT_THEIRS]


def test_no_virtual_server_is_a_member(cast: Cast, toolbox: Server, admin: Actor) -> None:
    other = virtual_in(cast.tenant, "other-box")
    for candidate in (other, toolbox):
        AccessRule.objects.create(server=candidate, user=cast.manager, role=Role.MANAGER)
        assert refused(toolbox, [Wanted(candidate.pk)], admin) == [NOT_THEIRS]
        assert refused(toolbox, [Wanted(candidate.pk)], Actor.of(cast.manager)) == [NOT_THEIRS]


def test_a_server_of_its_own_has_no_members(cast: Cast, wiki: Server, admin: Actor) -> None:
    assert "is not a virtual server" in refused(cast.server, [Wanted(wiki.pk)], admin)[0]


def test_a_member_that_is_not_theirs_can_be_moved_and_removed_and_not_changed(
    cast: Cast, toolbox: Server, wiki: Server, admin: Actor
) -> None:
    save(toolbox, [Wanted(wiki.pk), Wanted(cast.server.pk)], actor=admin)
    actor = Actor.of(cast.manager)
    first, second = present(toolbox)
    assert save(toolbox, [second, replace(first, alias="pages")], actor=actor).moved
    for change in (
        {"tools": "chosen"},
        {"selections": {(TOOL, "search"): Selection(name="x")}},
        {"headers": (HeaderChoice("Authorization", plain="stolen"),)},
    ):
        members = changed(toolbox, wiki, **change)
        assert "You may not use this member yourself" in refused(toolbox, members, actor)[0]
    assert save(toolbox, [second], actor=actor).removed == ["wiki"]


# --- the credential of a member


def test_a_members_credential_is_kept_in_the_store_and_counted(
    cast: Cast, toolbox: Server, wiki: Server, tracker: Server, admin: Actor
) -> None:
    with_key = Wanted(wiki.pk, headers=(HeaderChoice("Authorization", plain="canary-one"),))
    saved = save(toolbox, [with_key, Wanted(tracker.pk)], actor=admin)
    assert saved.credentials == ["wiki"]
    row = VirtualMember.objects.get(server=wiki)
    ((name, template),) = row.header_templates()
    assert (name, template) == ("Authorization", "secret://default:toolbox:wiki-authorization")
    assert fill(template, cast.tenant) == "canary-one"
    assert row.credential_origin == "https://wiki.example"
    assert uses_of_secrets([cast.tenant])[template] == [toolbox]
    said = " ".join(str(event.detail) for event in AuditEvent.objects.all())
    assert "canary-one" not in said

    epoch = row.credential_epoch
    save(toolbox, present(toolbox), actor=admin)
    kept = [HeaderChoice(name, template=template)]
    save(toolbox, changed(toolbox, wiki, headers=tuple(kept)), actor=admin)
    row.refresh_from_db()
    assert row.credential_epoch == epoch, "nothing changed"

    another = (HeaderChoice("Authorization", plain="canary-two"),)
    save(toolbox, [replace(with_key, headers=another), Wanted(tracker.pk)], actor=admin)
    row.refresh_from_db()
    assert row.credential_epoch == epoch + 1, "the same reference, another secret"
    assert fill(row.header_templates()[0][1], cast.tenant) == "canary-two"
    assert StoredSecret.objects.filter(group="toolbox").count() == 1

    save(toolbox, [replace(with_key, headers=()), Wanted(tracker.pk)], actor=admin)
    row.refresh_from_db()
    assert (row.credential, row.credential_epoch) == ([], epoch + 2)


def test_secrets_of_two_members_never_share_a_name(cast: Cast, toolbox: Server, admin: Actor) -> None:
    one, two = offering(cast.tenant, "a"), offering(cast.tenant, "a-x")
    save(
        toolbox,
        [
            Wanted(one.pk, "a", headers=(HeaderChoice("x-key", plain="first"),)),
            Wanted(two.pk, "a_x", headers=(HeaderChoice("key", plain="second"),)),
        ],
        actor=admin,
    )
    found = [fill(text, cast.tenant) for row in VirtualMember.objects.all() for _, text in row.header_templates()]
    assert found == ["first", "second"]


def test_a_credential_entered_again_is_for_where_the_member_is_now(toolbox: Server, wiki: Server, admin: Actor) -> None:
    choice = (HeaderChoice("Authorization", plain="same"),)
    save(toolbox, [Wanted(wiki.pk, headers=choice)], actor=admin)
    Server.objects.filter(pk=wiki.pk).update(url="https://moved.example/mcp")
    save(toolbox, [Wanted(wiki.pk)], actor=admin)
    assert VirtualMember.objects.get().credential_origin == "https://wiki.example"
    save(toolbox, [Wanted(wiki.pk, headers=choice)], actor=admin)
    assert VirtualMember.objects.get().credential_origin == "https://moved.example"


# --- what it leaves behind


@pytest.mark.requirement("F-801")
def test_every_save_that_changes_something_is_recorded_with_members_and_counts(
    toolbox: Server, wiki: Server, tracker: Server, admin: Actor
) -> None:
    left_out = {(TOOL, "search"): Selection(chosen=False), (TOOL, "read"): Selection(name="read_page")}
    save(toolbox, [Wanted(wiki.pk, selections=left_out), Wanted(tracker.pk)], actor=admin)
    save(toolbox, present(toolbox), actor=admin)
    (event,) = AuditEvent.objects.filter(action="server:change_members")
    assert (event.actor, event.subject, event.tenant) == ("admin", "Toolbox", toolbox.tenant)
    assert event.detail == {
        "members": ["wiki", "issue-tracker"], "added": ["wiki", "issue-tracker"], "removed": [], "changed": [],
        "credentials": [], "items": {"wiki": 2},
    }  # fmt: skip


def test_what_was_kept_in_memory_follows(
    toolbox: Server, wiki: Server, admin: Actor, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        save(toolbox, [Wanted(wiki.pk)], actor=admin)
    changes.forget_everything()
    assert names(toolbox) == ["wiki__search", "wiki__read"]
    with django_capture_on_commit_callbacks(execute=True):
        save(toolbox, [Wanted(wiki.pk, selections={(TOOL, "search"): Selection(name="find")})], actor=admin)
    assert names(toolbox) == ["find", "wiki__read"]


def test_thousands_of_choices_take_a_bounded_number_of_queries(
    cast: Cast, toolbox: Server, admin: Actor, django_assert_max_num_queries: Any
) -> None:
    keys = [f"tool_{number}" for number in range(3000)]
    big = offering(cast.tenant, "big", tools=keys)
    chosen = {(TOOL, key): Selection(description="d") for key in keys}
    with django_assert_max_num_queries(40):
        save(toolbox, [Wanted(big.pk, tools="chosen", selections=chosen)], actor=admin)
    renamed = {key: Selection(description="e") for key in chosen}
    with django_assert_max_num_queries(60):
        save(toolbox, [Wanted(big.pk, tools="chosen", selections=renamed)], actor=admin)
    with django_assert_max_num_queries(40):
        save(toolbox, [Wanted(big.pk)], actor=admin)
    assert not VirtualSelection.objects.exists()


def test_two_people_who_save_at_once_do_not_undo_each_other(
    toolbox: Server, wiki: Server, tracker: Server, admin: Actor
) -> None:
    """`edit` hands its change what is stored now, not what the page showed."""
    save(toolbox, [Wanted(wiki.pk)], actor=admin)
    edit(toolbox, lambda now: [*now, Wanted(tracker.pk)], actor=admin)
    edit(toolbox, lambda now: [replace(one, tools="chosen") for one in now], actor=admin)
    assert [one.tools for one in present(toolbox)] == ["chosen", "chosen"]
