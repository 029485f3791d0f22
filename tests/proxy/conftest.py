"""Fixtures of the tests that play both ends of the gateway by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from authflows.inbound.api_keys import create_key
from tests.conftest import Cast
from tests.proxy.wire import Stage, staged
from tests.support.gateway import LiveGateway


@pytest.fixture
def key(cast: Cast) -> str:
    """A key of the cast's member."""
    return create_key(owner=cast.member, name="laptop", actor="tests")[1]


@pytest.fixture
def stage(gateway: LiveGateway, cast: Cast, key: str) -> Iterator[Stage]:
    """The member's key, the cast's server, and an upstream that answers nothing by itself."""
    with staged(gateway.port, cast.server, key) as stage:
        yield stage
