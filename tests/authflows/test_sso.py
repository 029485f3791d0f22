"""Single sign-on: people come in through a real OpenID provider, and each way in which that can go wrong."""

from __future__ import annotations

import html
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from authflows.models import Identity, IdentityProvider
from servers.audit import Action
from servers.models import AuditEvent, Membership
from servers.secrets.store import set_secret
from tests.conftest import PASSWORD, Cast, allow_private
from tests.support.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider, Options

pytestmark = [pytest.mark.django_db, pytest.mark.node]
ORIGIN = "http://127.0.0.1:8000"
CALLBACK = f"{ORIGIN}/sso/acme/callback"


@pytest.fixture(scope="module")
def acme() -> Iterator[OidcProvider]:
    """The organisation's provider, which knows our redirect URI."""
    provider = OidcProvider(Options(redirect_uris=[CALLBACK, f"{ORIGIN}/sso/other/callback"]))
    yield provider
    provider.stop()


@pytest.fixture
def row(cast: Cast, acme: OidcProvider) -> IdentityProvider:
    """Its row: everybody whom it signs in gets an account."""
    allow_private(acme.issuer)
    secret = set_secret(tenant=cast.tenant, group="sso", key="acme", value=CLIENT_SECRET, actor="test")
    return IdentityProvider.objects.create(
        tenant=cast.tenant,
        name="Acme SSO",
        slug="acme",
        issuer=acme.issuer,
        client_id=CLIENT_ID,
        client_secret=secret.fqn,
        extra_scopes="groups",
        creation=IdentityProvider.Creation.ANYBODY,
    )


@pytest.fixture
def browser() -> Client:
    """A browser at our public origin."""
    return Client(headers={"host": urlsplit(ORIGIN).netloc})


def leave(browser: Client, path: str = "/sso/acme/start") -> str:
    """Follow the link on our page; returns where the provider is asked."""
    response = browser.get(path)
    assert response.status_code == 302, response.content.decode()
    return str(response["Location"])


def come_back(browser: Client, url: str) -> Any:
    """Follow the provider's redirect back to us."""
    parts = urlsplit(url)
    assert f"{parts.scheme}://{parts.netloc}" == ORIGIN
    return browser.get(f"{parts.path}?{parts.query}")


def trip(browser: Client, acme: OidcProvider, account: str = "ada", path: str = "/sso/acme/start") -> Any:
    """The whole way."""
    return come_back(browser, acme.sign_in(leave(browser, path), account))


def person(name: str) -> Any:
    return get_user_model().objects.get(username=name)


@pytest.mark.requirement("F-209")
def test_somebody_whom_the_provider_knows_signs_in_and_gets_an_account(
    browser: Client, acme: OidcProvider, row: IdentityProvider
) -> None:
    response = trip(browser, acme, path="/sso/acme/start?next=/portal/keys/")
    assert (response.status_code, response["Location"]) == (302, "/portal/keys/"), response.content.decode()
    assert browser.get("/portal/keys/").status_code == 200
    ada = person("ada")
    assert (ada.email, ada.has_usable_password(), ada.is_superuser) == ("ada@example.com", False, False)
    assert list(Membership.objects.filter(user=ada).values_list("tenant", flat=True)) == [row.tenant_id]
    identity = Identity.objects.get(user=ada)
    assert (identity.provider, identity.uid, identity.extra_data) == ("acme", "1001", {})
    event = AuditEvent.objects.get(action=Action.SIGN_IN)
    assert (event.actor, event.detail) == ("ada", {"address": "127.0.0.1", "provider": "acme"})


@pytest.mark.requirement("F-209")
def test_the_same_subject_is_the_same_person_next_time(row: IdentityProvider, acme: OidcProvider) -> None:
    for _ in range(2):
        assert trip(Client(headers={"host": "127.0.0.1:8000"}), acme).status_code == 302
    assert Identity.objects.count() == 1
    assert AuditEvent.objects.filter(action=Action.SIGN_IN, actor="ada").count() == 2


@pytest.mark.requirement("AZ-25")
def test_the_request_has_pkce_state_nonce_and_our_public_redirect_uri(browser: Client, row: IdentityProvider) -> None:
    asked = parse_qs(urlsplit(leave(browser)).query)
    assert asked["redirect_uri"] == [CALLBACK]
    assert (asked["response_type"], asked["code_challenge_method"]) == (["code"], ["S256"])
    assert len(asked["code_challenge"][0]) == 43
    assert min(len(asked["state"][0]), len(asked["nonce"][0])) >= 32
    again = parse_qs(urlsplit(leave(browser)).query)
    for fresh in ("state", "nonce", "code_challenge"):
        assert again[fresh] != asked[fresh]


@pytest.mark.requirement("F-209")
def test_no_token_of_the_provider_is_kept(browser: Client, acme: OidcProvider, row: IdentityProvider) -> None:
    trip(browser, acme)
    stored = str(list(Identity.objects.values())) + str(dict(browser.session))
    assert "eyJ" not in stored
    assert "access_token" not in stored


def test_signing_in_changes_the_session_cookie(browser: Client, acme: OidcProvider, row: IdentityProvider) -> None:
    url = leave(browser)
    before = browser.cookies["gatehouse"].value
    come_back(browser, acme.sign_in(url))
    assert browser.cookies["gatehouse"].value not in ("", before)


@pytest.mark.parametrize("evil", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_next_leads_to_our_pages_only(browser: Client, acme: OidcProvider, row: IdentityProvider, evil: str) -> None:
    response = trip(browser, acme, path=f"/sso/acme/start?next={evil}")
    assert response["Location"] == "/portal/"


# --- T19: an answer belongs to one browser, one provider, one time


@pytest.mark.requirement("T19", "AZ-25")
def test_an_answer_in_another_browser_is_refused(browser: Client, acme: OidcProvider, row: IdentityProvider) -> None:
    url = acme.sign_in(leave(browser))
    other = Client(headers={"host": "127.0.0.1:8000"})
    response = come_back(other, url)
    assert_refused(response, 400, "This sign-in cannot go on")
    assert not Identity.objects.exists()
    assert AuditEvent.objects.get(action=Action.SIGN_IN_FAILED).detail["reason"] == "sso_state"


@pytest.mark.requirement("T19", "AZ-25")
def test_an_answer_counts_once(browser: Client, acme: OidcProvider, row: IdentityProvider) -> None:
    url = acme.sign_in(leave(browser))
    assert come_back(browser, url).status_code == 302
    browser.post("/sign-out/")
    assert_refused(come_back(browser, url), 400, "This sign-in cannot go on")


@pytest.mark.requirement("T19", "AZ-25")
def test_an_answer_is_too_late_after_ten_minutes(
    browser: Client, acme: OidcProvider, row: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = acme.sign_in(leave(browser))
    later = time.time() + 601
    monkeypatch.setattr("social_core.backends.oauth._time", lambda: later)
    assert_refused(come_back(browser, url), 400, "This sign-in cannot go on")


@pytest.mark.requirement("T19", "AZ-25")
def test_an_answer_of_one_provider_is_none_of_another(
    browser: Client, acme: OidcProvider, row: IdentityProvider
) -> None:
    row.pk, row.slug = None, "other"
    row.save(force_insert=True)
    url = acme.sign_in(leave(browser))
    assert_refused(come_back(browser, url.replace("/sso/acme/", "/sso/other/")), 400, "This sign-in cannot go on")


def assert_refused(response: Any, status: int, title: str) -> str:
    """One page with this title, nobody signed in; returns its text."""
    text = html.unescape(response.content.decode())
    assert response.status_code == status, text
    assert f"<h1>{title}</h1>" in text
    assert "_auth_user_id" not in response.client.session
    return text


# --- a person connects an identity to the account they have


def connect(browser: Client, acme: OidcProvider, account: str = "ada") -> Any:
    """From the password to the question whether this is me."""
    page = "/portal/access/identities/acme/connect/"
    assert browser.post(page, {"password": PASSWORD})["Location"] == page
    response = trip(browser, acme, account, path="/portal/access/identities/acme/start")
    assert response["Location"] == page
    return browser.get(page)


@pytest.mark.requirement("F-209")
def test_a_person_connects_an_identity_and_signs_in_with_it(
    browser: Client, acme: OidcProvider, row: IdentityProvider, cast: Cast
) -> None:
    browser.force_login(cast.member)
    assert "Connect Acme SSO to my account" in browser.get("/portal/access/identities/").content.decode()
    shown = connect(browser, acme).content.decode()
    assert "ada@example.com" in shown
    assert not Identity.objects.exists()
    browser.post("/portal/access/identities/acme/connect/", {"connect": "yes"})
    assert Identity.objects.get().user == cast.member
    assert AuditEvent.objects.get(action=Action.IDENTITY_ADD).actor == "member"
    browser.post("/sign-out/")
    trip(browser, acme)
    assert browser.session["_auth_user_id"] == str(cast.member.pk)


@pytest.mark.requirement("F-209", "T19")
def test_connecting_begins_with_the_own_password(
    browser: Client, row: IdentityProvider, cast: Cast, acme: OidcProvider
) -> None:
    browser.force_login(cast.member)
    page = "/portal/access/identities/acme/connect/"
    assert browser.get("/portal/access/identities/acme/start")["Location"] == page
    assert "not your password" in browser.post(page, {"password": "wrong"}).content.decode()
    assert browser.get("/portal/access/identities/acme/start")["Location"] == page
    browser.post(page, {"connect": "yes"})
    assert not Identity.objects.exists()


@pytest.mark.requirement("T19")
def test_an_answer_connects_nothing_when_somebody_else_is_signed_in_by_then(
    browser: Client, row: IdentityProvider, cast: Cast, acme: OidcProvider
) -> None:
    browser.force_login(cast.member)
    browser.post("/portal/access/identities/acme/connect/", {"password": PASSWORD})
    url = acme.sign_in(leave(browser, "/portal/access/identities/acme/start"))
    browser.force_login(cast.manager)
    assert come_back(browser, url).status_code == 400
    browser.post("/portal/access/identities/acme/connect/", {"connect": "yes"})
    assert not Identity.objects.exists()


@pytest.mark.requirement("F-209")
def test_an_identity_of_somebody_else_stays_theirs(
    browser: Client, row: IdentityProvider, cast: Cast, acme: OidcProvider
) -> None:
    Identity.objects.create(user=cast.manager, provider="acme", uid="1001")
    browser.force_login(cast.member)
    connect(browser, acme)
    response = browser.post("/portal/access/identities/acme/connect/", {"connect": "yes"}, follow=True)
    assert "belongs to another account" in response.content.decode()
    assert Identity.objects.get().user == cast.manager


def test_the_last_way_in_is_not_taken_off_by_accident(
    browser: Client, row: IdentityProvider, cast: Cast, acme: OidcProvider
) -> None:
    trip(browser, acme)
    identity = Identity.objects.get()
    url = f"/portal/access/identities/{identity.pk}/remove/"
    assert "only way in" in browser.post(url, follow=True).content.decode()
    ada = person("ada")
    ada.set_password(PASSWORD)
    ada.save()
    browser.force_login(ada)
    browser.post(url)
    assert not Identity.objects.exists()
    other = Identity.objects.create(user=cast.member, provider="acme", uid="7")
    assert browser.post(f"/portal/access/identities/{other.pk}/remove/").status_code == 404
