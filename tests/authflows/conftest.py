"""What tests of ways in share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from authflows.inbound import client_documents
from tests.conftest import allow_private
from tests.support.document_host import DocumentHost, document_host


@pytest.fixture
def host(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[DocumentHost]:
    """A host of metadata documents that an admin allowed, since it is on loopback."""
    client_documents.forget_failures()
    with document_host(monkeypatch) as running:
        allow_private(running.origin)
        yield running
    client_documents.forget_failures()
