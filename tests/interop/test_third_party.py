"""Servers of third parties behind the gateway: what a client sees is what it sees without it."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop import plans, third_party
from tests.interop.behind import Behind
from tests.interop.conftest import Peers
from tests.interop.plans import Plan
from tests.interop.route import Route
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


@pytest.mark.node
@pytest.mark.requirement("F-605", "F-702")
@pytest.mark.parametrize("client", ["SDK 1", "SDK 2, 2026-07-28"])
def test_servers_of_third_parties_stand_side_by_side_behind_one_url(
    client: str, peers: Peers, behind: Behind, npm: tuple[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    reference = peers.keep("reference", lambda: third_party.start_reference(npm))
    database = peers.keep("motherduck", lambda: third_party.start_motherduck(tmp_path_factory.mktemp("duck")))
    # One tool of the reference server runs as a task only, which the engine does not offer.
    members = (behind.member(reference.url, "reference", left_out=1), behind.member(database.url, "database"))
    route = behind.bundle(*zip(members, ("ref", "duck"), strict=True))
    calls = [
        plans.call("ref__echo", message="Grüße, 世界"),
        plans.call("ref__trigger-long-running-operation", notes=3, duration=0.3, steps=3),
        plans.call("duck__execute_query", sql="SELECT 6 * 7 AS answer"),
        {"do": "read", "uri": "demo://resource/static/document/architecture.md"},
        {"do": "read", "uri": "demo://resource/dynamic/text/1"},
        {"do": "prompt", "name": "ref__args-prompt", "arguments": {"city": "Ulm", "state": "BW"}},
    ]

    seen = travel(client, route, [*plans.LISTS, *calls], upstream=reference, witnessed=False).seen

    names = [tool["name"] for page in seen[1]["result"] for tool in page["tools"]]
    assert {name.partition("__")[0] for name in names} == {"ref", "duck"}
    assert {"ref__echo", "ref__get-sum", "duck__execute_query", "duck__list_tables"} <= set(names)
    assert "ref__simulate-research-query" not in names
    assert sorted(names, key=lambda name: name.startswith("duck")) == names, "the members in their order"
    echo, slow, query, static, dynamic, prompt = seen[5:]
    assert echo["result"]["content"][0]["text"] == "Echo: Grüße, 世界"
    assert "completed" in slow["result"]["content"][0]["text"]
    assert len(slow["notifications"]) == 3
    assert "42" in str(query["result"])
    assert "Everything Server" in static["result"]["contents"][0]["text"]
    assert dynamic["result"]["contents"][0]["uri"] == "demo://resource/dynamic/text/1"
    assert "Ulm" in str(prompt["result"]["messages"])
