"""A gateway with the sample calculator, people with browsers, and desktops with clients."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from servers.models import Server
from tests.conftest import Cast, allow_private
from tests.e2e.conftest import browser  # noqa: F401  the same Chromium, for this folder
from tests.interop.sign_in.person import Person
from tests.interop.sign_in.programs import START, Desktop, Program
from tests.support.gateway import LiveGateway
from tests.support.node import ROOT
from tests.support.processes import Peer, free_port, start_foreign


@pytest.fixture(scope="package")
def calculator() -> Iterator[Peer]:
    """The sample server, as `make run` starts it."""
    port = free_port()
    program = [sys.executable, str(ROOT / "examples/calculator/server.py"), f"--port={port}"]
    peer = start_foreign(program, url=f"http://127.0.0.1:{port}/mcp")
    yield peer
    peer.stop()


@pytest.fixture
def sample(gateway: LiveGateway, cast: Cast, calculator: Peer) -> Server:
    """The calculator as a server of the gateway; `member` may use it."""
    allow_private(calculator.url)
    cast.server.url = calculator.url
    cast.server.save()
    return cast.server


@pytest.fixture
def mcp_url(gateway: LiveGateway, sample: Server) -> str:
    """All that a client is told."""
    return gateway.mcp_url(sample)


@pytest.fixture
def member(browser: Browser, gateway: LiveGateway, sample: Server) -> Iterator[Person]:  # noqa: F811  the fixture
    """The person who may use the calculator, at a browser."""
    person = Person(browser, "member", origin=gateway.origin)
    yield person
    person.close()


@pytest.fixture
def short_tokens(settings: Any) -> None:
    """Access tokens end so soon that a test can wait for it."""
    settings.OAUTH2_PROVIDER = {**settings.OAUTH2_PROVIDER, "ACCESS_TOKEN_EXPIRE_SECONDS": 3}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Start a client by its name with a target; each on a desktop of its own. They end with the test."""
    with ExitStack() as running:

        def begin(name: str, target: Mapping[str, Any]) -> Program:
            desktop = running.enter_context(Desktop(tmp_path / f"desktop-{len(list(tmp_path.iterdir()))}"))
            return running.enter_context(START[name](desktop, target))

        yield begin
