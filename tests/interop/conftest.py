"""Peers that live as long as the test run, and the way to reach one through a gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from authflows.inbound.api_keys import create_key
from servers.models import AccessRule, AuthConfig, Role, Server
from tests.conftest import Cast, allow_private
from tests.interop.behind import Behind
from tests.interop.route import Route
from tests.support import node
from tests.support.gateway import LiveGateway
from tests.support.processes import Peer, foreign_python, start_own

# The everything servers by name: the program and its arguments.
OWN_PEERS = {
    "everything-2": ("everything2.py",),
    "everything-2-json": ("everything2.py", "--json"),
    "everything-2-stateless": ("everything2.py", "--stateless"),
    "everything-2-old": ("everything2.py", "--only", "older"),
    "everything-2-new": ("everything2.py", "--only", "modern"),
    "everything-1": ("everything1.py",),
    "everything-1-json-stateless": ("everything1.py", "--json", "--stateless"),
}


class Peers:
    """Starts peers when they are first asked for; stops them at the end of the run."""

    def __init__(self) -> None:
        self._running: dict[str, Peer] = {}

    def __call__(self, name: str) -> Peer:
        """One of our own everything servers."""
        if name not in self._running:
            program, *arguments = OWN_PEERS[name]
            python = foreign_python("mcp1") if program == "everything1.py" else None
            self._running[name] = start_own(program, *arguments, python=python)
        return self._running[name]

    def keep(self, name: str, start: Callable[[], Peer]) -> Peer:
        """Any other peer, started by `start` once."""
        if name not in self._running:
            self._running[name] = start()
        return self._running[name]

    def stop(self) -> None:
        for peer in self._running.values():
            peer.stop()


@pytest.fixture(scope="session")
def peers() -> Iterator[Peers]:
    running = Peers()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def npm() -> tuple[str, Path]:
    """The node binary and the folder with the pinned packages."""
    return node.packages()


@pytest.fixture
def register(cast: Cast) -> Callable[..., tuple[Server, str]]:
    """Register an upstream at its URL: returns the server and the text of a key of `member`."""

    def add(url: str, **fields: Any) -> tuple[Server, str]:
        allow_private(url)
        slug = f"peer-{Server.objects.count()}"
        server = Server.objects.create(tenant=cast.tenant, slug=slug, name=slug, url=url, **fields)
        AuthConfig.objects.create(server=server)
        AccessRule.objects.create(server=server, team=cast.readers, role=Role.USER)
        _, key = create_key(owner=cast.member, name=slug, actor="member")
        return server, key

    return add


@pytest.fixture
def through(gateway: LiveGateway, register: Callable[..., tuple[Server, str]]) -> Callable[..., Route]:
    """The route through the gateway to an upstream URL; `fields` are those of the server's row."""

    def route(url: str, **fields: Any) -> Route:
        server, key = register(url, **fields)
        return Route(gateway.mcp_url(server), {"Authorization": f"Bearer {key}"})

    return route


@pytest.fixture
def behind(gateway: LiveGateway, cast: Cast) -> Behind:
    """Puts upstreams behind the engine."""
    return Behind(gateway, cast)
