"""The official conformance suite: through the gateway it finds exactly what it finds at the upstream itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from proxy.engine import refresh
from tests.interop import conformance
from tests.interop.behind import Behind
from tests.interop.conformance import Outcome
from tests.interop.conftest import Peers
from tests.interop.route import Route
from tests.support.peers.front import Front
from tests.support.processes import start_own

pytestmark = [pytest.mark.node, pytest.mark.slow]

# The SDK has no tasks; the suite counts these scenarios as an extension.
EXTENSION = "tasks-"

BY_NATURE: Final = {
    # What nothing is said before is answered with plain JSON, so that the suite finds no streams to count.
    ("server-sse-multiple-streams", "server-sse-streams-functional"): ("0.1.16 active", "0.2 for 2025-11-25"),
    # The engine keeps no events: a stream of a call has none to be resumed from.
    ("server-sse-polling", "server-sse-priming-event"): ("0.2 for 2025-11-25",),
    ("server-sse-polling", "server-sse-retry-field"): ("0.2 for 2025-11-25",),
    ("server-sse-polling", "server-sse-disconnect-resume"): ("0.2 for 2025-11-25",),
}
"""Scenario and check of what passes at the upstream and cannot through the engine, with the suites that ask for it."""


class Suite:
    """Runs a suite at an upstream and through the gateway at the same time, and compares what it finds."""

    def __init__(self, peers: Peers, npm: tuple[str, Path], folder: Path) -> None:
        self._node, self._modules = npm
        self._folder = folder
        # Two processes of the same server, so that the two runs do not hear each other's announcements.
        self._direct = peers("everything-2")
        self.peer = peers.keep("everything-2 behind the gateway", lambda: start_own("everything2.py"))

    def run(self, suite: str, route: Route) -> tuple[Outcome, Outcome]:
        """What it finds at the upstream, and what through the gateway."""
        with Front(self._direct.url) as direct, Front(route.url, headers=route.headers) as gateway:
            runs = {
                name: conformance.start(
                    suite, front.url, node=self._node, modules=self._modules, folder=self._folder / name
                )
                for name, front in (("direct", direct), ("gateway", gateway))
            }
            for run in runs.values():
                run.wait(150)
        at_upstream = conformance.outcome(self._folder / "direct")
        assert all(name.startswith(EXTENSION) for name in conformance.failing(at_upstream))
        assert len(at_upstream) >= 30
        return at_upstream, conformance.outcome(self._folder / "gateway")

    def explain(self, scenarios: set[str]) -> str:
        """What the suite says of scenarios, for the message of a failed test."""
        return "\n".join(
            f"{name}:\n direct:\n{conformance.details(self._folder / 'direct', name)}\n"
            f" through the gateway:\n{conformance.details(self._folder / 'gateway', name)}"
            for name in sorted(scenarios)
        )


@pytest.fixture
def runner(peers: Peers, npm: tuple[str, Path], tmp_path: Path) -> Suite:
    return Suite(peers, npm, tmp_path)


def different(one: Outcome, other: Outcome) -> set[str]:
    return {name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}


@pytest.mark.requirement("F-703")
@pytest.mark.parametrize("suite", conformance.SUITES)
def test_the_conformance_suite_finds_the_same_through_the_gateway_as_at_the_upstream(
    suite: str, runner: Suite, through: Callable[[str], Route]
) -> None:
    found = different(*runner.run(suite, through(runner.peer.url)))
    assert not found, runner.explain(found)


@pytest.mark.requirement("F-703", "F-605")
@pytest.mark.parametrize("suite", conformance.SUITES)
def test_every_check_that_passes_at_the_upstream_passes_through_the_engine(
    suite: str, runner: Suite, behind: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The suite changes two lists at once and waits a second; catalogues are not read again so soon.
    monkeypatch.setattr(refresh, "PAUSE_SECONDS", 0.0)
    at_upstream, at_engine = runner.run(suite, behind.bundle((behind.member(runner.peer.url), "")))

    lost = {check[:2] for check in conformance.passed(at_upstream) - conformance.passed(at_engine)}
    by_nature = {check for check, suites in BY_NATURE.items() if suite in suites}
    # Also what passes by now: it has to leave the list.
    assert lost == by_nature, runner.explain({scenario for scenario, _ in lost ^ by_nature})
    assert conformance.failing(at_engine) == conformance.failing(at_upstream)
    assert at_engine.keys() == at_upstream.keys()
