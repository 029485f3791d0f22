"""Wording, the index, and the pages of superusers: people, teams, tenants, destinations."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.utils import timezone

from authflows.inbound.virtual_accounts import create_virtual_account
from servers import header_names
from servers.models import AccessRule, AuditEvent, Call, Membership, PrivateDestination, Server, ServerGroup, Tenant
from tests.conftest import Cast
from tests.servers.test_admin_access import page, signed_in

pytestmark = pytest.mark.django_db


@pytest.mark.requirement("F-101", "F-102")
@pytest.mark.parametrize(
    ("name", "words"), [("servers_server", "Add MCP Server"), ("servers_servergroup", "Add MCP Server Group")]
)
def test_the_buttons_are_worded_as_people_know_them(cast: Cast, name: str, words: str) -> None:
    listed = signed_in(cast.admin).get(page(f"{name}_changelist")).content.decode()
    button = listed.partition('class="addlink">')[2].partition("<")[0].strip()
    assert button == words
    assert f"<h1>{words}</h1>" in signed_in(cast.admin).get(page(f"{name}_add")).content.decode()


def test_no_auth_comes_with_its_warning(cast: Cast) -> None:
    form = signed_in(cast.admin).get(page("servers_server_add")).content.decode()
    assert "not for production data" in form


def test_the_index_counts_what_the_person_administers(cast: Cast) -> None:
    far = Server.objects.create(tenant=cast.other_tenant, slug="far", name="Far", url="https://far.example/")
    for server, outcome in ((cast.server, "ok"), (cast.server, "upstream_down"), (far, "ok")):
        Call.objects.create(
            at=timezone.now(), request_id="r", tenant=server.tenant.slug, server=server.slug, server_id=server.pk,
            http_method="POST", decision="allowed", status=200, outcome=outcome, bytes_in=1, bytes_out=1,
            milliseconds=1,
        )  # fmt: skip
    mine = signed_in(cast.manager).get(page("index")).context["numbers"]
    everything = signed_in(cast.admin).get(page("index")).context["numbers"]
    assert (mine["calls"], mine["errors"]) == (2, 1)
    assert (everything["calls"], everything["errors"]) == (3, 1)
    assert sum(row["count"] for row in mine["health"]) == 1
    assert sum(row["count"] for row in everything["health"]) == 2


@pytest.mark.parametrize(
    ("outcome", "errors"),
    [
        ("ok", 0), ("client_disconnected", 0), ("timeout", 0), ("access_ended", 0), ("shutdown", 0),
        ("client_stalled", 1), ("timeout_response", 1), ("upstream_body", 1), ("no_rule", 1), ("internal", 1),
    ],
)  # fmt: skip
def test_a_stream_that_ends_as_streams_do_is_no_error(cast: Cast, outcome: str, errors: int) -> None:
    Call.objects.create(
        at=timezone.now(), request_id="r", tenant="default", server="calculator", server_id=cast.server.pk,
        http_method="GET", decision="allowed", status=200, outcome=outcome, bytes_in=1, bytes_out=1, milliseconds=1,
    )  # fmt: skip
    assert signed_in(cast.manager).get(page("index")).context["numbers"]["errors"] == errors


def test_the_set_up_steps_are_ticked_and_then_gone(cast: Cast) -> None:
    client = signed_in(cast.admin)
    steps = client.get(page("index")).context["steps"]
    assert [step.done for step in steps] == [True, False, True, False]
    Server.objects.update(health="ok")
    from authflows.inbound.api_keys import create_key

    create_key(owner=cast.admin, name="laptop", actor="admin")
    assert client.get(page("index")).context["steps"] == []
    assert signed_in(cast.manager).get(page("index")).context["steps"] == []


def test_the_sections_stand_in_the_order_of_setting_up(cast: Cast) -> None:
    found = signed_in(cast.admin).get(page("index")).context["app_list"]
    assert [section["name"] for section in found] == [
        "MCP servers", "Credentials upstream", "Access", "Sign-in", "People", "Gateway", "Records",
    ]  # fmt: skip
    assert [m["name"] for m in found[0]["models"]] == ["MCP Server Groups", "MCP Servers", "Catalogue changes"]


@pytest.mark.requirement("F-207")
def test_virtual_accounts_are_labelled_among_people(cast: Cast) -> None:
    account = create_virtual_account(cast.tenant, name="nightly", description="", actor="t")
    ask = {"app_label": "servers", "model_name": "accessrule", "field_name": "user", "term": "nightly"}
    (row,) = signed_in(cast.manager).get(page("autocomplete"), ask).json()["results"]
    assert row == {"id": str(account.user_id), "text": "default/nightly (virtual account)"}
    people = signed_in(cast.admin).get(page("auth_user_changelist")).content.decode()
    assert "nightly" not in people


@pytest.mark.requirement("F-801")
def test_changes_of_people_teams_tenants_and_destinations_are_recorded(cast: Cast) -> None:
    client = signed_in(cast.admin)
    password = "a rather long phrase 42"
    made = client.post(
        page("auth_user_add"),
        {"username": "nina", "usable_password": "true", "password1": password, "password2": password},
    )
    assert made.status_code == 302, made.context["errors"]
    nina = get_user_model().objects.get(username="nina")
    client.post(page("auth_user_change", nina.pk), {"username": "nina", "email": "n@example.com", "is_active": "on"})
    client.post(page("auth_group_add"), {"name": "writers"})
    memberships = {"memberships-TOTAL_FORMS": "1", "memberships-INITIAL_FORMS": "0"}
    client.post(
        page("servers_tenant_add"),
        {"name": "Third", "slug": "third", **memberships, "memberships-0-user": nina.pk, "memberships-0-role": "admin"},
    )
    client.post(page("servers_privatedestination_add"), {"host": "Calc.Internal", "port": "9000", "note": "x"})
    place = PrivateDestination.objects.get()
    assert place.host == "calc.internal"
    client.post(page("servers_privatedestination_delete", place.pk), {"post": "yes"})
    assert Membership.objects.filter(user=nina, tenant__slug="third", role="admin").exists()
    assert Group.objects.filter(name="writers").exists()
    actions = list(AuditEvent.objects.order_by("sequence").values_list("action", flat=True))
    assert actions == [
        "person:change", "person:change", "team:change", "tenant:change", "tenant:create",
        "private_destination:allow", "private_destination:remove",
    ]  # fmt: skip
    removed = AuditEvent.objects.get(action="private_destination:remove")
    assert (removed.subject, removed.subject_id) == ("calc.internal:9000", str(place.pk)), "though it is gone"
    details = " ".join(str(event.detail) for event in AuditEvent.objects.all())
    assert password not in details
    assert "n@example.com" not in details
    assert "Email address" in details


def test_a_password_set_by_an_admin_is_recorded_without_it(cast: Cast) -> None:
    password = "another long phrase 43"
    url = page("auth_user_password_change", cast.member.pk)
    signed_in(cast.admin).post(url, {"usable_password": "true", "password1": password, "password2": password})
    event = AuditEvent.objects.get(action="person:change")
    assert event.subject == "member"
    assert password not in str(event.detail)


def test_a_tenant_is_not_deleted_because_its_records_stay(cast: Cast) -> None:
    assert signed_in(cast.admin).post(page("servers_tenant_delete", cast.tenant.pk), {"post": "yes"}).status_code == 403
    assert Tenant.objects.filter(pk=cast.tenant.pk).exists()


def test_a_group_is_made_with_its_creator_as_manager(cast: Cast) -> None:
    forms = {"access_rules-TOTAL_FORMS": "0", "access_rules-INITIAL_FORMS": "0"}
    forms |= {"access_rules-2-TOTAL_FORMS": "0", "access_rules-2-INITIAL_FORMS": "0"}
    data = {"tenant": cast.tenant.pk, "name": "Demo", "slug": "demo", "description": "", **forms}
    client = signed_in(cast.admin)
    assert client.post(page("servers_servergroup_add"), data).status_code == 302
    group = ServerGroup.objects.get()
    assert AccessRule.objects.get(group=group).role == "manager"
    assert client.post(page("servers_servergroup_add"), data).status_code == 200
    Server.objects.filter(pk=cast.server.pk).update(group=group)
    refused = client.post(page("servers_servergroup_delete", group.pk), {"post": "yes"})
    assert "Calculator" in refused.content.decode()
    assert ServerGroup.objects.exists()
    assert AuditEvent.objects.filter(action="group:create").count() == 1


@pytest.mark.requirement("T7")
@pytest.mark.parametrize(
    "name",
    [
        "Host", "connection", "Content-Length", "Transfer-Encoding", "TE", "Upgrade", "Cookie", "Origin", "Via",
        "Forwarded", "X-Forwarded-For", "X-Real-IP", "Proxy-Authorization", "Sec-Fetch-Site", "Mcp-Session-Id",
        "MCP-Protocol-Version", "mcp-param-x", "X-Gatehouse-User", "Last-Event-ID",
    ],
)  # fmt: skip
def test_headers_of_the_gateway_itself_cannot_be_set(name: str) -> None:
    with pytest.raises(ValidationError, match="set by the gateway itself"):
        header_names.check_header_name(name)


@pytest.mark.parametrize("name", ["Authorization", "X-Api-Key", "PRIVATE-TOKEN", "Accept-Language"])
def test_headers_that_upstreams_ask_for_can_be_set(name: str) -> None:
    assert header_names.check_header_name(name) == name
