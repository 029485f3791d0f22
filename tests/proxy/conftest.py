"""Fixtures of the tests that play both ends of the gateway by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from authflows.inbound.api_keys import create_key
from tests.conftest import Cast, allow_private
from tests.proxy.wire import Stage, staged
from tests.support.gateway import LiveGateway
from tests.support.mcp_upstream import calculator, legacy_only, serving


@pytest.fixture
def key(cast: Cast) -> str:
    """A key of the cast's member."""
    return create_key(owner=cast.member, name="laptop", actor="tests")[1]


@pytest.fixture
def stage(gateway: LiveGateway, cast: Cast, key: str) -> Iterator[Stage]:
    """The member's key, the cast's server, and an upstream that answers nothing by itself."""
    with staged(gateway.port, cast.server, key) as stage:
        yield stage


@pytest.fixture(params=["both eras", "legacy"])
def each_era(request: pytest.FixtureRequest, cast: Cast) -> Iterator[None]:
    """The cast's server is the calculator: once in both eras, once in the legacy one only."""
    app = calculator() if request.param == "both eras" else legacy_only(calculator())
    with serving(app) as url:
        cast.server.url = url
        cast.server.save()
        allow_private(url)
        yield
