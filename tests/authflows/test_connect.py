"""Connect Now: to a real provider and back, alone and in the middle of a client's sign-in."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests
from django.test import Client
from django.utils import timezone

from authflows.inbound.oauth import approvals
from authflows.models import Approval, Connection, PendingConnection, PendingSignIn
from authflows.outbound import connect, connections
from servers.models import AccessRule, AuditEvent, AuthConfig, PrivateDestination, Server
from tests.authflows.test_authorize import answer, ask, make_client, url
from tests.conftest import Cast
from tests.support.connecting import begin, come_back, make_server
from tests.support.oidc_provider import OidcProvider

pytestmark = [pytest.mark.django_db, pytest.mark.node]


@pytest.mark.requirement("F-303", "F-304", "CL-11", "CL-14")
def test_a_person_connects_and_the_tokens_are_sealed(
    browser: Client, cast: Cast, drive: Server, oidc_provider: OidcProvider
) -> None:
    target = begin(browser, cast, drive)
    asked = parse_qs(urlsplit(target).query)
    assert asked["resource"] == [drive.url]
    assert asked["code_challenge_method"] == ["S256"]
    response = come_back(browser, oidc_provider.sign_in(target))
    assert response.status_code == 302, response.content
    connection = Connection.objects.get()
    assert (connection.user, connection.server, connection.state) == (cast.member, drive, "connected")
    assert connection.account_subject == "1001"
    tokens = connections.open_tokens(connection)
    assert tokens.access_token
    assert tokens.refresh_token
    stored = " ".join(str(value) for value in Connection.objects.values_list().get())
    assert tokens.access_token not in stored
    assert tokens.refresh_token not in stored
    assert AuditEvent.objects.filter(action="connection:connect").count() == 1
    assert tokens.access_token not in str(list(AuditEvent.objects.values_list()))


@pytest.mark.requirement("F-306", "CL-20")
def test_a_refresh_rotates_the_tokens_and_is_done_once(
    browser: Client, cast: Cast, drive: Server, oidc_provider: OidcProvider
) -> None:
    come_back(browser, oidc_provider.sign_in(begin(browser, cast, drive)))
    before = Connection.objects.get()
    old = connections.open_tokens(before)
    assert connections.refresh(before.pk, seen_generation=before.generation) == connections.Refreshed(2)
    # Whoever saw the old generation is told that it is done; the provider is not asked again.
    asked = oidc_provider.requests_for("/token")
    assert connections.refresh(before.pk, seen_generation=before.generation) == connections.Refreshed(2)
    assert oidc_provider.requests_for("/token") == asked
    after = Connection.objects.get()
    new = connections.open_tokens(after)
    assert new.access_token != old.access_token
    assert new.refresh_token != old.refresh_token
    assert after.epoch == before.epoch


@pytest.mark.requirement("F-306", "CL-20")
def test_a_refresh_that_the_provider_refuses_asks_for_a_new_connection(
    browser: Client, cast: Cast, drive: Server, oidc_provider: OidcProvider
) -> None:
    come_back(browser, oidc_provider.sign_in(begin(browser, cast, drive)))
    connection = Connection.objects.get()
    config = connections.settings_of(connection)
    assert config
    client = connections.facts_of(connection.client)
    requests.post(
        config.revocation_endpoint,
        data={"token": connections.open_tokens(connection).refresh_token},
        auth=(client.client_id, client.secret),
        timeout=10,
    )
    outcome = connections.refresh(connection.pk, seen_generation=connection.generation)
    assert isinstance(outcome, connections.NotRefreshed)
    assert (outcome.dead, outcome.code) == (True, "invalid_grant")
    connection.refresh_from_db()
    assert connection.state == Connection.State.NEEDS_RECONNECT


@pytest.mark.requirement("F-305", "T59")
def test_revoking_ends_it_here_and_at_the_provider(
    browser: Client, cast: Cast, drive: Server, oidc_provider: OidcProvider
) -> None:
    come_back(browser, oidc_provider.sign_in(begin(browser, cast, drive)))
    connection = Connection.objects.get()
    tokens, told = connections.open_tokens(connection), oidc_provider.requests_for("/token/revocation")
    config, client = connections.settings_of(connection), connections.facts_of(connection.client)
    assert connections.revoke(connection, actor="member") == connections.Revoked("told")
    assert not Connection.objects.exists()
    assert oidc_provider.requests_for("/token/revocation") == told + 1
    assert config
    refused = requests.post(
        config.token_endpoint,
        data={"grant_type": "refresh_token", "refresh_token": tokens.refresh_token},
        auth=(client.client_id, client.secret),
        timeout=10,
    )
    assert refused.json()["error"] == "invalid_grant"


@pytest.mark.requirement("F-312", "SE-4")
def test_another_account_begins_a_new_epoch_and_the_same_one_keeps_it(
    browser: Client, cast: Cast, drive: Server, oidc_provider: OidcProvider
) -> None:
    come_back(browser, oidc_provider.sign_in(begin(browser, cast, drive), "ada"))
    first = Connection.objects.get()
    come_back(browser, oidc_provider.sign_in(begin(browser, cast, drive), "ada"))
    again = Connection.objects.get()
    assert (again.pk, again.epoch) == (first.pk, first.epoch)
    come_back(browser, oidc_provider.sign_in(begin(browser, cast, drive, other_account=True), "bob"))
    other = Connection.objects.get()
    assert (other.pk, other.epoch) == (first.pk, first.epoch + 1)
    assert other.account_subject == "1002"


@pytest.mark.requirement("F-304")
def test_who_denies_at_the_provider_sees_one_page_with_one_next_step(
    browser: Client, cast: Cast, drive: Server, oidc_provider: OidcProvider
) -> None:
    response = come_back(browser, oidc_provider.sign_in(begin(browser, cast, drive), decision="deny"))
    assert response.status_code == 400
    assert "You did not allow it at the provider" in response.content.decode()
    assert not Connection.objects.exists()


@pytest.mark.requirement("T19", "CL-14")
def test_an_answer_counts_once_in_the_browser_and_for_the_person_that_began(
    browser: Client, cast: Cast, drive: Server, oidc_provider: OidcProvider
) -> None:
    target = oidc_provider.sign_in(begin(browser, cast, drive))
    stranger, same_person = Client(), Client()
    stranger.force_login(cast.outsider)
    same_person.force_login(cast.member)
    for other in (stranger, same_person):
        assert come_back(other, target).status_code == 400
    assert not Connection.objects.exists()
    assert come_back(browser, target).status_code == 302
    assert come_back(browser, target).status_code == 400
    late = oidc_provider.sign_in(begin(browser, cast, drive))
    PendingConnection.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert come_back(browser, late).status_code == 400


@pytest.mark.requirement("T18", "CL-15")
@pytest.mark.parametrize("iss", [None, "https://evil.example", "", ["{issuer}", "https://evil.example"]])
def test_an_answer_of_another_issuer_is_refused_and_nothing_is_asked(
    browser: Client, cast: Cast, drive: Server, oidc_provider: OidcProvider, iss: Any
) -> None:
    target = urlsplit(oidc_provider.sign_in(begin(browser, cast, drive)))
    asked = oidc_provider.requests_for("/token")
    parameters: dict[str, Any] = {name: v for name, v in parse_qs(target.query).items() if name != "iss"}
    if iss is not None:
        values = iss if isinstance(iss, list) else [iss]
        parameters["iss"] = [value.format(issuer=oidc_provider.issuer) for value in values]
    parameters["error_description"] = "<b>call us</b>"
    response = come_back(browser, f"{connect.callback_url()}?{urlencode(parameters, doseq=True)}")
    assert response.status_code == 400
    assert "call us" not in response.content.decode()
    assert oidc_provider.requests_for("/token") == asked
    assert not Connection.objects.exists()


def test_rights_are_looked_at_again_on_the_way_back(
    browser: Client, cast: Cast, drive: Server, oidc_provider: OidcProvider
) -> None:
    target = oidc_provider.sign_in(begin(browser, cast, drive))
    AccessRule.objects.filter(server=drive).delete()
    response = come_back(browser, target)
    assert "no longer have a right" in response.content.decode()
    assert not Connection.objects.exists()


@pytest.mark.requirement("T20", "CL-17")
@pytest.mark.parametrize(
    "endpoint", ["javascript:alert(1)", "data:text/html,x", "http://provider.example/auth", "", "//x"]
)
def test_nobody_is_sent_to_an_address_that_is_not_https(
    browser: Client, cast: Cast, oidc_provider: OidcProvider, endpoint: str
) -> None:
    server = make_server(cast, oidc_provider, authorization_endpoint=endpoint)
    found = connect.begin(cast.member, server, session_key="x")
    assert isinstance(found, connect.ConnectFailed)
    assert found.reason == "endpoint_refused"


@pytest.mark.requirement("F-201", "F-314", "T11", "T14")
def test_the_sign_in_of_a_client_goes_on_to_the_provider_and_back_to_the_client(
    browser: Client, cast: Cast, drive: Server, oidc_provider: OidcProvider
) -> None:
    ide = make_client(name="Cursor")
    page = ask(browser, url(ide, drive))
    browser.get(page)
    assert not PendingConnection.objects.exists()
    leaving = browser.post(page, {"decision": "approve"})
    assert leaving.status_code == 200
    assert Approval.objects.count() == 1
    found = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', leaving.content.decode())
    assert found
    back = come_back(browser, oidc_provider.sign_in(unescape(found[1])))
    assert back.headers["Location"] == page
    assert answer(browser.get(page))["code"]
    # Connected already: the next sign-in goes straight back.
    assert answer(browser.get(url(ide, drive)))["code"]


@pytest.mark.requirement("F-304")
def test_a_sign_in_survives_a_denial_at_the_provider_and_can_be_cancelled(
    browser: Client, cast: Cast, drive: Server, oidc_provider: OidcProvider
) -> None:
    page = ask(browser, url(make_client(name="Cursor"), drive))
    leaving = browser.post(page, {"decision": "approve"}).content.decode()
    target = unescape(re.findall(r'content="0; url=([^"]+)"', leaving)[0])
    failed = come_back(browser, oidc_provider.sign_in(target, decision="deny"))
    assert page in failed.content.decode()
    step = browser.get(page)
    assert step.status_code == 200
    assert "One more step for Drive" in step.content.decode()
    assert answer(browser.post(page, {"decision": "deny"}))["error"] == "access_denied"


def test_the_steps_of_a_sign_in_are_those_of_who_approved_it(
    browser: Client, cast: Cast, drive: Server, oidc_provider: OidcProvider
) -> None:
    page = ask(browser, url(make_client(name="Cursor"), drive))
    browser.post(page, {"decision": "approve"})
    other = Client()
    other.force_login(cast.manager)
    assert other.get(page).status_code == 403
    assert other.post(page, {"decision": "connect"}).status_code == 403
    assert PendingSignIn.objects.get().answered_at is None


@pytest.mark.requirement("CL-18", "T26")
def test_a_provider_inside_the_network_is_asked_only_if_it_is_allowed(
    browser: Client, cast: Cast, drive: Server, oidc_provider: OidcProvider
) -> None:
    target = oidc_provider.sign_in(begin(browser, cast, drive))
    asked = oidc_provider.requests_for("/token")
    PrivateDestination.objects.all().delete()
    assert come_back(browser, target).status_code == 400
    assert oidc_provider.requests_for("/token") == asked


@pytest.mark.requirement("CL-10", "T21")
def test_tokens_of_one_issuer_are_never_sent_to_another(
    browser: Client, cast: Cast, drive: Server, oidc_provider: OidcProvider
) -> None:
    come_back(browser, oidc_provider.sign_in(begin(browser, cast, drive)))
    config = AuthConfig.objects.get(server=drive)
    AuthConfig.objects.filter(pk=config.pk).update(settings={**config.settings, "issuer": "https://evil.example"})
    asked = oidc_provider.requests_for("/token")
    connection = Connection.objects.get()
    outcome = connections.refresh(connection.pk, seen_generation=connection.generation)
    assert isinstance(outcome, connections.NotRefreshed)
    assert outcome.code == "issuer_changed"
    assert oidc_provider.requests_for("/token") == asked
    assert connections.revoke(Connection.objects.get(), actor="member").provider == "not_offered"


def test_an_approval_alone_is_not_a_connection(browser: Client, cast: Cast, drive: Server) -> None:
    ide = make_client(name="Cursor")
    approvals.approve(cast.member, ide, drive, redirect_host="127.0.0.1")
    page = ask(browser, url(ide, drive))
    assert "One more step for Drive" in browser.get(page).content.decode()
    assert answer(browser.get(url(ide, drive, prompt="none")))["error"] == "interaction_required"
