"""What tests of ways in share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import Client

from authflows.inbound.oauth import client_documents
from authflows.models import Connection
from authflows.outbound import provider_http
from servers.models import Server
from tests.conftest import Cast, allow_private
from tests.support import keyed_server
from tests.support.connecting import begin, come_back, make_server
from tests.support.document_host import DocumentHost, document_host
from tests.support.faulty_provider import FaultyProvider
from tests.support.keyed_server import vault
from tests.support.oidc_provider import OidcProvider


@pytest.fixture
def host(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[DocumentHost]:
    """A host of metadata documents that an admin allowed, since it is on loopback."""
    client_documents.forget_failures()
    with document_host(monkeypatch) as running:
        allow_private(running.origin)
        yield running
    client_documents.forget_failures()


@pytest.fixture
def browser(client: Client, cast: Cast) -> Client:
    """The browser of a person who may use the servers of these tests."""
    client.force_login(cast.member)
    return client


@pytest.fixture
def drive(cast: Cast, oidc_provider: OidcProvider) -> Server:
    """A server whose people connect at the provider, with an app that was made there."""
    return make_server(cast, oidc_provider)


@pytest.fixture
def faulty() -> Iterator[FaultyProvider]:
    """A provider that does what a test wants of it."""
    with FaultyProvider() as provider:
        yield provider


@pytest.fixture
def faulty_drive(cast: Cast, faulty: FaultyProvider) -> Server:
    """A server whose people connect there."""
    return make_server(cast, faulty, scopes=("files.read",), userinfo_endpoint=f"{faulty.issuer}/userinfo")


@pytest.fixture
def connected(browser: Client, cast: Cast, faulty_drive: Server, faulty: FaultyProvider) -> Connection:
    """What the member has with that provider, which was well until now."""
    come_back(browser, faulty.sign_in(begin(browser, cast, faulty_drive)))
    found = Connection.objects.get()
    assert found.account_label == "2001@example.com"
    faulty.asked.clear()
    return found


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway waits for a provider no longer than a test can."""
    monkeypatch.setattr(provider_http, "SECONDS", 0.3)


@pytest.fixture
def safe(cast: Cast) -> Iterator[Server]:
    """A server to which people bring a key of their own."""
    with vault() as running:
        yield keyed_server.make_server(cast, running.url)
