"""How servers stand for people, connect addresses, revoking, own keys and overrides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from authflows.inbound.virtual_accounts import create_virtual_account
from authflows.models import Connection, OwnKey
from servers.models import AccessRule, AuditEvent, AuthConfig
from tests.conftest import Cast
from tests.proxy.api.conftest import Asker
from tests.support import keyed_server
from tests.support.connected import Guarded, guarded
from tests.support.keyed_server import BETTER, GOOD, Vault, vault
from tests.support.virtual import add_server, virtual_server

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-604")]
HERE = "servers/default/calculator"
VAULT = "servers/default/vault"


@pytest.fixture
def drive(cast: Cast) -> Iterator[Guarded]:
    with guarded(cast) as found:
        yield found


@pytest.fixture
def safe(cast: Cast) -> Iterator[Vault]:
    with vault() as found:
        keyed_server.make_server(cast, found.url)
        yield found


def test_one_request_tells_how_all_servers_stand(me: Asker, cast: Cast, drive: Guarded, safe: Vault) -> None:
    add_server(cast, "open", "http://127.0.0.1:9/mcp")
    drive.connect(cast.member)

    found = {one["server"]["slug"]: one for one in me.get("connections").json()["items"]}

    assert {slug: (one["credential"], one["status"], one["need"]) for slug, one in found.items()} == {
        "calculator": ("account", "ready", None),
        "open": ("nobody", "ready", None),
        "vault": ("own_key", "action_required", "own_key"),
    }
    assert found["calculator"]["account"] == "member-there@example.com"
    assert found["calculator"]["scopes"] == ["files.read"]
    assert "key of your own" in found["vault"]["detail"]
    assert drive.token_of(cast.member) not in str(found)


def test_the_address_leads_to_what_is_missing_and_nowhere_when_nothing_is(
    me: Asker, cast: Cast, drive: Guarded
) -> None:
    found = me.send("POST", f"{HERE}/connect-link").json()
    again = me.send("POST", f"{HERE}/connect-link").json()
    browser = Client()
    browser.force_login(cast.member)

    assert found["connect_url"].startswith(f"{settings.PUBLIC_URL}/connect/")
    assert again["connect_url"] == found["connect_url"]
    assert browser.get(found["connect_url"].removeprefix(settings.PUBLIC_URL)).status_code == 200
    drive.connect(cast.member)
    done = me.send("POST", f"{HERE}/connect-link").json()
    assert (done["status"], done["connect_url"], done["missing"]) == ("ready", None, [])


def test_the_address_of_a_virtual_server_walks_from_member_to_member(
    me: Asker, cast: Cast, drive: Guarded, safe: Vault
) -> None:
    vault_server = keyed_server.with_config(AuthConfig.objects.get(server__slug="vault").server)
    virtual_server(cast, (cast.server, "drive"), (vault_server, "vault"))
    browser = Client()
    browser.force_login(cast.member)

    status = me.get("servers/default/bundle/connection").json()
    found = me.send("POST", "servers/default/bundle/connect-link").json()
    drive.connect(cast.member)
    page = browser.get(found["connect_url"].removeprefix(settings.PUBLIC_URL)).content.decode()

    assert (status["status"], [one["need"] for one in status["members"]]) == (
        "action_required",
        ["connect", "own_key"],
    )
    assert [one["slug"] for one in found["missing"]] == ["calculator", "vault"]
    following = page.partition('href="/connect/')[2].partition('"')[0]
    assert b"Vault" in browser.get(f"/connect/{following}").content
    assert me.get("servers/default/bundle/connection").json()["status"] == "partly_ready"


def test_a_program_cannot_connect(asking: Callable[..., Asker], cast: Cast, drive: Guarded) -> None:
    account = create_virtual_account(cast.tenant, name="robot", description="", actor="tests")
    AccessRule.objects.create(server=cast.server, user=account.user)

    answer = asking(account.user).send("POST", f"{HERE}/connect-link")

    assert (answer.status_code, answer.json()["code"]) == (409, "cannot_connect")


def test_revoking_ends_the_connection_and_twice_is_no_error(me: Asker, cast: Cast, drive: Guarded) -> None:
    drive.connect(cast.member)
    drive.connect(cast.manager)

    first, second = (me.send("DELETE", f"{HERE}/connection") for _ in range(2))

    assert (first.status_code, first.json()["revoked"], first.json()["provider"]) == (200, True, "told")
    assert (second.status_code, second.json()["revoked"]) == (200, False)
    assert Connection.objects.get().user == cast.manager
    assert AuditEvent.objects.filter(action="connection:revoke", actor="member").count() == 1


# Own keys


def test_a_key_is_set_tried_replaced_and_removed(me: Asker, cast: Cast, safe: Vault) -> None:
    asked = me.get(f"{VAULT}/own-key").json()
    set_once = me.send("PUT", f"{VAULT}/own-key", {"values": {"API_KEY": GOOD}})
    replaced = me.send("PUT", f"{VAULT}/own-key", {"values": {"API_KEY": BETTER}, "comment": "laptop"})
    shown = me.get(f"{VAULT}/own-key")

    assert (asked["state"], [one["name"] for one in asked["asks_for"]]) == ("missing", ["API_KEY"])
    assert (set_once.status_code, set_once.json()["tested"]) == (200, True)
    assert replaced.json()["comment"] == "laptop"
    assert shown.json()["state"] == "entered"
    assert all(
        value not in answer.content.decode() for answer in (set_once, replaced, shown) for value in (GOOD, BETTER)
    )
    assert safe.seen[-1] == f"Bearer {BETTER}"
    assert [me.send("DELETE", f"{VAULT}/own-key").status_code for _ in range(2)] == [204, 204]
    assert not OwnKey.objects.exists()


def test_a_key_that_the_server_refuses_is_not_kept(me: Asker, safe: Vault) -> None:
    answer = me.send("PUT", f"{VAULT}/own-key", {"values": {"API_KEY": "canary-wrong"}})

    assert (answer.status_code, answer.json()["code"]) == (422, "key_refused")
    assert "canary-wrong" not in answer.content.decode()
    assert not OwnKey.objects.exists()


@pytest.mark.parametrize(
    "values", [{}, {"API_KEY": ""}, {"API_KEY": "a\nb"}, {"API_KEY": "x", "OTHER": "y"}, {"API_KEY": 1.5}]
)
def test_values_that_cannot_be_are_named(me: Asker, safe: Vault, values: dict[str, Any]) -> None:
    answer = me.send("PUT", f"{VAULT}/own-key", {"values": values})

    if values == {"API_KEY": 1.5}:
        assert answer.json()["code"] == "key_refused"  # "1.5" is a text like others
        return
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    assert set(answer.json()["fields"]["values"]) & {"API_KEY", "OTHER"}


def test_a_server_that_cannot_be_asked_keeps_a_key_only_on_request(me: Asker, cast: Cast) -> None:
    keyed_server.make_server(cast, "http://127.0.0.1:9/mcp")

    refused = me.send("PUT", f"{VAULT}/own-key", {"values": {"API_KEY": GOOD}})
    kept = me.send("PUT", f"{VAULT}/own-key", {"values": {"API_KEY": GOOD}, "keep_untested": True})

    assert (refused.status_code, refused.json()["code"]) == (502, "key_untested")
    assert (kept.status_code, kept.json()["tested"]) == (200, False)


def test_a_server_without_keys_takes_none(me: Asker) -> None:
    answer = me.send("PUT", f"{HERE}/own-key", {"values": {"A": "b"}})

    assert (answer.status_code, answer.json()["code"]) == (409, "key_not_taken")


# For managers, about others


def test_a_manager_sees_and_revokes_what_somebody_has(asking: Callable[..., Asker], cast: Cast, drive: Guarded) -> None:
    drive.connect(cast.member)
    add_server(cast, "elsewhere", "http://127.0.0.1:9/mcp")
    manager = asking(cast.manager)

    listed = manager.get("connections", person="member").json()
    one = manager.get(f"{HERE}/connection", person="member").json()
    revoked = manager.send("DELETE", f"{HERE}/connection?person=member").json()

    assert [item["server"]["slug"] for item in listed["items"]] == ["calculator"]
    assert one["account"] == "member-there@example.com"
    assert revoked["revoked"]
    assert not Connection.objects.exists()
    assert AuditEvent.objects.filter(action="connection:revoke", actor="manager").exists()


def test_a_manager_sets_and_removes_an_override(asking: Callable[..., Asker], cast: Cast, safe: Vault) -> None:
    AccessRule.objects.create(
        server=AuthConfig.objects.get(server__slug="vault").server, user=cast.manager, role="manager"
    )
    manager = asking(cast.manager)

    answer = manager.send("PUT", f"{VAULT}/own-key?person=member", {"values": {"API_KEY": GOOD}, "comment": "by me"})

    assert answer.status_code == 200
    assert (answer.json()["set_by"], OwnKey.objects.get().user) == ("manager", cast.member)
    assert manager.send("DELETE", f"{VAULT}/own-key?person=member").status_code == 204
    assert manager.get(f"{VAULT}/own-key", person="outsider").json()["code"] == "unknown_person"


@pytest.mark.parametrize("who", ["member", "outsider", "stranger"])
def test_nobody_else_touches_what_others_have(
    asking: Callable[..., Asker], cast: Cast, drive: Guarded, who: str
) -> None:
    drive.connect(cast.manager)
    asker = asking(getattr(cast, who))

    answers = [
        asker.send("GET", f"{HERE}/connection?person=manager"),
        asker.send("DELETE", f"{HERE}/connection?person=manager"),
        asker.send("PUT", f"{HERE}/own-key?person=manager", {"values": {}}),
        asker.send("DELETE", f"{HERE}/own-key?person=manager"),
    ]

    assert {answer.status_code for answer in answers} == {403}
    assert Connection.objects.filter(user=cast.manager).exists()


def test_a_managers_limited_key_manages_no_other_server(
    asking: Callable[..., Asker], cast: Cast, drive: Guarded
) -> None:
    drive.connect(cast.member)
    notes = add_server(cast, "notes", "http://127.0.0.1:9/mcp")

    answer = asking(cast.manager, [notes]).send("DELETE", f"{HERE}/connection?person=member")

    assert answer.status_code == 403
    assert Connection.objects.exists()
