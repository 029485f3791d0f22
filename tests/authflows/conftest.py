"""What tests of ways in share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import Client

from authflows.inbound import client_documents
from servers.models import Server
from tests.conftest import Cast, allow_private
from tests.support.connecting import make_server
from tests.support.document_host import DocumentHost, document_host
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
