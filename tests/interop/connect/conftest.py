"""A protected server, its provider, and a gateway that learned of both from the server's URL alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Browser

from authflows.outbound.discovery import Discovered, discover
from servers.models import AuthConfig, Server
from tests.conftest import Cast, allow_private
from tests.e2e.conftest import browser  # noqa: F401  the same Chromium, for this folder
from tests.interop.connect.person import ConnectingPerson
from tests.interop.sign_in.conftest import start  # noqa: F401  the clients' programs
from tests.support.gateway import LiveGateway
from tests.support.oidc_provider import OidcProvider, Options
from tests.support.protected_upstream import ProtectedUpstream, protected_upstream


@pytest.fixture(scope="package")
def provider() -> Iterator[OidcProvider]:
    """A provider whose access tokens end so soon that a test can wait for it."""
    running = OidcProvider(Options(access_token_seconds=4))
    yield running
    running.stop()


@pytest.fixture(scope="package")
def upstream(provider: OidcProvider) -> Iterator[ProtectedUpstream]:
    """The server that demands them."""
    with protected_upstream(provider) as running:
        yield running


@pytest.fixture
def notebook(gateway: LiveGateway, cast: Cast, provider: OidcProvider, upstream: ProtectedUpstream) -> Server:
    """It as a server of the gateway, as an admin adds it who knows its URL; `member` may use it."""
    for url in (upstream.url, provider.issuer):
        allow_private(url)
    found = discover(upstream.url)
    assert isinstance(found, Discovered), found
    assert found.settings.registration == "dynamic"
    # What the admin adds by hand: then it is known whose account it is.
    wanted = replace(found.settings, scopes=("openid", "email", *found.settings.scopes))
    Server.objects.filter(pk=cast.server.pk).update(name="Notebook", url=upstream.url)
    AuthConfig.objects.filter(server=cast.server).update(method=AuthConfig.Method.OAUTH2, settings=wanted.stored())
    upstream.bearers.clear()
    upstream.refused.clear()
    return Server.objects.select_related("tenant", "auth_config").get(pk=cast.server.pk)


@pytest.fixture
def member(
    browser: Browser,  # noqa: F811  the fixture
    gateway: LiveGateway,
    notebook: Server,
    provider: OidcProvider,
) -> Iterator[ConnectingPerson]:
    """The person who may use it, at a browser."""
    person = ConnectingPerson(browser, "member", origin=gateway.origin, provider=provider)
    yield person
    person.close()
