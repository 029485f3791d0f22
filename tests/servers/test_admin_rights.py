"""What a collaborator may use: set on the pages of servers and groups, shown wherever rules are, and recorded."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone
from django.utils.html import escape

from authflows.inbound.virtual_accounts import create_virtual_account
from servers.access import Reason
from servers.explanations import why
from servers.forms import item_filter
from servers.models import AccessRule, AuditEvent, Call, Hints, Items, Role, Server, ServerGroup
from servers.rule_texts import role_text
from tests.conftest import Cast
from tests.servers.test_admin_access import form_data, page, signed_in
from tests.support.catalogues import State, item, tool
from tests.support.offering import offer
from tests.support.virtual import virtual_server

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-502")]
NEW = "access_rules-2-0"


@pytest.fixture(autouse=True)
def offered(cast: Cast) -> None:
    for name in ("search", "delete"):
        item(cast.server, tool(name))
    item(cast.server, {"name": "greet"}, kind="prompt")
    item(cast.server, tool("forgotten"), state=State.GONE)


def post(cast: Cast, changes: dict[str, Any], *, person: Any = None) -> Any:
    address = page("servers_server_change", cast.server.pk)
    return signed_in(person or cast.manager).post(address, form_data(cast.server) | changes)


def new_rule(cast: Cast, **opens: Any) -> dict[str, Any]:
    return {
        f"{NEW}-user": str(cast.outsider.pk),
        f"{NEW}-role": opens.pop("role", "user"),
        **{f"{NEW}-opens-{name}": value for name, value in opens.items()},
    }


def outsiders_rule(cast: Cast) -> AccessRule:
    return AccessRule.objects.get(server=cast.server, user=cast.outsider)


def row_of(cast: Cast, rule: AccessRule) -> str:
    """The prefix of the rule's row on the page."""
    return next(key for key, value in form_data(cast.server).items() if value == str(rule.pk)).removesuffix("-id")


def errors(answer: Any) -> str:
    found = [str(form.errors) for formset in answer.context["inline_admin_formsets"] for form in formset.formset.forms]
    return " ".join(found)


def test_a_rule_is_limited_to_what_is_ticked_and_typed(cast: Cast) -> None:
    opens = {"items": "only", "hints": "read_only", "names": ["tool:search"], "typed": " tool:later \n\nprompt:greet\n"}
    answer = post(cast, new_rule(cast, **opens))
    assert answer.status_code == 302, errors(answer)
    rule = outsiders_rule(cast)
    assert (rule.items, rule.hints) == (Items.ONLY, Hints.READ_ONLY)
    assert rule.item_names == ["prompt:greet", "tool:later", "tool:search"]


def test_without_limits_a_rule_opens_everything(cast: Cast) -> None:
    answer = post(cast, new_rule(cast, items="all", hints="any", names=["tool:search"], typed="tool:x"))
    assert answer.status_code == 302, errors(answer)
    rule = outsiders_rule(cast)
    assert (rule.items, rule.item_names, rule.hints) == (Items.ALL, [], Hints.ANY)


@pytest.mark.parametrize(
    ("opens", "words"),
    [
        ({"items": "only", "typed": "tool:search\nsearch"}, "Line 2: begin with one of tool:, prompt:"),
        ({"items": "only", "typed": "note://x"}, "Line 1: begin with one of"),
        ({"items": "only", "typed": "tool:"}, "Line 1: a name has to follow"),
        ({"items": "only", "typed": "tool:" + "x" * 501}, "at most 500 characters"),
        ({"items": "only", "typed": "tool:a\u202eb"}, "all of them visible"),
        ({"items": "only", "names": ["weapon:x"]}, "begin with one of"),
        ({"items": "only"}, "Name at least one"),
        ({"items": "except", "typed": "\n \n"}, "Name at least one"),
        ({"items": "some"}, "Choose what the rule is about"),
        ({"items": "only", "typed": "\n".join(f"tool:t{n}" for n in range(501))}, "at most 500"),
        ({"items": "only", "names": ["tool:search"], "role": "manager"}, "A Manager has everything"),
    ],
)
def test_what_cannot_be_meant_is_explained(cast: Cast, opens: dict[str, Any], words: str) -> None:
    answer = post(cast, new_rule(cast, **opens))
    assert answer.status_code == 200
    assert words in errors(answer)
    assert not AccessRule.objects.filter(user=cast.outsider).exists()
    if "typed" in opens and "weapon" not in str(opens):
        assert opens["typed"].strip()[:20] in answer.content.decode()


def test_a_rule_is_changed_and_the_trail_says_what(cast: Cast) -> None:
    rule = AccessRule.objects.get(team=cast.readers)
    row = row_of(cast, rule)
    opens = {f"{row}-opens-items": "except", f"{row}-opens-hints": "any", f"{row}-opens-names": ["tool:delete"]}
    assert post(cast, opens).status_code == 302
    rule.refresh_from_db()
    assert (rule.items, rule.item_names) == (Items.EXCEPT, ["tool:delete"])
    event = AuditEvent.objects.get(action="collaborator:change")
    assert event.detail == {
        "on": "Calculator", "role": "user", "fields": ["opens"], "opened": "everything",
        "opens": "everything but 1 tool", "items": "except", "hints": "any", "added": ["tool:delete"],
    }  # fmt: skip
    opens = {f"{row}-opens-items": "all", f"{row}-opens-hints": "not_destructive"}
    assert post(cast, opens).status_code == 302
    detail = AuditEvent.objects.filter(action="collaborator:change").latest("sequence").detail
    assert (detail["opened"], detail["removed"]) == ("everything but 1 tool", ["tool:delete"])
    assert detail["opens"] == "everything, of tools only those that destroy nothing"


def test_saving_the_page_again_changes_no_rule(cast: Cast) -> None:
    rule = AccessRule.objects.get(team=cast.readers)
    rule.items, rule.item_names, rule.hints = Items.ONLY, ["tool:search", "tool:later"], Hints.READ_ONLY
    rule.save()
    row = row_of(cast, rule)
    shown = {
        f"{row}-opens-items": "only", f"{row}-opens-hints": "read_only", f"{row}-opens-names": ["tool:search"],
        f"{row}-opens-typed": "tool:later",
    }  # fmt: skip
    assert post(cast, shown).status_code == 302
    assert post(cast, {}).status_code == 302, "a page from before an update says nothing of limits"
    rule.refresh_from_db()
    assert (rule.items, rule.item_names) == (Items.ONLY, ["tool:search", "tool:later"])
    assert not AuditEvent.objects.filter(action="collaborator:change").exists()


def test_who_becomes_a_manager_loses_the_limits(cast: Cast) -> None:
    rule = AccessRule.objects.get(team=cast.readers)
    rule.items, rule.item_names = Items.ONLY, ["tool:search"]
    rule.save()
    row = row_of(cast, rule)
    answer = post(cast, {f"{row}-role": "manager", f"{row}-opens-items": "only", f"{row}-opens-names": ["tool:search"]})
    assert answer.status_code == 302, errors(answer)
    rule.refresh_from_db()
    assert (rule.role, rule.items, rule.item_names) == (Role.MANAGER, Items.ALL, [])


def test_the_page_offers_the_names_of_the_catalogue_and_keeps_others(cast: Cast) -> None:
    rule = AccessRule.objects.get(team=cast.readers)
    rule.items, rule.item_names = Items.ONLY, ["tool:search", "tool:later"]
    rule.save()
    shown = signed_in(cast.manager).get(page("servers_server_change", cast.server.pk)).content.decode()
    row = row_of(cast, rule)
    assert f'name="{row}-opens-names" value="tool:search" checked' in shown
    assert f'name="{row}-opens-names" value="tool:delete"> delete' in shown
    assert f'name="{row}-opens-names" value="prompt:greet"' in shown
    assert "forgotten" not in shown
    assert 'placeholder="tool:search">tool:later</textarea>' in shown
    assert "<summary>2 tools</summary>" in shown


def test_many_names_are_suggested_once_instead_of_listed_in_every_row(cast: Cast) -> None:
    offer(cast.server, tools=[f"tool-{number}" for number in range(item_filter.MOST_BOXES // 4)])
    shown = signed_in(cast.manager).get(page("servers_server_change", cast.server.pk)).content.decode()
    assert 'opens-names" value=' not in shown
    assert '<datalist id="gh-item-names"><option value="tool:search">' in shown
    assert shown.count("tool:delete") == 1


def test_a_groups_rule_offers_what_its_servers_offer(cast: Cast) -> None:
    group = ServerGroup.objects.create(tenant=cast.tenant, name="Sums", slug="sums")
    Server.objects.filter(pk=cast.server.pk).update(group=group)
    AccessRule.objects.create(group=group, user=cast.manager, role=Role.MANAGER)
    address = page("servers_servergroup_change", group.pk)
    client = signed_in(cast.manager)
    assert 'value="tool:search"' in client.get(address).content.decode()
    own = AccessRule.objects.get(group=group)
    data = {
        "name": "Sums", "slug": "sums", "description": "",
        "access_rules-TOTAL_FORMS": "1", "access_rules-INITIAL_FORMS": "1",
        "access_rules-0-id": str(own.pk), "access_rules-0-role": "manager",
        "access_rules-2-TOTAL_FORMS": "1", "access_rules-2-INITIAL_FORMS": "0",
        **new_rule(cast, items="only", names=["tool:search"]),
    }  # fmt: skip
    answer = client.post(address, data)
    assert answer.status_code == 302, errors(answer)
    assert AccessRule.objects.get(group=group, user=cast.outsider).item_names == ["tool:search"]


def test_a_virtual_servers_rule_offers_names_as_they_are_there(cast: Cast) -> None:
    bundle = virtual_server(cast, (cast.server, "math"))
    shown = signed_in(cast.admin).get(page("servers_server_change", bundle.pk)).content.decode()
    assert 'value="tool:math__search"' in shown


def test_the_page_of_a_virtual_account_says_what_it_may_use(cast: Cast) -> None:
    account = create_virtual_account(cast.tenant, name="robot", description="", actor="test")
    AccessRule.objects.create(
        server=cast.server, user=account.user, role=Role.USER, items=Items.ONLY, item_names=["tool:search"]
    )
    client = signed_in(cast.admin)
    assert "as User of 1 tool" in client.get(page("authflows_virtualaccount_change", account.pk)).content.decode()
    assert (
        "Access to Calculator, as User of 1 tool"
        in client.get(page("authflows_virtualaccount_delete", account.pk)).content.decode()
    )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "User"),
        ({"role": Role.MANAGER}, "Manager"),
        ({"items": Items.ONLY, "item_names": ["tool:a", "tool:b", "tool:c"]}, "User of 3 tools"),
        ({"items": Items.ONLY, "item_names": []}, "User of nothing"),
        (
            {"items": Items.ONLY, "item_names": ["tool:a", "prompt:b", "resource:c", "resource:d"]},
            "User of 1 tool, 1 prompt and 2 resources",
        ),
        ({"items": Items.EXCEPT, "item_names": ["resource_template:a"]}, "User of everything but 1 resource template"),
        ({"hints": Hints.READ_ONLY}, "User of everything, of tools only those that only read"),
        (
            {"items": Items.EXCEPT, "item_names": ["tool:a"], "hints": Hints.NOT_DESTRUCTIVE},
            "User of everything but 1 tool, of tools only those that destroy nothing",
        ),
    ],
)
def test_a_rule_in_words(fields: dict[str, Any], text: str) -> None:
    assert role_text(AccessRule(**{"role": Role.USER, **fields})) == text


def test_names_are_as_long_as_the_catalogues_and_not_longer() -> None:
    assert item_filter.names_in("tool:" + "x" * 500) == ["tool:" + "x" * 500]


@pytest.mark.parametrize("reason", Reason)
def test_the_page_of_a_refused_call_says_why(cast: Cast, reason: Reason) -> None:
    call = Call.objects.create(
        at=timezone.now(), request_id="r", tenant="default", server="calculator", http_method="POST", decision="denied",
        status=200, outcome=str(reason), bytes_in=1, bytes_out=1, milliseconds=1,
    )  # fmt: skip
    assert len(why(reason)) > 20
    shown = signed_in(cast.admin).get(page("servers_call_change", call.pk)).content.decode()
    assert escape(why(reason)) in shown


def test_of_a_call_that_went_through_there_is_nothing_to_explain() -> None:
    assert why("ok") == ""
