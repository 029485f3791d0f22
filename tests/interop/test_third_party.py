"""Servers of third parties behind the gateway: what a client sees is what it sees without it."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop import plans, third_party
from tests.interop.conftest import Peers, Route
from tests.interop.plans import Plan
from tests.interop.travel import Journey, differences, failed_steps, travel
from tests.support.processes import Peer

pytestmark = pytest.mark.slow

CLIENTS = ("SDK 1", "SDK 2, initialize", "SDK 2, negotiating")
Through = Callable[[str], Route]


def both_ways(client: str, peer: Peer, plan: Plan, through: Through) -> tuple[Journey, str]:
    """The tour without the gateway, and in words how the tour through the gateway differs from it."""
    direct = travel(client, Route(peer.url, {}), plan, upstream=peer, witnessed=False)
    behind = travel(client, through(peer.url), plan, upstream=peer, witnessed=False)
    assert failed_steps(direct) == []
    return direct, "\n".join(differences(direct, behind))


@pytest.mark.node
@pytest.mark.requirement("F-701")
@pytest.mark.parametrize("client", CLIENTS)
def test_the_reference_server_of_the_protocol_answers_the_same(
    client: str, peers: Peers, through: Through, npm: tuple[str, Path]
) -> None:
    peer = peers.keep("reference", lambda: third_party.start_reference(npm))

    _, different = both_ways(client, peer, plans.REFERENCE, through)

    assert not different, different


@pytest.mark.node
@pytest.mark.requirement("F-701")
@pytest.mark.parametrize("client", ["SDK 1", "SDK 2, negotiating"])
def test_a_server_without_sessions_answers_the_same(
    client: str, peers: Peers, through: Through, npm: tuple[str, Path]
) -> None:
    peer = peers.keep("budget", lambda: third_party.start_budget_allocator(npm))

    direct, different = both_ways(client, peer, plans.SESSIONLESS, through)

    assert not any("session" in exchange for exchange in direct.wire)
    assert not different, different


@pytest.mark.node
@pytest.mark.requirement("F-701")
def test_a_server_that_insists_on_its_own_host_gets_it_from_the_gateway(
    peers: Peers, through: Through, npm: tuple[str, Path]
) -> None:
    peer = peers.keep("playwright", lambda: third_party.start_playwright(npm))
    foreign = urllib.request.Request(peer.url, data=b"{}", headers={"Host": "gateway.example"})
    with pytest.raises(urllib.error.HTTPError, match="403") as refused:
        urllib.request.urlopen(foreign, timeout=10)
    refused.value.close()

    direct, different = both_ways("SDK 2, negotiating", peer, plans.BROWSER, through)

    tools = [tool["name"] for page in direct.seen[1]["result"] for tool in page["tools"]]
    assert "browser_navigate" in tools
    assert not different, different


@pytest.mark.requirement("F-701")
@pytest.mark.parametrize("client", [*CLIENTS, "SDK 2, 2026-07-28"])
def test_a_database_behind_fastmcp_answers_the_same_in_both_eras(
    client: str, peers: Peers, through: Through, tmp_path_factory: pytest.TempPathFactory
) -> None:
    peer = peers.keep("motherduck", lambda: third_party.start_motherduck(tmp_path_factory.mktemp("duck")))

    direct, different = both_ways(client, peer, plans.DATABASE, through)

    assert "42" in str(direct.seen[5]["result"])
    assert not different, different
