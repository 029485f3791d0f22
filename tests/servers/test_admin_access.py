"""Who may see and do what in the admin: superuser, tenant admin, manager, and everybody else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from servers.models import (
    AccessRule,
    AuditEvent,
    AuthConfig,
    Call,
    Membership,
    PrivateDestination,
    Role,
    Server,
    ServerGroup,
    StoredSecret,
)
from servers.secrets.store import set_secret
from tests.conftest import Cast

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-501")]


def signed_in(person: Any) -> Client:
    client = Client()
    client.force_login(person)
    return client


def page(name: str, *arguments: Any) -> str:
    return reverse(f"admin:{name}", args=arguments)


@pytest.fixture
def tenant_admin(cast: Cast) -> Any:
    person = get_user_model().objects.create_user("tina", "tina@example.com", "x")
    Membership.objects.filter(user=person, tenant=cast.tenant).update(role=Membership.Role.ADMIN)
    return person


@pytest.fixture
def foreign_server(cast: Cast) -> Server:
    server = Server.objects.create(tenant=cast.other_tenant, slug="foreign", name="Foreign", url="http://127.0.0.1:8/x")
    AuthConfig.objects.create(server=server)
    return server


@pytest.fixture
def second_server(cast: Cast) -> Server:
    server = Server.objects.create(tenant=cast.tenant, slug="second", name="Second", url="http://127.0.0.1:7/mcp")
    AuthConfig.objects.create(server=server)
    return server


ALL_LISTS = (
    "servers_server", "servers_servergroup", "servers_storedsecret", "servers_privatedestination", "servers_tenant",
    "servers_auditevent", "servers_call", "auth_user", "auth_group", "authflows_apikey", "authflows_virtualaccount",
)  # fmt: skip
TENANT_ADMIN_LISTS = {
    "servers_server", "servers_servergroup", "servers_storedsecret", "servers_auditevent", "servers_call",
    "authflows_apikey", "authflows_virtualaccount",
}  # fmt: skip


def open_lists(person: Any) -> set[str]:
    client = signed_in(person)
    return {name for name in ALL_LISTS if client.get(page(f"{name}_changelist")).status_code == 200}


def test_a_superuser_opens_every_list(cast: Cast) -> None:
    assert open_lists(cast.admin) == set(ALL_LISTS)
    assert signed_in(cast.admin).get(page("index")).status_code == 200


def test_a_tenant_admin_opens_what_belongs_to_a_tenant(tenant_admin: Any) -> None:
    assert open_lists(tenant_admin) == TENANT_ADMIN_LISTS


def test_a_manager_opens_only_servers(cast: Cast) -> None:
    assert open_lists(cast.manager) == {"servers_server"}


@pytest.mark.parametrize("who", ["member", "outsider", "stranger"])
def test_others_do_not_enter(cast: Cast, who: str) -> None:
    client = signed_in(getattr(cast, who))
    assert open_lists(getattr(cast, who)) == set()
    answer = client.get(page("index"), follow=True)
    assert answer.status_code == 403


def test_nobody_signed_in_is_sent_to_the_one_sign_in_page(client: Client) -> None:
    answer = client.get(page("index"), follow=True)
    assert answer.redirect_chain[-1][0].startswith(reverse("sign-in"))


@pytest.mark.parametrize("change", ["inactive", "expired", "removed", "left the tenant"])
def test_a_former_manager_does_not_enter(cast: Cast, change: str) -> None:
    rules = AccessRule.objects.filter(user=cast.manager)
    if change == "inactive":
        get_user_model().objects.filter(pk=cast.manager.pk).update(is_active=False)
    elif change == "expired":
        rules.update(expires_at=timezone.now() - timedelta(minutes=1))
    elif change == "removed":
        rules.delete()
    else:
        Membership.objects.filter(user=cast.manager).delete()
    assert signed_in(cast.manager).get(page("servers_server_changelist")).status_code == 302


def test_a_manager_through_a_team_enters(cast: Cast) -> None:
    team = Group.objects.create(name="keepers")
    cast.outsider.groups.add(team)
    AccessRule.objects.create(server=cast.server, team=team, role=Role.MANAGER)
    assert open_lists(cast.outsider) == {"servers_server"}


def test_a_manager_sees_and_opens_exactly_their_servers(
    cast: Cast, second_server: Server, foreign_server: Server
) -> None:
    client = signed_in(cast.manager)
    listed = client.get(page("servers_server_changelist")).content.decode()
    assert "Calculator" in listed
    assert "Second" not in listed
    assert "Foreign" not in listed
    assert client.get(page("servers_server_change", cast.server.pk)).status_code == 200
    for server in (second_server, foreign_server):
        for name in ("change", "delete", "history"):
            assert client.get(page(f"servers_server_{name}", server.pk)).status_code in (302, 403, 404)
        client.post(page("servers_server_delete", server.pk), {"post": "yes"})
        client.post(page("servers_server_changelist"), {"action": "disable", "_selected_action": str(server.pk)})
        assert Server.objects.get(pk=server.pk).enabled
    assert client.get(page("servers_server_add")).status_code == 403


def test_a_manager_of_a_group_sees_its_servers_and_adds_to_it(cast: Cast, second_server: Server) -> None:
    group = ServerGroup.objects.create(tenant=cast.tenant, name="Mine", slug="mine")
    closed = ServerGroup.objects.create(tenant=cast.tenant, name="Closed", slug="closed")
    Server.objects.filter(pk=second_server.pk).update(group=group)
    AccessRule.objects.create(group=group, user=cast.outsider, role=Role.MANAGER)
    client = signed_in(cast.outsider)
    assert open_lists(cast.outsider) == {"servers_server", "servers_servergroup"}
    listed = client.get(page("servers_server_changelist")).content.decode()
    assert "Second" in listed
    assert "Calculator" not in listed
    form = client.get(page("servers_server_add")).content.decode()
    assert "Mine" in form
    assert "Closed" not in form
    assert client.get(page("servers_servergroup_change", closed.pk)).status_code in (302, 404)
    assert client.get(page("servers_servergroup_add")).status_code == 403


def test_a_tenant_admin_sees_nothing_of_another_tenant(tenant_admin: Any, cast: Cast, foreign_server: Server) -> None:
    set_secret(tenant=cast.other_tenant, group="far", key="away", value="x", actor="t")
    now = timezone.now()
    for slug in ("default", "other"):
        Call.objects.create(
            at=now, request_id="r", tenant=slug, server=f"srv-{slug}", http_method="POST", decision="allowed",
            status=200, outcome="ok", bytes_in=1, bytes_out=1, milliseconds=1,
        )  # fmt: skip
    client = signed_in(tenant_admin)
    assert "Foreign" not in client.get(page("servers_server_changelist")).content.decode()
    assert "far" not in client.get(page("servers_storedsecret_changelist")).content.decode()
    assert AuditEvent.objects.filter(action="secret:set").exists()
    assert list(client.get(page("servers_auditevent_changelist")).context["cl"].queryset) == []
    calls = client.get(page("servers_call_changelist")).content.decode()
    assert "srv-default" in calls
    assert "srv-other" not in calls
    foreign = Call.objects.get(server="srv-other")
    event = AuditEvent.objects.get(action="secret:set")
    secret = StoredSecret.objects.get()
    for name, row in (("call", foreign), ("auditevent", event), ("storedsecret", secret), ("server", foreign_server)):
        assert client.get(page(f"servers_{name}_change", row.pk)).status_code in (302, 403, 404)


@pytest.mark.parametrize("name", ["servers_auditevent", "servers_call", "authflows_apikey"])
def test_records_and_keys_are_read_only_even_for_superusers(cast: Cast, name: str) -> None:
    client = signed_in(cast.admin)
    assert client.get(page(f"{name}_add")).status_code == 403
    answer = client.post(
        page(f"{name}_changelist"), {"action": "delete_selected", "_selected_action": "1", "post": "yes"}
    )
    assert answer.status_code in (302, 403, 200)
    assert "delete_selected" not in client.get(page(f"{name}_changelist")).content.decode()


@pytest.mark.requirement("F-107")
def test_choices_of_people_show_nobody_of_other_tenants(cast: Cast) -> None:
    far = Group.objects.create(name="far-team")
    cast.stranger.groups.add(far)
    ask = {"app_label": "servers", "model_name": "accessrule", "field_name": "user", "term": ""}

    def people(person: Any, **change: str) -> Any:
        answer = signed_in(person).get(page("autocomplete"), {**ask, **change})
        return {row["text"] for row in answer.json()["results"]} if answer.status_code == 200 else answer.status_code

    assert "stranger" in people(cast.admin)
    assert "outsider" in people(cast.manager)
    assert "stranger" not in people(cast.manager)
    assert people(cast.manager, field_name="team") == {"readers"}
    assert people(cast.outsider) == 302
    assert people(cast.manager, model_name="membership") == 403


@pytest.mark.requirement("F-107")
def test_a_manager_cannot_post_a_person_of_another_tenant(cast: Cast) -> None:
    data = form_data(cast.server) | {"access_rules-2-0-user": str(cast.stranger.pk), "access_rules-2-0-role": "user"}
    AccessRule.objects.filter(user=cast.stranger).delete()
    answer = signed_in(cast.manager).post(page("servers_server_change", cast.server.pk), data)
    assert answer.status_code == 200
    assert not AccessRule.objects.filter(user=cast.stranger).exists()


def form_data(server: Server | None = None, **changes: Any) -> dict[str, Any]:
    """What a browser posts for the server form."""
    data = {
        "name": "New one", "slug": "new-one", "description": "", "url": "http://127.0.0.1:9/mcp", "enabled": "on",
        "method": "none", "connect_timeout": "10", "response_timeout": "120", "max_request_bytes": "",
        "ca_certificate": "", "static_headers": "", "allowed_request_headers": "", "group": "",
        "headers-0-name": "", "headers-0-value": "", "headers-0-stored": "",
        "access_rules-TOTAL_FORMS": "0", "access_rules-INITIAL_FORMS": "0",
        "access_rules-2-TOTAL_FORMS": "1", "access_rules-2-INITIAL_FORMS": "0",
        "access_rules-2-0-role": "user", "access_rules-2-0-id": "",
    }  # fmt: skip
    if server is not None:
        rules = AccessRule.objects.filter(server=server)
        data |= {"name": server.name, "slug": server.slug, "url": server.url, "group": str(server.group_id or "")}
        data |= {"access_rules-TOTAL_FORMS": str(rules.count()), "access_rules-INITIAL_FORMS": str(rules.count())}
        for number, rule in enumerate(rules):
            data |= {f"access_rules-{number}-id": str(rule.pk), f"access_rules-{number}-role": rule.role}
    return data | changes


def test_a_creator_becomes_manager_and_nobody_else_sees_the_server(cast: Cast, tenant_admin: Any) -> None:
    PrivateDestination.objects.create(host="127.0.0.1", port=9)
    answer = signed_in(tenant_admin).post(page("servers_server_add"), form_data())
    assert answer.status_code == 302, answer.context["errors"]
    server = Server.objects.get(slug="new-one")
    rule = AccessRule.objects.get(server=server)
    assert (rule.user, rule.role) == (tenant_admin, Role.MANAGER)
    assert server.tenant == cast.tenant
    actions = set(AuditEvent.objects.values_list("action", flat=True))
    assert {"server:create", "collaborator:add"} <= actions
    listed = signed_in(cast.manager).get(page("servers_server_changelist")).content.decode()
    assert "New one" not in listed


def test_a_manager_changes_a_server_and_its_collaborators(cast: Cast) -> None:
    data = form_data(cast.server, name="Sums") | {
        "access_rules-2-0-user": str(cast.outsider.pk), "access_rules-2-0-role": "user",
    }  # fmt: skip
    answer = signed_in(cast.manager).post(page("servers_server_change", cast.server.pk), data)
    assert answer.status_code == 302, answer.context["errors"]
    assert Server.objects.get(pk=cast.server.pk).name == "Sums"
    assert AccessRule.objects.filter(server=cast.server, user=cast.outsider, role="user").exists()
    changed = AuditEvent.objects.get(action="server:change")
    assert (changed.actor, changed.detail) == ("manager", {"fields": ["Name"]})
    assert AuditEvent.objects.get(action="collaborator:add").detail["on"] == "Sums"


def test_adding_a_collaborator_twice_is_explained(cast: Cast) -> None:
    data = form_data(cast.server) | {"access_rules-2-0-user": str(cast.manager.pk), "access_rules-2-0-role": "user"}
    answer = signed_in(cast.manager).post(page("servers_server_change", cast.server.pk), data)
    assert "Is a collaborator already" in answer.content.decode()


def test_removing_a_collaborator_is_recorded(cast: Cast) -> None:
    rule = AccessRule.objects.get(server=cast.server, team=cast.readers)
    data = form_data(cast.server)
    number = next(key for key, value in data.items() if value == str(rule.pk)).split("-")[1]
    answer = signed_in(cast.manager).post(
        page("servers_server_change", cast.server.pk), data | {f"access_rules-{number}-DELETE": "on"}
    )
    assert answer.status_code == 302
    assert not AccessRule.objects.filter(pk=rule.pk).exists()
    assert AuditEvent.objects.filter(action="collaborator:remove").count() == 1


def test_a_server_manager_cannot_move_it_to_a_group_they_do_not_manage(cast: Cast) -> None:
    group = ServerGroup.objects.create(tenant=cast.tenant, name="Closed", slug="closed")
    data = form_data(cast.server, group=str(group.pk))
    answer = signed_in(cast.manager).post(page("servers_server_change", cast.server.pk), data)
    assert answer.status_code == 200
    assert Server.objects.get(pk=cast.server.pk).group is None


def test_a_manager_through_a_group_cannot_take_the_server_out_of_it(cast: Cast, second_server: Server) -> None:
    group = ServerGroup.objects.create(tenant=cast.tenant, name="Mine", slug="mine")
    Server.objects.filter(pk=second_server.pk).update(group=group)
    AccessRule.objects.create(group=group, user=cast.outsider, role=Role.MANAGER)
    data = form_data(second_server, group="")
    answer = signed_in(cast.outsider).post(page("servers_server_change", second_server.pk), data)
    assert answer.status_code == 200
    assert Server.objects.get(pk=second_server.pk).group == group


def test_a_taken_slug_is_an_error_in_the_form(cast: Cast) -> None:
    PrivateDestination.objects.create(host="127.0.0.1", port=9)
    answer = signed_in(cast.admin).post(page("servers_server_add"), form_data(slug="calculator", tenant=cast.tenant.pk))
    assert answer.status_code == 200
    assert Server.objects.count() == 1


@pytest.mark.requirement("T26")
def test_a_private_address_is_for_a_superuser_to_allow(cast: Cast, tenant_admin: Any) -> None:
    data = form_data(tenant=str(cast.tenant.pk))
    refused = signed_in(tenant_admin).post(page("servers_server_add"), data | {"allow_private": "on"})
    assert "Ask an admin to add 127.0.0.1:9" in refused.content.decode()
    first = signed_in(cast.admin).post(page("servers_server_add"), data)
    assert "Allow this private address" in first.content.decode()
    assert not PrivateDestination.objects.exists()
    second = signed_in(cast.admin).post(page("servers_server_add"), data | {"allow_private": "on"})
    assert second.status_code == 302, second.context["errors"]
    assert list(PrivateDestination.objects.values_list("host", "port")) == [("127.0.0.1", 9)]
    assert AuditEvent.objects.filter(action="private_destination:allow", actor="admin").count() == 1


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("url", "ftp://example.com/x", "must begin with https://"),
        ("url", "https://user:pw@example.com/mcp", "user name"),
        ("url", "https://does-not-exist.invalid/mcp", "cannot be resolved"),
        ("ca_certificate", "nonsense", "not a PEM certificate"),
        ("ca_certificate", "-----BEGIN PRIVATE KEY-----", "private key"),
        ("static_headers", "Host: evil", "set by the gateway itself"),
        ("static_headers", "Mcp-Method: x", "set by the gateway itself"),
        ("static_headers", "Authorization: Bearer x", "carries a credential"),
        ("static_headers", "no colon", "Name: value"),
        ("allowed_request_headers", "authorization", "carries a credential"),
        ("allowed_request_headers", "Transfer-Encoding", "set by the gateway itself"),
    ],
)
def test_what_cannot_work_is_explained_at_the_field(cast: Cast, field: str, value: str, words: str) -> None:
    PrivateDestination.objects.create(host="127.0.0.1", port=9)
    data = form_data(tenant=str(cast.tenant.pk)) | {field: value}
    answer = signed_in(cast.admin).post(page("servers_server_add"), data)
    assert answer.status_code == 200
    assert words in " ".join(answer.context["adminform"].form.errors.get(field, []))


def test_headers_are_written_as_lines_and_stored_as_data(cast: Cast) -> None:
    data = form_data(cast.server, static_headers="X-Team: blue\nX-Region: eu", allowed_request_headers="X-Trace\nX-Tag")
    assert signed_in(cast.manager).post(page("servers_server_change", cast.server.pk), data).status_code == 302
    stored = Server.objects.get(pk=cast.server.pk)
    assert stored.static_headers == {"X-Team": "blue", "X-Region": "eu"}
    assert stored.allowed_request_headers == ["X-Trace", "X-Tag"]
    shown = signed_in(cast.manager).get(page("servers_server_change", cast.server.pk)).content.decode()
    assert "X-Team: blue" in shown


def test_ending_sessions_asks_first_and_is_recorded(cast: Cast) -> None:
    client = signed_in(cast.manager)
    chosen = {"action": "end_sessions", "_selected_action": str(cast.server.pk)}
    assert "End sessions?" in client.post(page("servers_server_changelist"), chosen).content.decode()
    assert Server.objects.get(pk=cast.server.pk).session_epoch == 1
    client.post(page("servers_server_changelist"), {**chosen, "confirmed": "yes"})
    assert Server.objects.get(pk=cast.server.pk).session_epoch == 2
    assert AuditEvent.objects.get(action="server:end_sessions").actor == "manager"


def test_disabling_from_the_list_is_recorded(cast: Cast) -> None:
    signed_in(cast.manager).post(
        page("servers_server_changelist"), {"action": "disable", "_selected_action": str(cast.server.pk)}
    )
    assert not Server.objects.get(pk=cast.server.pk).enabled
    assert AuditEvent.objects.get(action="server:change").detail["enabled"] is False


@pytest.mark.parametrize("what", ["servers_server", "servers_servergroup"])
def test_the_lists_need_no_more_queries_for_more_rows(
    cast: Cast, what: str, django_assert_num_queries: Any, django_assert_max_num_queries: Any
) -> None:
    client = signed_in(cast.admin)

    def add(count: int) -> None:
        for number in range(count):
            name = f"n{Server.objects.count()}-{number}"
            group = ServerGroup.objects.create(tenant=cast.tenant, name=name, slug=name)
            server = Server.objects.create(
                tenant=cast.tenant, group=group, name=name, slug=name, url="https://x.example/"
            )
            AuthConfig.objects.create(server=server)

    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    add(2)
    client.get(page(f"{what}_changelist"))
    with CaptureQueriesContext(connection) as few:
        client.get(page(f"{what}_changelist"))
    add(30)
    with django_assert_max_num_queries(len(few)):
        client.get(page(f"{what}_changelist"))
    assert len(few) < 16
