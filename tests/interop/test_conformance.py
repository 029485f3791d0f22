"""The official conformance suite: through the gateway it finds exactly what it finds at the upstream itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop import conformance
from tests.interop.conftest import Peers, Route
from tests.support.peers.front import Front
from tests.support.processes import start_own

pytestmark = [pytest.mark.node, pytest.mark.slow]

# The SDK has no tasks; the suite counts these scenarios as an extension.
EXTENSION = "tasks-"


@pytest.mark.requirement("F-703")
@pytest.mark.parametrize("suite", conformance.SUITES)
def test_the_conformance_suite_finds_the_same_through_the_gateway_as_at_the_upstream(
    suite: str, peers: Peers, through: Callable[[str], Route], npm: tuple[str, Path], tmp_path: Path
) -> None:
    node, modules = npm
    # Two processes of the same server, so that the two runs do not hear each other's announcements.
    direct_peer = peers("everything-2")
    gateway_peer = peers.keep("everything-2 behind the gateway", lambda: start_own("everything2.py"))
    route = through(gateway_peer.url)

    with Front(direct_peer.url) as direct, Front(route.url, headers=route.headers) as gateway:
        runs = {
            name: conformance.start(suite, front.url, node=node, modules=modules, folder=tmp_path / name)
            for name, front in (("direct", direct), ("gateway", gateway))
        }
        for run in runs.values():
            run.wait(150)

    at_upstream = conformance.outcome(tmp_path / "direct")
    at_gateway = conformance.outcome(tmp_path / "gateway")
    assert all(name.startswith(EXTENSION) for name in conformance.failing(at_upstream))
    assert len(at_upstream) >= 30
    different = {
        name for name in at_upstream.keys() | at_gateway.keys() if at_upstream.get(name) != at_gateway.get(name)
    }
    assert not different, "\n".join(
        f"{name}:\n direct:\n{conformance.details(tmp_path / 'direct', name)}\n"
        f" through the gateway:\n{conformance.details(tmp_path / 'gateway', name)}"
        for name in sorted(different)
    )
