"""Header Auth and secrets in the admin: write-only everywhere, and used by those who may."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.test import Client

from servers.models import AuditEvent, AuthConfig, Membership, PrivateDestination, Server, StoredSecret
from servers.secrets.resolver import fill
from servers.secrets.store import open_secret, set_secret
from tests.conftest import Cast
from tests.servers.test_admin_access import form_data, page, signed_in

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-302", "F-401")]

CANARY = "canary-7f1d-secret"


def with_headers(server: Server, *rows: tuple[str, str, str], **changes: Any) -> dict[str, Any]:
    """Form data with rows of header name, value and the stored header that the row stands for."""
    data = form_data(server, method="shared_header", **changes)
    for number, (name, value, stored) in enumerate(rows):
        data |= {f"headers-{number}-name": name, f"headers-{number}-value": value, f"headers-{number}-stored": stored}
    return data


def change(client: Client, server: Server, data: dict[str, Any]) -> Any:
    return client.post(page("servers_server_change", server.pk), data)


def errors(answer: Any) -> str:
    assert answer.status_code == 200
    return " ".join(answer.context["adminform"].form.errors.get("headers", []))


@pytest.fixture
def keyed(cast: Cast) -> Server:
    """The cast's server with a stored header value."""
    data = with_headers(cast.server, ("Authorization", f"Bearer {CANARY}", ""))
    assert change(signed_in(cast.manager), cast.server, data).status_code == 302
    return cast.server


def test_a_plain_value_goes_to_the_store_and_only_its_name_to_the_server(cast: Cast, keyed: Server) -> None:
    config = AuthConfig.objects.get(server=keyed)
    assert config.method == "shared_header"
    assert config.header_templates() == [("Authorization", "secret://default:calculator:authorization")]
    assert open_secret(StoredSecret.objects.get()) == f"Bearer {CANARY}"
    assert AuditEvent.objects.filter(action="secret:set", actor="manager").count() == 1


@pytest.mark.requirement("T56")
def test_a_secret_is_in_no_page_history_message_or_row(
    cast: Cast, keyed: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = StoredSecret.objects.get()
    client = signed_in(cast.admin)
    pages = [page("index")]
    for model in ("server", "servergroup", "storedsecret", "auditevent", "call", "tenant", "privatedestination"):
        pages.append(page(f"servers_{model}_changelist"))
    for name in ("change", "history", "delete"):
        pages += [page(f"servers_server_{name}", keyed.pk), page(f"servers_storedsecret_{name}", secret.pk)]
    pages += [page("servers_auditevent_change", event.pk) for event in AuditEvent.objects.all()]
    for url in pages:
        answer = client.get(url)
        assert answer.status_code == 200, url
        assert CANARY not in answer.content.decode(), url
    shown = client.get(page("servers_server_change", keyed.pk)).content.decode()
    assert "secret://default:calculator:authorization, set on" in shown
    for model in apps.get_models():
        assert CANARY not in repr(list(model._default_manager.values())), model
    assert CANARY not in " ".join(entry.get_change_message() for entry in LogEntry.objects.all())
    assert CANARY not in caplog.text


def test_a_refused_form_does_not_give_the_typed_value_back(cast: Cast) -> None:
    data = with_headers(cast.server, ("Authorization", CANARY, ""), ("Bad Name", CANARY, ""), slug="Not A Slug")
    answer = change(signed_in(cast.manager), cast.server, data)
    assert answer.status_code == 200
    assert CANARY not in answer.content.decode()
    assert "enter those you had typed once more" in answer.content.decode()


def test_an_empty_value_keeps_what_is_set(cast: Cast, keyed: Server) -> None:
    data = with_headers(keyed, ("Authorization", "", "Authorization"), name="Renamed")
    assert change(signed_in(cast.manager), keyed, data).status_code == 302
    assert open_secret(StoredSecret.objects.get()) == f"Bearer {CANARY}"
    assert Server.objects.get(pk=keyed.pk).name == "Renamed"


def test_a_new_value_replaces_the_old_one_under_the_same_name(cast: Cast, keyed: Server) -> None:
    data = with_headers(keyed, ("Authorization", "Bearer other", "Authorization"))
    assert change(signed_in(cast.manager), keyed, data).status_code == 302
    assert open_secret(StoredSecret.objects.get()) == "Bearer other"


def test_a_shared_secret_is_not_overwritten_by_a_value_typed_for_one_server(cast: Cast, keyed: Server) -> None:
    second = Server.objects.create(tenant=cast.tenant, slug="second", name="Second", url="http://127.0.0.1:7/mcp")
    config = AuthConfig(server=second, method="shared_header")
    config.set_header_templates([("X-Key", "secret://default:calculator:authorization")])
    config.save()
    data = with_headers(keyed, ("Authorization", "Bearer mine", "Authorization"))
    assert change(signed_in(cast.manager), keyed, data).status_code == 302
    (mine,) = AuthConfig.objects.get(server=keyed).header_templates()
    assert fill(mine[1], cast.tenant) == "Bearer mine"
    assert fill(config.header_templates()[0][1], cast.tenant) == f"Bearer {CANARY}"


def test_several_headers_and_removal(cast: Cast, keyed: Server) -> None:
    data = with_headers(keyed, ("Authorization", "", "Authorization"), ("X-Org", "acme", ""))
    assert change(signed_in(cast.manager), keyed, data).status_code == 302
    assert [n for n, _ in AuthConfig.objects.get(server=keyed).header_templates()] == ["Authorization", "X-Org"]
    data = with_headers(keyed, ("Authorization", "", "Authorization"), ("X-Org", "", "X-Org"))
    change(signed_in(cast.manager), keyed, data | {"headers-0-remove": "on"})
    assert [n for n, _ in AuthConfig.objects.get(server=keyed).header_templates()] == ["X-Org"]


def test_no_auth_forgets_the_headers(cast: Cast, keyed: Server) -> None:
    assert change(signed_in(cast.manager), keyed, form_data(keyed)).status_code == 302
    config = AuthConfig.objects.get(server=keyed)
    assert (config.method, config.header_templates()) == ("none", [])


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("Host", "x", "set by the gateway itself"),
        ("Connection", "x", "set by the gateway itself"),
        ("MCP-Session-Id", "x", "set by the gateway itself"),
        ("Content-Length", "5", "set by the gateway itself"),
        ("X Y", "x", "letters, digits and hyphens"),
        ("X-Key", f"{CANARY}\r\nHost: evil", "one line"),
        ("X-Key", "schlüssel", "one line"),
        ("X-Key", "", "enter a value"),
        ("", CANARY, "no header name"),
        ("X-Key", "secret://default:x", "malformed"),
        ("X-Key", "secret://default:no:such", "There is no secret"),
        ("X-Key", "secret://other:a:b", "There is no secret"),
        ("X-Key", "env://NOT_LISTED", "not allowed"),
        ("X-Key", "file:///etc/passwd", "not allowed"),
    ],
)
def test_bad_headers_and_references_are_explained(cast: Cast, name: str, value: str, words: str) -> None:
    set_secret(tenant=cast.other_tenant, group="a", key="b", value="x", actor="t")
    answer = change(signed_in(cast.admin), cast.server, with_headers(cast.server, (name, value, "")))
    assert words in errors(answer)
    assert CANARY not in errors(answer)
    assert AuthConfig.objects.get(server=cast.server).method == "none"


@pytest.mark.parametrize(
    ("value", "filled"),
    [
        ("secret://default:team:token", "t0ken"),
        ("Bearer tfy-secret://default:team:token", "Bearer t0ken"),
        ("env://TEST_UPSTREAM_TOKEN", "canary-environment-secret"),
    ],
)
def test_an_admin_uses_references(cast: Cast, value: str, filled: str) -> None:
    set_secret(tenant=cast.tenant, group="team", key="token", value="t0ken", actor="t")
    answer = change(signed_in(cast.admin), cast.server, with_headers(cast.server, ("X-Key", value, "")))
    assert answer.status_code == 302, errors(answer)
    ((_, template),) = AuthConfig.objects.get(server=cast.server).header_templates()
    assert template == value
    assert fill(template, cast.tenant) == filled
    shown = signed_in(cast.admin).get(page("servers_server_change", cast.server.pk)).content.decode()
    assert filled not in shown


def test_a_manager_cannot_borrow_secrets_of_the_tenant(cast: Cast) -> None:
    set_secret(tenant=cast.tenant, group="team", key="token", value="t0ken", actor="t")
    for value in ("secret://default:team:token", "env://TEST_UPSTREAM_TOKEN"):
        answer = change(signed_in(cast.manager), cast.server, with_headers(cast.server, ("X-Key", value, "")))
        assert "only a tenant admin may use this reference" in errors(answer)


def test_a_stored_secret_does_not_follow_a_manager_to_another_host(cast: Cast, keyed: Server) -> None:
    for port in (9, 10):
        PrivateDestination.objects.create(host="127.0.0.1", port=port)
    rows = ("Authorization", "", "Authorization")
    moved = with_headers(keyed, rows, url="http://127.0.0.1:10/mcp")
    assert "host changed" in errors(change(signed_in(cast.manager), keyed, moved))
    again = with_headers(keyed, ("Authorization", "Bearer new", "Authorization"), url="http://127.0.0.1:10/mcp")
    assert change(signed_in(cast.manager), keyed, again).status_code == 302
    assert change(signed_in(cast.admin), keyed, with_headers(keyed, rows)).status_code == 302


def test_secrets_are_for_tenant_admins_and_write_only(cast: Cast) -> None:
    person = get_user_model().objects.create_user("tina", "tina@example.com", "x")
    Membership.objects.filter(user=person).update(role=Membership.Role.ADMIN)
    client = signed_in(person)
    data = {"group": "team", "key": "token", "value": CANARY}
    assert client.post(page("servers_storedsecret_add"), data).status_code == 302
    secret = StoredSecret.objects.get()
    assert open_secret(secret) == CANARY
    assert client.post(page("servers_storedsecret_change", secret.pk), {"value": "next"}).status_code == 302
    assert open_secret(StoredSecret.objects.get()) == "next"
    assert AuditEvent.objects.filter(action="secret:set", actor="tina").count() == 2
    assert signed_in(cast.manager).get(page("servers_storedsecret_change", secret.pk)).status_code == 403


def test_a_secret_that_is_used_is_not_deleted(cast: Cast, keyed: Server) -> None:
    secret = StoredSecret.objects.get()
    client = signed_in(cast.admin)
    answer = client.post(page("servers_storedsecret_delete", secret.pk), {"post": "yes"})
    assert "is used by Calculator" in answer.content.decode()
    chosen = {"action": "delete_selected", "_selected_action": str(secret.pk), "post": "yes"}
    client.post(page("servers_storedsecret_changelist"), chosen)
    assert StoredSecret.objects.exists()
    change(client, keyed, form_data(keyed))
    client.post(page("servers_storedsecret_delete", secret.pk), {"post": "yes"})
    assert not StoredSecret.objects.exists()
    assert AuditEvent.objects.filter(action="secret:delete").count() == 1
