"""Test connection in the admin: who may test what, with which secret, and what is kept."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connection as database
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from servers import health
from servers.models import AuditEvent, AuthConfig, PrivateDestination, Server, Tenant
from servers.secrets.store import set_secret
from tests.conftest import Cast, allow_private
from tests.servers.test_admin_access import form_data, page, signed_in
from tests.support.mcp_upstream import answering, calculator, http_answer, requiring, serving

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requirement("F-806")]

CANARY = "canary-55aa-secret"


def draft(person: Any, data: dict[str, Any]) -> Any:
    """What the button sends; a superuser of several tenants has chosen one."""
    data = data if "server_id" in data else data | {"tenant": str(Tenant.objects.get(slug="default").pk)}
    return signed_in(person).post(reverse("test-connection-draft"), data, headers={"accept": "application/json"})


def headers(*rows: tuple[str, str, str]) -> dict[str, str]:
    data = {"method": "shared_header"}
    for number, (name, value, stored) in enumerate(rows):
        data |= {f"headers-{number}-name": name, f"headers-{number}-value": value, f"headers-{number}-stored": stored}
    return data


def test_unsaved_values_are_tested_and_nothing_is_saved(cast: Cast) -> None:
    before = Server.objects.get(pk=cast.server.pk)
    with serving(requiring(calculator(), "X-Key", CANARY)) as url:
        allow_private(url)
        good = draft(cast.admin, form_data(url=url) | headers(("X-Key", CANARY, "")))
        bad = draft(cast.admin, form_data(url=url) | headers(("X-Key", "wrong", "")))
    assert good.json()["ok"], good.json()
    assert good.json()["versions"] == ["2026-07-28", "2025-11-25"]
    assert (good.json()["server_name"], good.json()["tools"]) == ("Calculator", 2)
    assert "refused the credential (401)" in bad.json()["sentence"]
    assert CANARY not in good.content.decode()
    assert Server.objects.count() == 1
    assert Server.objects.get(pk=cast.server.pk).health == before.health


def test_an_empty_value_means_the_stored_secret_on_the_same_host_only(cast: Cast) -> None:
    seen: list[bytes] = []

    def listen(connection: socket.socket, request: bytes) -> None:
        seen.append(request)
        http_answer("404 Not Found")(connection, request)

    with serving(requiring(calculator(), "X-Key", CANARY)) as url, answering(listen) as elsewhere:
        allow_private(url)
        allow_private(elsewhere)
        set_secret(tenant=cast.tenant, group="calculator", key="x-key", value=CANARY, actor="t")
        config = AuthConfig.objects.get(server=cast.server)
        config.method = "shared_header"
        config.set_header_templates([("X-Key", "secret://default:calculator:x-key")])
        config.save()
        Server.objects.filter(pk=cast.server.pk).update(url=url)
        server = Server.objects.get(pk=cast.server.pk)
        kept = headers(("X-Key", "", "X-Key"))
        same = draft(cast.manager, form_data(server, server_id=str(server.pk)) | kept)
        for person in (cast.manager, cast.admin):
            moved = draft(person, form_data(server, url=elsewhere, server_id=str(server.pk)) | kept)
            assert "host changed" in moved.json()["sentence"]
    assert same.json()["ok"], same.json()
    assert seen == []


def test_who_may_not_manage_the_server_may_not_test_it(cast: Cast) -> None:
    other = Server.objects.create(tenant=cast.tenant, slug="second", name="Second", url="http://127.0.0.1:7/mcp")
    AuthConfig.objects.create(server=other)
    assert draft(cast.manager, form_data(other, server_id=str(other.pk))).status_code == 404
    assert draft(cast.manager, form_data()).status_code == 403
    assert signed_in(cast.manager).post(reverse("test-connection", args=[other.pk])).status_code == 404
    for person in (cast.member, cast.outsider, cast.stranger):
        assert draft(person, form_data()).status_code == 302
        assert signed_in(person).post(reverse("test-connection", args=[cast.server.pk])).status_code == 302
    assert signed_in(cast.manager).get(reverse("test-connection", args=[cast.server.pk])).status_code == 405
    assert not AuditEvent.objects.filter(action="server:test").exists()


@pytest.mark.requirement("T13")
def test_a_test_needs_the_csrf_token(cast: Cast) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast.admin)
    assert client.post(reverse("test-connection-draft"), form_data()).status_code == 403
    assert client.post(reverse("test-connection", args=[cast.server.pk])).status_code == 403


def test_a_saved_server_keeps_its_health(cast: Cast) -> None:
    with serving(calculator()) as url:
        allow_private(url)
        Server.objects.filter(pk=cast.server.pk).update(url=url)
        answer = signed_in(cast.manager).post(reverse("test-connection", args=[cast.server.pk]))
    assert "Calculator 1.2.3" in answer.content.decode()
    server = Server.objects.get(pk=cast.server.pk)
    assert server.health == "ok"
    assert server.health_at is not None
    assert server.health_detail["tools"] == 2
    event = AuditEvent.objects.get(action="server:test")
    assert (event.actor, event.detail["ok"]) == ("manager", True)


def saved(person: Any, data: dict[str, Any], note: str) -> Server:
    """The server that the add form makes when it posts what the test gave it."""
    data = data | {"tenant": str(Tenant.objects.get(slug="default").pk), "tested": note}
    answer = signed_in(person).post(page("servers_server_add"), data)
    assert answer.status_code == 302, answer.context["errors"]
    return Server.objects.get(slug=data["slug"])


def test_a_test_before_the_first_save_is_the_health_of_the_new_server(cast: Cast) -> None:
    with serving(requiring(calculator(), "X-Key", CANARY)) as url:
        allow_private(url)
        good = form_data(url=url, static_headers="X-Team: a") | headers(("X-Key", CANARY, ""))
        bad = form_data(url=url, slug="bad", name="Bad") | headers(("X-Key", "wrong", ""))
        notes = [draft(cast.admin, data).json()["note"] for data in (good, bad)]
        server, refused = saved(cast.admin, good, notes[0]), saved(cast.admin, bad, notes[1])
    assert (server.health, server.health_detail["tools"]) == ("ok", 2)
    assert server.health_at is not None
    assert timezone.now() - server.health_at < timedelta(minutes=1)
    assert refused.health == "auth"
    assert "401" in refused.health_detail["sentence"]
    assert CANARY not in str(server.health_detail)


@pytest.mark.parametrize(
    "changed",
    [
        {"url": "http://127.0.0.1:9/other"},
        {"method": "none"},
        {"headers-0-value": "another-value"},
        {"headers-0-name": "X-Other"},
        {"static_headers": "X-Team: b"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_a_test_says_nothing_about_other_values(cast: Cast, changed: dict[str, str]) -> None:
    tested = form_data(static_headers="X-Team: a") | headers(("X-Key", CANARY, ""))
    allow_private(tested["url"])
    note = draft(cast.admin, tested).json()["note"]
    assert note
    assert saved(cast.admin, tested | {"slug": "same", "name": "Same"}, note).health == "unreachable"
    assert saved(cast.admin, tested | changed, note).health == "unknown"


def test_a_note_that_is_altered_or_another_persons_counts_for_nothing(cast: Cast) -> None:
    tested = form_data()
    allow_private(tested["url"])
    note = draft(cast.admin, tested).json()["note"]
    other = type(cast.admin).objects.create_superuser("root", "root@example.com")
    assert saved(other, tested | {"slug": "one"}, note).health == "unknown"
    altered = note.replace(":", ":A", 1)
    assert saved(cast.admin, tested | {"slug": "two"}, altered).health == "unknown"
    assert saved(cast.admin, tested | {"slug": "three"}, "").health == "unknown"


def test_a_note_counts_for_a_quarter_of_an_hour(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    tested = form_data()
    allow_private(tested["url"])
    note = draft(cast.admin, tested).json()["note"]
    client = signed_in(cast.admin)
    late = time.time() + health.NOTE_SECONDS + 5
    monkeypatch.setattr("django.core.signing.time", SimpleNamespace(time=lambda: late))
    data = tested | {"tenant": str(cast.tenant.pk), "tested": note}
    assert client.post(page("servers_server_add"), data).status_code == 302
    assert Server.objects.get(slug="new-one").health == "unknown"


def test_a_refused_private_address_is_not_kept_since_saving_may_allow_it(cast: Cast) -> None:
    answer = draft(cast.admin, form_data()).json()
    assert (answer["ok"], answer["note"]) == (False, "")


def test_values_of_a_saved_server_are_tested_and_then_saved(cast: Cast) -> None:
    with serving(calculator()) as url:
        allow_private(url)
        data = form_data(cast.server, url=url, server_id=str(cast.server.pk))
        note = draft(cast.manager, data).json()["note"]
        answer = signed_in(cast.manager).post(page("servers_server_change", cast.server.pk), data | {"tested": note})
    assert answer.status_code == 302, answer.context["errors"]
    assert Server.objects.get(pk=cast.server.pk).health == "ok"


def _change_config(cast: Cast) -> None:
    config = AuthConfig.objects.get(server=cast.server)
    config.set_header_templates([("X-Key", "secret://default:calculator:other")])
    config.save()


def _change_server(**values: Any) -> Callable[[Cast], None]:
    def change(cast: Cast) -> None:
        server = Server.objects.get(pk=cast.server.pk)
        for name, value in values.items():
            setattr(server, name, value)
        server.save()

    return change


@pytest.mark.parametrize(
    ("change", "health_after"),
    [
        (_change_server(url="https://elsewhere.example/mcp"), "unknown"),
        (_change_server(static_headers={"X-Team": "b"}), "unknown"),
        (_change_server(ca_certificate="x"), "unknown"),
        (_change_config, "unknown"),
        (lambda c: set_secret(tenant=c.tenant, group="calculator", key="x-key", value="new", actor="t"), "unknown"),
        (_change_server(description="text", enabled=False), "ok"),
        (lambda c: set_secret(tenant=c.tenant, group="calculator", key="y-key", value="new", actor="t"), "ok"),
    ],
    ids=["url", "extra headers", "authorities", "headers", "a secret's value", "description", "another secret"],
)
def test_what_a_test_depends_on_makes_it_void_when_it_changes(
    cast: Cast, change: Callable[[Cast], None], health_after: str
) -> None:
    set_secret(tenant=cast.tenant, group="calculator", key="x-key", value=CANARY, actor="t")
    config = AuthConfig.objects.get(server=cast.server)
    config.method = "shared_header"
    config.set_header_templates([("X-Key", "secret://default:calculator:x-key")])
    config.save()
    Server.objects.update(health="ok", health_at=timezone.now(), health_detail={"tools": 2})
    change(cast)
    server = Server.objects.get(pk=cast.server.pk)
    assert server.health == health_after
    assert (server.health_at is None, server.health_detail == {}) == (health_after == "unknown",) * 2


def test_several_servers_are_tested_from_the_list(cast: Cast) -> None:
    with serving(calculator()) as good, answering(http_answer("500 Oops", b"<b>no</b>")) as bad:
        for url in (good, bad):
            allow_private(url)
        Server.objects.filter(pk=cast.server.pk).update(url=good)
        broken = Server.objects.create(tenant=cast.tenant, slug="broken", name="Broken", url=bad)
        unset = Server.objects.create(tenant=cast.tenant, slug="unset", name="Unset", url=good)
        config = AuthConfig(server=unset, method="shared_header")
        config.set_header_templates([("X-Key", "secret://default:no:where")])
        config.save()
        chosen = [str(s.pk) for s in (cast.server, broken, unset)]
        answer = signed_in(cast.admin).post(
            page("servers_server_changelist"), {"action": "test_connections", "_selected_action": chosen}
        )
    text = answer.content.decode()
    assert "problem of its own (HTTP 500)" in text
    assert "There is no secret secret://default:no:where" in text
    assert "<b>no</b>" not in text
    assert dict(Server.objects.values_list("name", "health")) == {
        "Calculator": "ok", "Broken": "failing", "Unset": "auth",
    }  # fmt: skip


def test_no_transaction_is_open_while_the_network_is_used(cast: Cast) -> None:
    open_blocks: list[bool] = []

    def look(connection: socket.socket, request: bytes) -> None:
        # SQLite lets one writer in: this write waits in vain if the test holds a transaction.
        allow_private("http://127.0.0.1:11/")
        open_blocks.append(False)
        database.close()
        http_answer("404 Not Found")(connection, request)

    with answering(look) as url:
        allow_private(url)
        answer = draft(cast.admin, form_data(url=url))
    assert open_blocks
    assert "no MCP endpoint" in answer.json()["sentence"]


@pytest.mark.requirement("T26")
def test_a_superuser_allows_a_private_address_from_the_test(cast: Cast) -> None:
    with serving(calculator()) as url:
        place = url.split("/")[2]
        asked = draft(cast.admin, form_data(url=url)).json()
        assert (asked["ok"], asked["can_allow"]) == (False, place)
        manager = draft(
            cast.manager, form_data(cast.server, url=url, server_id=str(cast.server.pk), allow_private="on")
        ).json()
        assert (manager["ok"], manager["can_allow"]) == (False, "")
        assert not PrivateDestination.objects.exists()
        allowed = draft(cast.admin, form_data(url=url, allow_private="on")).json()
    assert allowed["ok"], allowed
    assert [str(row) for row in PrivateDestination.objects.all()] == [place]
    assert AuditEvent.objects.filter(action="private_destination:allow").count() == 1


def test_mistakes_in_the_form_are_said_instead_of_tested(cast: Cast) -> None:
    answer = draft(cast.admin, form_data(url="ftp://x") | headers(("Host", "x", "")))
    assert answer.json()["step"] == "form"
    assert "https://" in answer.json()["sentence"]


def test_without_scripts_the_answer_is_a_page(cast: Cast) -> None:
    data = form_data(url="https://nowhere.invalid/mcp", tenant=str(cast.tenant.pk))
    answer = signed_in(cast.admin).post(reverse("test-connection-draft"), data)
    assert "cannot be resolved" in answer.content.decode()
    assert "<script>" not in answer.content.decode()


def test_the_policy_on_every_page_allows_nothing_inline(cast: Cast) -> None:
    client = signed_in(cast.admin)
    for url in (page("index"), page("servers_server_add"), page("servers_server_change", cast.server.pk)):
        answer = client.get(url)
        assert "unsafe-inline" not in answer["Content-Security-Policy"]
        assert "default-src 'self'" in answer["Content-Security-Policy"]
        text = answer.content.decode()
        assert " style=" not in text
        assert " onclick=" not in text


@pytest.mark.requirement("F-308")
def test_a_server_with_keys_of_peoples_own_is_well_when_it_asks_for_one(cast: Cast) -> None:
    with serving(requiring(calculator(), "Authorization", f"Bearer {CANARY}")) as url:
        allow_private(url)
        Server.objects.filter(pk=cast.server.pk).update(url=url)
        AuthConfig.objects.filter(server=cast.server).update(
            method="own_header", settings={"headers": [{"name": "Authorization", "value": "Bearer {{API_KEY}}"}]}
        )
        signed_in(cast.admin).post(reverse("test-connection", args=[cast.server.pk]))
        draft_of_it = form_data(url=url) | {"method": "own_header", "own_headers": "Authorization: Bearer {{API_KEY}}"}
        found = draft(cast.admin, draft_of_it).json()
    server = Server.objects.get(pk=cast.server.pk)
    assert (server.health, server.health_detail["step"]) == ("ok", "")
    assert found["ok"], found
