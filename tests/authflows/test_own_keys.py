"""Keys of people's own: entered on four pages, tried before they are kept, sealed, written and never shown."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.utils import timezone

from authflows.models import OAuthClient, OwnKey
from authflows.outbound import my_connections
from authflows.outbound.methods import own_header
from authflows.outbound.needs import Need, missing
from authflows.outbound.own_keys import open_key
from gateway_project.logging import JsonFormatter, RedactSecrets
from servers.errors import SecretUnavailable
from servers.models import AccessRule, AuditEvent, AuthConfig, Change, Server
from servers.secrets import store
from tests.authflows.test_authorize import answer, ask, make_client, url
from tests.conftest import Cast
from tests.support.keyed_server import BETTER, GOOD, Vault, make_server, vault, with_config

pytestmark = pytest.mark.django_db
PAGE = "/portal/servers/default/vault/own-key/"
LIST = "/portal/connections/"


@pytest.fixture(scope="module")
def running() -> Iterator[Vault]:
    with vault() as found:
        yield found


@pytest.fixture
def server(cast: Cast, running: Vault) -> Server:
    running.keys, running.seen = {GOOD, BETTER}, []
    return make_server(cast, running.url)


@pytest.fixture
def ide(db: None) -> OAuthClient:
    return make_client(name="Cursor")


def enter(browser: Client, value: str = GOOD, page: str = PAGE, **more: str) -> Any:
    return browser.post(page, {"value_API_KEY": value, **more}, follow=True)


def text_of(response: Any) -> str:
    return str(response.content.decode())


def headers_for(server: Server, person: Any) -> list[tuple[str, str]]:
    row = with_config(server)
    assert missing(person, row) is None
    return own_header.headers(row, row.auth_config, OwnKey.objects.get(user=person, server=server))


# --- entering


@pytest.mark.requirement("F-308")
def test_a_key_is_tried_kept_and_sent_as_the_template_says(
    browser: Client, cast: Cast, server: Server, running: Vault
) -> None:
    assert "Enter your key" in text_of(browser.get("/portal/servers/default/vault/"))
    found = enter(browser)
    assert found.redirect_chain[-1][0] == "/portal/servers/default/vault/"
    assert "Vault accepted your key" in text_of(found)
    assert "Key entered" in text_of(found)
    assert set(running.seen) == {f"Bearer {GOOD}"}
    assert headers_for(server, cast.member) == [("Authorization", f"Bearer {GOOD}")]


@pytest.mark.requirement("F-308")
def test_a_refused_key_is_not_kept_and_what_was_there_stays(
    browser: Client, cast: Cast, server: Server, running: Vault
) -> None:
    refused = enter(browser, "canary-wrong")
    assert "Vault refused it, so it was not kept" in text_of(refused)
    assert "canary-wrong" not in text_of(refused)
    assert not OwnKey.objects.exists()
    enter(browser)
    enter(browser, "canary-wrong", untested="on")
    assert headers_for(server, cast.member) == [("Authorization", f"Bearer {GOOD}")]


@pytest.mark.requirement("F-308")
def test_a_key_for_a_server_that_does_not_answer_is_kept_only_where_the_person_says_so(
    browser: Client, cast: Cast, server: Server
) -> None:
    Server.objects.filter(pk=server.pk).update(url="http://127.0.0.1:9/mcp")
    found = text_of(enter(browser))
    assert "could not be asked" in found
    assert "Keep it untested" in found
    assert GOOD not in found
    assert not OwnKey.objects.exists()
    assert "kept untested" in text_of(enter(browser, untested="on"))
    assert AuditEvent.objects.get(action="own_key:set").detail["tested"] is False


@pytest.mark.requirement("F-308", "T53")
def test_wrong_input_is_asked_for_again_and_a_pasted_prefix_is_taken_off(
    browser: Client, cast: Cast, server: Server, running: Vault
) -> None:
    found = text_of(enter(browser, "canary\r\nX-Evil: 1"))
    assert "This has a line break" in found
    assert "canary" not in found
    assert "Enter a value." in text_of(enter(browser, " "))
    assert running.seen == []
    assert "“Bearer” in front of it was left out" in text_of(enter(browser, f" Bearer {GOOD}\n"))
    assert headers_for(server, cast.member) == [("Authorization", f"Bearer {GOOD}")]


@pytest.mark.requirement("F-308")
def test_several_values_with_labels_of_the_admin_make_several_headers(
    browser: Client, cast: Cast, running: Vault
) -> None:
    token = store.set_secret(tenant=cast.tenant, group="vault", key="app", value="shared-app", actor="admin")
    server = make_server(
        cast,
        running.url,
        ("Authorization", "Bearer {{API_KEY}}"),
        ("X-Team", "{{TEAM}}"),
        ("X-App", f"{token.fqn}"),
        TEAM="Team number, from Settings",
    )
    assert "Team number, from Settings" in text_of(browser.get(PAGE))
    assert "Enter a value." in text_of(enter(browser))
    # What looks like a reference in a person's value is never resolved.
    enter(browser, value_TEAM=token.fqn)
    assert headers_for(server, cast.member) == [
        ("Authorization", f"Bearer {GOOD}"),
        ("X-Team", token.fqn),
        ("X-App", "shared-app"),
    ]


@pytest.mark.requirement("F-308", "F-210")
def test_my_connections_lists_own_keys_with_their_state(browser: Client, cast: Cast, server: Server) -> None:
    found = text_of(browser.get(LIST))
    assert "Vault" in found
    assert "Enter your key" in found
    back = enter(browser, **{"from": "connections"})
    assert back.redirect_chain[-1][0] == LIST
    assert "Key entered" in text_of(back)
    OwnKey.objects.update(refused_at=timezone.now())
    assert "Refused: enter again" in text_of(browser.get(LIST))
    OwnKey.objects.update(refused_at=None, expires_at=timezone.now() + timedelta(days=2))
    assert "Ends in" in text_of(browser.get(LIST))
    OwnKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    found = text_of(browser.get(LIST))
    assert "Expired: enter again" in found
    assert "Your key for Vault has expired. Enter it again." in found


@pytest.mark.requirement("F-308")
def test_a_last_day_ends_the_key(browser: Client, cast: Cast, server: Server) -> None:
    assert "This day is over" in text_of(enter(browser, last_day="2020-01-01"))
    today = timezone.now().date()
    enter(browser, last_day=today.isoformat())
    key = OwnKey.objects.get()
    assert key.expires_at is not None
    assert key.expires_at.date() == today + timedelta(days=1)


@pytest.mark.requirement("F-308")
def test_removing_asks_first_and_is_the_owners_alone(browser: Client, cast: Cast, server: Server) -> None:
    enter(browser)
    page = f"/portal/own-keys/{OwnKey.objects.get().pk}/remove/"
    other = Client()
    other.force_login(cast.admin)
    assert other.post(page).status_code == 404
    assert "Remove your key for Vault?" in text_of(browser.get(page))
    assert OwnKey.objects.exists()
    AccessRule.objects.filter(server=server).delete()
    assert "Vault" in text_of(browser.get(LIST))
    browser.post(page)
    assert not OwnKey.objects.exists()
    event = AuditEvent.objects.get(action="own_key:remove")
    assert (event.actor, event.detail) == ("member", {"person": "member"})


@pytest.mark.requirement("F-308")
def test_who_has_no_right_on_the_server_enters_nothing(client: Client, cast: Cast, server: Server) -> None:
    client.force_login(cast.outsider)
    assert client.get(PAGE).status_code == 404
    assert client.post(PAGE, {"value_API_KEY": GOOD}).status_code == 404
    assert not OwnKey.objects.exists()


@pytest.mark.requirement("F-308", "T54")
def test_trying_many_keys_has_to_wait(browser: Client, cast: Cast, server: Server, running: Vault) -> None:
    for number in range(20):
        enter(browser, f"guess-{number}")
    asked = len(running.seen)
    assert "That was tried many times" in text_of(enter(browser))
    assert len(running.seen) == asked
    assert not OwnKey.objects.exists()


# --- a link, and the sign-in from a client


@pytest.mark.requirement("F-308", "F-314")
def test_the_link_of_a_refused_call_takes_the_key(browser: Client, cast: Cast, server: Server) -> None:
    page = f"/connect/{my_connections.link_for(cast.member, server, asked_by='Cursor').pk}"
    found = text_of(browser.get(page))
    assert "Vault needs a key of your own." in found
    assert "“Cursor”" in found
    assert "refused it" in text_of(enter(browser, "canary-wrong", page))
    found = text_of(enter(browser, GOOD, page))
    assert "You can close this window" in found
    assert OwnKey.objects.get().user == cast.member


@pytest.mark.requirement("F-308", "F-314")
def test_the_sign_in_of_a_client_asks_for_the_key_and_goes_on(
    browser: Client, cast: Cast, server: Server, ide: OAuthClient
) -> None:
    page = ask(browser, url(ide, server))
    # Before the approval nothing is taken (T11).
    browser.post(page, {"decision": "key", "value_API_KEY": GOOD})
    assert not OwnKey.objects.exists()
    step = text_of(browser.post(page, {"decision": "approve"}))
    assert "One more step for Vault" in step
    assert "API key" in step
    wrong = text_of(browser.post(page, {"decision": "key", "value_API_KEY": "canary-wrong"}))
    assert "Vault refused it" in wrong
    assert "canary-wrong" not in wrong
    assert "One more step for Vault" in text_of(browser.get(page))
    assert answer(browser.post(page, {"decision": "key", "value_API_KEY": GOOD}))["code"]
    # The next sign-in has nothing left to ask.
    assert answer(browser.get(url(ide, server)))["code"]


@pytest.mark.requirement("F-308")
def test_cancel_answers_access_denied(browser: Client, cast: Cast, server: Server, ide: OAuthClient) -> None:
    page = ask(browser, url(ide, server))
    browser.post(page, {"decision": "approve"})
    assert answer(browser.post(page, {"decision": "deny"}))["error"] == "access_denied"
    assert not OwnKey.objects.exists()


# --- what is stored


@pytest.mark.requirement("F-308", "SE-4")
def test_each_new_value_is_another_epoch_and_a_change(browser: Client, cast: Cast, server: Server) -> None:
    enter(browser)
    first = OwnKey.objects.get()
    before = Change.objects.filter(kind="own_key").count()
    enter(browser, BETTER)
    second = OwnKey.objects.get()
    assert second.pk == first.pk
    assert second.epoch == first.epoch + 1
    assert Change.objects.filter(kind="own_key", key=f"{cast.member.pk}:{server.pk}").count() > before
    assert headers_for(server, cast.member) == [("Authorization", f"Bearer {BETTER}")]


@pytest.mark.requirement("T29", "F-308")
def test_a_key_is_not_used_at_another_origin(browser: Client, cast: Cast, server: Server) -> None:
    enter(browser)
    Server.objects.filter(pk=server.pk).update(url="http://127.0.0.1:10/mcp")
    found = missing(cast.member, with_config(server))
    assert found is not None
    assert found.need is Need.OWN_KEY
    assert "The address of Vault changed" in found.sentence


@pytest.mark.requirement("T55")
def test_sealed_values_open_in_no_other_row(browser: Client, cast: Cast, server: Server) -> None:
    enter(browser)
    mine = OwnKey.objects.get()
    copied = OwnKey.objects.create(
        user=cast.outsider,
        server=server,
        sealed_values=mine.sealed_values,
        origin=mine.origin,
        set_by="outsider",
    )
    with pytest.raises(SecretUnavailable):
        open_key(copied)
    moved = OwnKey.objects.get(pk=mine.pk)
    moved.user = cast.manager
    with pytest.raises(SecretUnavailable):
        open_key(moved)
    found = missing(cast.outsider, server)
    assert found is not None
    assert "can no longer be opened" in found.sentence
    assert open_key(mine).values == {"API_KEY": GOOD}


@pytest.mark.requirement("F-308")
def test_a_key_for_another_method_or_another_template_has_to_be_entered_again(
    browser: Client, cast: Cast, server: Server
) -> None:
    enter(browser)
    config = server.auth_config
    config.settings = {"headers": [{"name": "Authorization", "value": "{{API_KEY}} {{TEAM}}"}]}
    config.save()
    found = missing(cast.member, with_config(server))
    assert found is not None
    assert "asks for more than you entered" in found.sentence
    config.method = AuthConfig.Method.SHARED_HEADER
    config.settings = {"headers": [{"name": "API_KEY", "value": "shared"}]}
    config.save()
    row = with_config(server)
    with pytest.raises(SecretUnavailable):
        own_header.headers(row, row.auth_config, OwnKey.objects.get())


@pytest.mark.requirement("T56")
def test_values_stand_in_no_page_log_audit_event_or_column(
    browser: Client, cast: Cast, server: Server, ide: OAuthClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    pages = [
        enter(browser),
        enter(browser, f"canary\n{GOOD}"),
        enter(browser, "canary-wrong"),
        browser.get(PAGE),
        browser.get(LIST),
        browser.get("/portal/servers/default/vault/"),
    ]
    said = "".join(text_of(page) for page in pages)
    formatter, filter_ = JsonFormatter(), RedactSecrets()
    for record in caplog.records:
        filter_.filter(record)
        said += formatter.format(record)
    said += json.dumps(list(AuditEvent.objects.values("subject", "detail")), default=str)
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            said += str(cursor.fetchall())
    assert "canary" not in said
    assert AuditEvent.objects.get(action="own_key:set").detail == {
        "person": "member",
        "values": ["API_KEY"],
        "headers": ["Authorization"],
        "expires": "",
        "tested": True,
    }


@pytest.mark.requirement("F-308")
def test_a_person_without_rows_of_their_own_has_a_list_in_few_queries(
    browser: Client, cast: Cast, server: Server, django_assert_max_num_queries: Any
) -> None:
    for number in range(5):
        more = Server.objects.create(tenant=cast.tenant, slug=f"more-{number}", name=f"More {number}", url=server.url)
        AuthConfig.objects.create(server=more, method=server.auth_config.method, settings=server.auth_config.settings)
        AccessRule.objects.create(server=more, user=cast.member)
    with django_assert_max_num_queries(12):
        assert text_of(browser.get(LIST)).count("More ") >= 5
    assert get_user_model().objects.filter(own_keys__isnull=False).count() == 0
