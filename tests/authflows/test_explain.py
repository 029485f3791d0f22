"""What explanations say to whom: the person themselves, who manages the server, and who only administers others."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from authflows.explain import explain, nothing_here
from authflows.explaining.steps import OPERATOR, Explanation, Look, Reader, State
from authflows.inbound.api_keys import create_key
from authflows.inbound.virtual_accounts import create_virtual_account
from servers.items import ItemKind
from servers.models import AccessRule, AuthConfig, Membership, Role, Server, Tenant
from servers.scope import scope_of
from tests.conftest import Cast
from tests.support.catalogues import State as ItemState
from tests.support.catalogues import item, tool
from tests.support.virtual import add_server, set_catalogue, virtual_server

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-503")]


def server_of(cast: Cast) -> Server:
    return Server.objects.select_related("tenant").get(pk=cast.server.pk)


def words(told: Explanation) -> str:
    return "\n".join(
        text for step in told.steps for text in (*step.found, step.fix.sentence if step.fix else "", step.code)
    )


def test_the_rule_that_lets_in_is_named_with_its_team_and_its_end(cast: Cast) -> None:
    end = timezone.now() + timedelta(days=3)
    AccessRule.objects.filter(team=cast.readers).update(expires_at=end)
    told = explain(cast.member, server_of(cast))
    rule = told.step(Look.RULE)
    assert rule is not None
    assert rule.found == (f"User through the team readers, on the server, until {end:%Y-%m-%d %H:%M} UTC.",)
    assert told.allowed


def test_after_the_step_that_refuses_nothing_is_looked_at(cast: Cast) -> None:
    told = explain(cast.outsider, server_of(cast), reader=OPERATOR)
    states = {step.look: step.state for step in told.steps}
    assert states[Look.TENANT] is State.PASSED
    assert states[Look.RULE] is State.FAILED
    assert states[Look.SERVER] is states[Look.CREDENTIAL] is states[Look.HEALTH] is State.NOT_REACHED
    assert not told.allowed


def test_who_manages_the_server_is_led_to_its_page_and_others_are_not(cast: Cast) -> None:
    server, page = server_of(cast), f"/admin/servers/server/{cast.server.pk}/change/"
    manager = explain(cast.outsider, server, reader=Reader(scope_of(cast.manager))).stopped_at
    nobody = explain(cast.outsider, server, reader=Reader(scope_of(cast.outsider))).stopped_at
    assert manager is not None and manager.fix is not None and manager.fix.url == page  # noqa: PT018
    assert nobody is not None and nobody.fix is not None and nobody.fix.url == ""  # noqa: PT018


def test_keys_are_named_to_their_owner_and_counted_to_a_manager(cast: Cast) -> None:
    create_key(owner=cast.member, name="canary-laptop", actor="tests")
    server = server_of(cast)
    assert "canary-laptop" in words(explain(cast.member, server))
    assert "canary-laptop" in words(explain(cast.member, server, reader=OPERATOR))
    managed = explain(cast.member, server, reader=Reader(scope_of(cast.manager)))
    assert "canary-laptop" not in words(managed)
    assert "1 of their keys" in words(managed)


def test_a_manager_cannot_find_out_what_keys_are_called(cast: Cast) -> None:
    create_key(owner=cast.member, name="canary-laptop", actor="tests")
    reader = Reader(scope_of(cast.manager))
    there = explain(cast.member, server_of(cast), client="canary-laptop", reader=reader).stopped_at
    absent = explain(cast.member, server_of(cast), client="absent", reader=reader).stopped_at
    assert there is not None
    assert absent is not None
    assert [text.replace("canary-laptop", "absent") for text in there.found] == list(absent.found)
    assert there.code == absent.code
    steps = [
        [step.look for step in explain(cast.member, server_of(cast), client=name, reader=reader).steps]
        for name in ("canary-laptop", "absent")
    ]
    assert steps[0] == steps[1]


def test_a_manager_is_not_told_what_the_keys_of_a_program_are_called(cast: Cast) -> None:
    account = create_virtual_account(cast.tenant, name="nightly", description="", actor="tests")
    create_key(owner=account.user, name="canary-job", actor="tests", servers=[])
    managed = explain(account.user, server_of(cast), reader=Reader(scope_of(cast.manager)))
    assert "It has no key that opens this server." in words(managed)
    assert "canary-job" not in words(managed)
    assert "canary-job" in words(explain(account.user, server_of(cast), reader=OPERATOR))


def test_the_keys_of_somebody_who_is_of_another_tenant_too_are_not_named_to_an_admin_of_one(cast: Cast) -> None:
    about = {"tenant": cast.tenant, "user": cast.outsider}
    Membership.objects.update_or_create(**about, defaults={"role": Membership.Role.ADMIN})
    create_key(owner=cast.member, name="canary-laptop", actor="tests")
    reader = Reader(scope_of(cast.outsider))
    assert "canary-laptop" in words(explain(cast.member, server_of(cast), reader=reader))
    other = Tenant.objects.create(slug="third", name="Third")
    Membership.objects.create(tenant=other, user=cast.member)
    assert "canary-laptop" not in words(explain(cast.member, server_of(cast), reader=reader))


@pytest.mark.requirement("T46")
def test_a_person_cannot_tell_a_hidden_tool_from_one_that_was_never_there(cast: Cast) -> None:
    item(cast.server, tool("open"))
    item(cast.server, tool("held"), state=ItemState.HELD)
    item(cast.server, tool("other"))
    AccessRule.objects.filter(team=cast.readers).update(items="only", item_names=["tool:open", "tool:held"])
    found = [explain(cast.member, server_of(cast), item=(ItemKind.TOOL, name)) for name in ("held", "other", "absent")]
    assert found[0].steps == found[1].steps == found[2].steps
    assert not found[0].allowed
    assert explain(cast.member, server_of(cast), item=(ItemKind.TOOL, "open")).allowed


@pytest.mark.parametrize(
    ("name", "reason"),
    [("held", "held until somebody approves"), ("other", "about other items"), ("absent", "has no tool of this name")],
)
def test_who_manages_the_server_reads_why_a_tool_is_hidden(cast: Cast, name: str, reason: str) -> None:
    item(cast.server, tool("open"))
    item(cast.server, tool("held"), state=ItemState.HELD)
    item(cast.server, tool("other"))
    AccessRule.objects.filter(team=cast.readers).update(items="only", item_names=["tool:open", "tool:held"])
    told = explain(cast.member, server_of(cast), item=(ItemKind.TOOL, name), reader=Reader(scope_of(cast.manager)))
    assert told.stopped_at is not None
    assert reason in " ".join(told.stopped_at.found)


def test_a_tool_that_no_catalogue_has_is_left_to_the_server_where_nothing_is_limited(cast: Cast) -> None:
    told = explain(cast.member, server_of(cast), item=(ItemKind.TOOL, "anything"))
    step = told.step(Look.ITEM)
    assert told.allowed
    assert step is not None
    assert step.state is State.NOTED


def test_what_is_not_connected_leads_to_the_page_that_connects(cast: Cast) -> None:
    AuthConfig.objects.filter(server=cast.server).update(method=AuthConfig.Method.OWN_HEADER)
    mine, theirs = explain(cast.member, server_of(cast)), explain(cast.member, server_of(cast), reader=OPERATOR)
    assert mine.stopped_at is not None and mine.stopped_at.fix is not None  # noqa: PT018
    assert mine.stopped_at.look is Look.CREDENTIAL
    assert mine.stopped_at.fix.url == "/portal/servers/default/calculator/own-key/"
    assert theirs.stopped_at is not None and theirs.stopped_at.fix is not None  # noqa: PT018
    assert "member" in theirs.stopped_at.fix.sentence


def test_health_refuses_nothing_and_its_detail_is_for_who_manages_the_server(cast: Cast) -> None:
    Server.objects.update(
        health="tls", health_at=timezone.now(), health_detail={"sentence": "canary-host.internal is not trusted."}
    )
    mine, theirs = explain(cast.member, server_of(cast)), explain(cast.member, server_of(cast), reader=OPERATOR)
    assert mine.allowed
    assert [step.look for step in mine.noted][-1] is Look.HEALTH
    assert "canary" not in words(mine)
    assert "canary" in words(theirs)


def test_a_virtual_server_says_how_each_member_stands(cast: Cast) -> None:
    notes = add_server(cast, "notes", "http://127.0.0.1:9/mcp")
    hidden = add_server(cast, "hidden", "http://127.0.0.1:9/mcp")
    AccessRule.objects.filter(server=hidden).delete()
    AuthConfig.objects.filter(server=notes).update(method=AuthConfig.Method.OWN_HEADER)
    bundle = virtual_server(cast, (cast.server, "math"), (notes, "notes"), (hidden, "hidden"))
    mine, theirs = explain(cast.member, bundle), explain(cast.member, bundle, reader=OPERATOR)
    step = mine.step(Look.MEMBER)
    assert mine.allowed
    assert step is not None
    assert step.state is State.NOTED
    assert "Notes: Notes needs a key of your own." in step.found
    assert "Hidden" not in words(mine)
    assert "Hidden: no rule lets them use it" in words(theirs)


def test_a_tool_of_a_virtual_server_is_looked_at_behind_it(cast: Cast) -> None:
    set_catalogue(cast.server, {"tool": [tool("add")]})
    bundle = virtual_server(cast, (cast.server, "math"))
    told = explain(cast.member, bundle, item=(ItemKind.TOOL, "math__add"))
    assert told.allowed
    assert [step.look for step in told.steps][-4:] == [Look.MEMBER, Look.ITEM, Look.CREDENTIAL, Look.HEALTH]
    AccessRule.objects.filter(server=cast.server).delete()
    mine = explain(cast.member, bundle, item=(ItemKind.TOOL, "math__add"))
    absent = explain(cast.member, bundle, item=(ItemKind.TOOL, "math__absent"))
    assert mine.stopped_at is not None
    assert absent.stopped_at is not None
    assert mine.stopped_at.found == absent.stopped_at.found


def test_a_program_without_a_key_is_told_so(cast: Cast) -> None:
    account = create_virtual_account(cast.tenant, name="nightly", description="", actor="tests")
    AccessRule.objects.create(server=cast.server, user=account.user, role=Role.USER)
    told = explain(account.user, server_of(cast), reader=OPERATOR)
    assert told.stopped_at is not None
    assert told.stopped_at.look is Look.WAY_IN
    create_key(owner=account.user, name="nightly", actor="tests")
    assert explain(account.user, server_of(cast), reader=OPERATOR).allowed


def test_an_explanation_costs_few_queries(cast: Cast, django_assert_max_num_queries: Any) -> None:
    for number in range(10):
        create_key(owner=cast.member, name=f"key {number}", actor="tests", servers=[cast.server])
    server = server_of(cast)
    with django_assert_max_num_queries(15):
        explain(cast.member, server)


def test_for_a_server_that_is_not_theirs_nothing_depends_on_it(cast: Cast) -> None:
    assert nothing_here(cast.outsider, "x").steps == nothing_here(cast.outsider, "y").steps
    assert "Calculator" not in words(nothing_here(cast.outsider, "default/calculator"))


# The command


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    call_command("explain", *arguments)
    return capsys.readouterr().out


def test_the_command_prints_every_step(cast: Cast, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "member", "default/calculator", "--tool", "add")
    assert "The right to use the server" in text
    assert "User through the team readers" in text
    assert text.splitlines()[0] == "member may call the tool add of Calculator."
    text = printed(capsys, "outsider", "http://127.0.0.1:8000/default/mcp/calculator/server")
    assert text.splitlines()[0] == "outsider may not use Calculator."
    assert "no_rule" in text


def test_the_command_prints_json_for_programs(cast: Cast, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    told = json.loads(printed(capsys, "outsider", "default/calculator", "--json"))
    assert told["allowed"] is False
    assert {"look": "rule", "state": "failed", "code": "no_rule"}.items() <= told["steps"][3].items()


@pytest.mark.parametrize(("person", "server"), [("nobody", "default/calculator"), ("member", "default/absent")])
def test_the_command_says_what_it_does_not_know(cast: Cast, person: str, server: str) -> None:
    with pytest.raises(CommandError, match=r"nobody|default/absent"):
        call_command("explain", person, server)
