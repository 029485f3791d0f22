"""Single sign-on: people come in through a real OpenID provider, and each way in which that can go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.test import Client

from authflows.models import Identity, IdentityProvider, TeamMapping
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
