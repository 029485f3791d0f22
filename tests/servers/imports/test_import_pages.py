"""The import in the admin: preview, choice, and all or nothing."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from servers.models import (
    AccessRule,
    AuditEvent,
    AuthConfig,
    Membership,
    PrivateDestination,
    Role,
    Server,
    ServerGroup,
    StoredSecret,
)
from servers.secrets.store import open_secret
from tests.conftest import Cast
from tests.servers.test_admin_access import page, signed_in

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-112")]
SECRET = "ghp_very_secret_value"
FILE = {
    "mcpServers": {
        "plain": {"url": "http://127.0.0.1:9/plain"},
        "keyed": {"url": "http://127.0.0.1:9/keyed", "headers": {"Authorization": f"Bearer {SECRET}", "X-Org": "acme"}},
        "open": {"url": "http://127.0.0.1:9/open", "headers": {"Authorization": "Bearer ${TOKEN}"}},
        "local": {"command": "uvx", "args": ["local-server"], "env": {"KEY": SECRET}},
        "here": {"url": "http://127.0.0.1:9/mcp"},
    }
}


@pytest.fixture
def allowed(cast: Cast) -> None:
    PrivateDestination.objects.create(host="127.0.0.1", port=9)


@pytest.fixture
def tenant_admin(cast: Cast) -> Any:
    Membership.objects.filter(user=cast.outsider, tenant=cast.tenant).update(role=Membership.Role.ADMIN)
    return cast.outsider


def preview(client: Client, document: Any = FILE, **more: Any) -> Any:
    text = document if isinstance(document, str) else json.dumps(document)
    return client.post(page("servers_server_import"), {"text": text, **more})


def hidden(body: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(draft|tenant|group)" value="([^"]*)"', body))


def add(client: Client, body: str, *entries: int, **values: str) -> Any:
    data = {**hidden(body), "entry": [str(number) for number in entries], **values}
    return client.post(page("servers_server_import"), data, follow=True)


@pytest.mark.usefixtures("allowed")
def test_the_preview_has_a_line_for_each_entry_adds_nothing_and_shows_no_secret(tenant_admin: Any) -> None:
    client = signed_in(tenant_admin)
    with CaptureQueriesContext(connection) as queries:
        answer = preview(client)
    body = answer.content.decode()
    assert len(queries) <= 20
    for words in (
        "Will be added",
        "Needs a value",
        "Exists already",
        "Cannot be added",
        "program that the client starts",
    ):
        assert words in body
    assert SECRET not in body
    assert "Calculator" in body
    assert Server.objects.count() == 1


@pytest.mark.usefixtures("allowed")
def test_what_was_chosen_is_added_with_its_secrets_in_the_store(cast: Cast, tenant_admin: Any) -> None:
    client = signed_in(tenant_admin)
    answer = add(client, preview(client).content.decode(), 0, 1, 2)
    assert "3 servers added" in answer.content.decode()
    assert SECRET not in answer.content.decode()
    plain, keyed, opened = (Server.objects.get(slug=slug) for slug in ("plain", "keyed", "open"))
    assert plain.auth_config.method == AuthConfig.Method.NONE
    assert keyed.auth_config.method == AuthConfig.Method.SHARED_HEADER
    assert SECRET not in json.dumps(keyed.auth_config.settings)
    stored = {one.key: open_secret(one) for one in StoredSecret.objects.filter(group="keyed")}
    assert stored == {"authorization": f"Bearer {SECRET}", "x-org": "acme"}
    assert opened.auth_config.method == AuthConfig.Method.OWN_HEADER
    assert opened.auth_config.settings["headers"] == [{"name": "Authorization", "value": "Bearer {{TOKEN}}"}]
    assert AccessRule.objects.filter(user=tenant_admin, role=Role.MANAGER).count() == 3
    events = AuditEvent.objects.filter(action="server:create")
    assert {event.subject for event in events} == {"plain", "keyed", "open"}
    assert SECRET not in str([event.detail for event in AuditEvent.objects.all()])
    assert {server.tenant for server in (plain, keyed, opened)} == {cast.tenant}


@pytest.mark.usefixtures("allowed")
def test_a_value_that_was_typed_is_shared_by_all(tenant_admin: Any) -> None:
    client = signed_in(tenant_admin)
    add(client, preview(client).content.decode(), 2, **{"value-2-0": SECRET})
    opened = Server.objects.get(slug="open")
    assert opened.auth_config.method == AuthConfig.Method.SHARED_HEADER
    assert open_secret(StoredSecret.objects.get(group="open")) == f"Bearer {SECRET}"


@pytest.mark.usefixtures("allowed")
def test_where_people_enter_one_value_the_others_stand_as_references(tenant_admin: Any) -> None:
    client = signed_in(tenant_admin)
    entry = {"url": "http://127.0.0.1:9/both", "headers": {"X-Org": SECRET, "Authorization": "Bearer ${TOKEN}"}}
    add(client, preview(client, {"mcpServers": {"both": entry}}).content.decode(), 0)
    stored = Server.objects.get(slug="both").auth_config.settings
    assert {one["name"]: one["value"] for one in stored["headers"]} == {
        "X-Org": "secret://default:both:x-org", "Authorization": "Bearer {{TOKEN}}",
    }  # fmt: skip


def test_one_bad_choice_and_nothing_is_added(tenant_admin: Any) -> None:
    """The private address is not allowed, so neither server comes."""
    PrivateDestination.objects.create(host="127.0.0.1", port=9)
    client = signed_in(tenant_admin)
    document = {"mcpServers": {"good": {"url": "http://127.0.0.1:9/good"}, "bad": {"url": "http://127.0.0.1:10/bad"}}}
    answer = add(client, preview(client, document).content.decode(), 0, 1)
    body = answer.content.decode()
    assert "Nothing was imported yet" in body
    assert "127.0.0.1:10 is a private address" in body
    assert not Server.objects.filter(slug__in=("good", "bad")).exists()
    again = add(client, body, 0)
    assert "1 server added" in again.content.decode()


@pytest.mark.usefixtures("allowed")
def test_a_value_inside_a_longer_text_has_to_be_entered(tenant_admin: Any) -> None:
    client = signed_in(tenant_admin)
    entry = {"url": "http://127.0.0.1:9/mixed", "headers": {"X-Auth": "account=7;key=${KEY}"}}
    body = preview(client, {"mcpServers": {"mixed": entry}}).content.decode()
    assert "Enter the value" in add(client, body, 0).content.decode()
    assert not Server.objects.filter(slug="mixed").exists()
    add(client, body, 0, **{"value-0-0": "k"})
    assert open_secret(StoredSecret.objects.get(group="mixed")) == "account=7;key=k"


@pytest.mark.usefixtures("allowed")
def test_a_known_server_that_wants_a_sign_in_comes_switched_off_with_its_preset(
    tenant_admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("servers.egress._lookup", lambda destination: ["203.0.114.7"])
    client = signed_in(tenant_admin)
    body = preview(client, {"servers": {"gh": {"url": "https://api.githubcopilot.com/mcp/"}}}).content.decode()
    assert "Preset GitHub" in body
    assert "Switched off" in add(client, body, 0).content.decode()
    server = Server.objects.get(slug="gh")
    assert (server.enabled, server.preset) == (False, "github")


@pytest.mark.usefixtures("allowed")
def test_a_file_is_taken_as_well_as_a_text(tenant_admin: Any) -> None:
    client = signed_in(tenant_admin)
    upload = SimpleUploadedFile("mcp.json", b"\xef\xbb\xbf" + json.dumps(FILE).encode(), "application/json")
    assert "Preview of the import" in client.post(page("servers_server_import"), {"file": upload}).content.decode()
    for content, words in (
        (b"\xff\xfe\x00", "UTF-8"),
        (b"x" * 600_000, "larger than 256 KiB"),
        (b"{", "Line 1, column 2"),
    ):
        bad = SimpleUploadedFile("mcp.json", content, "application/json")
        assert words in client.post(page("servers_server_import"), {"file": bad}).content.decode()


def test_broken_json_says_line_and_column(tenant_admin: Any) -> None:
    body = preview(signed_in(tenant_admin), '{\n "mcpServers": {"a" 1}\n}').content.decode()
    assert "Line 2, column 21" in body


@pytest.mark.usefixtures("allowed")
def test_a_preview_is_of_one_person_and_of_an_hour(
    cast: Cast, tenant_admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = preview(signed_in(tenant_admin)).content.decode()
    foreign = add(signed_in(cast.admin), body, 0)
    assert "The preview has ended" in foreign.content.decode()
    damaged = body.replace('name="draft" value="', 'name="draft" value="x')
    assert "The preview has ended" in add(signed_in(tenant_admin), damaged, 0).content.decode()
    monkeypatch.setattr("servers.imports.draft.SECONDS", -1)
    assert "The preview has ended" in add(signed_in(tenant_admin), body, 0).content.decode()
    assert Server.objects.count() == 1


@pytest.mark.usefixtures("allowed")
def test_a_manager_of_a_group_imports_into_it_and_learns_of_no_other_server(cast: Cast) -> None:
    group = ServerGroup.objects.create(tenant=cast.tenant, name="Mine", slug="mine")
    AccessRule.objects.create(group=group, user=cast.outsider, role=Role.MANAGER)
    client = signed_in(cast.outsider)
    assert "Choose a group" in preview(client).content.decode() or "required" in preview(client).content.decode()
    body = preview(client, group=str(group.pk)).content.decode()
    assert "Calculator" not in body
    assert "Exists already" not in body
    add(client, body, 0)
    assert Server.objects.get(slug="plain").group == group


def test_only_people_who_may_add_servers_import(cast: Cast) -> None:
    assert signed_in(cast.manager).get(page("servers_server_import")).status_code == 403
    assert preview(signed_in(cast.manager)).status_code == 403
    assert signed_in(cast.member).get(page("servers_server_import")).status_code in (302, 403)


@pytest.mark.usefixtures("allowed")
def test_the_file_cannot_be_put_into_a_tenant_of_others(cast: Cast, tenant_admin: Any) -> None:
    client = signed_in(tenant_admin)
    body = preview(client, tenant=str(cast.other_tenant.pk)).content.decode()
    add(client, body.replace(str(cast.tenant.pk), str(cast.other_tenant.pk)), 0)
    assert not Server.objects.filter(tenant=cast.other_tenant).exists()
