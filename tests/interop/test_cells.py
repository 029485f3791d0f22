"""The four cells of old and new client and member: real clients and servers on both sides of the engine (F-702)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from proxy.engine import refresh
from servers.models import Server
from tests.interop import cells, plans
from tests.interop.behind import Behind
from tests.interop.cells import Cell, Step
from tests.interop.conftest import Peers
from tests.interop.raw import RawSession, request, tool_call
from tests.interop.route import Route
from tests.interop.travel import Journey, travel

pytestmark = [pytest.mark.slow, pytest.mark.requirement("F-702", "F-605")]

OLDER, OLD, NEW, EITHER = "SDK 1", "SDK 2, initialize", "SDK 2, 2026-07-28", "SDK 2, negotiating"

WHOLE = [
    Cell(OLDER, "everything-1", OLDER),
    Cell(OLDER, "everything-2-new", NEW),
    Cell(OLD, "everything-2-old", OLD),
    Cell(OLD, "everything-2-new", NEW),
    Cell(NEW, "everything-1", OLDER),
    Cell(NEW, "everything-2-old", OLD),
    Cell(NEW, "everything-2-new", NEW),
]
SHORT = [
    Cell(OLD, "everything-2", OLD),
    Cell(NEW, "everything-2-stateless", NEW),
    Cell(EITHER, "everything-2", NEW),
    Cell(EITHER, "everything-1", OLDER),
]
BRIDGES = [
    Cell(OLD, "everything-2-new", NEW, alias="", path="auto"),
    Cell(NEW, "everything-1", OLDER, alias="", path="auto"),
    Cell(NEW, "everything-2-old", OLD, alias="", path="engine"),
]

Baselines = Callable[[str, str], dict[str, Step]]


@pytest.fixture(scope="module")
def baselines(peers: Peers) -> Baselines:
    """What a client sees at a server of its own era without the gateway; each tour is made once."""
    made: dict[tuple[str, str], dict[str, Step]] = {}

    def baseline(client: str, member: str) -> dict[str, Step]:
        if (client, member) not in made:
            peer, modern = peers(member), client in cells.MODERN_CLIENTS
            plan = cells.plan(modern=modern, member_modern=modern, key="direct")
            journey = travel(client, Route(peer.url, {}), plan, upstream=peer, witnessed=True)
            made[client, member] = cells.seen_by_step(journey)
            assert not [label for label, step in made[client, member].items() if "failed" in step]
        return made[client, member]

    return baseline


@pytest.fixture(autouse=True)
def lists_are_read_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three lists change one after the other, and nobody waits half a minute in between."""
    monkeypatch.setattr(refresh, "PAUSE_SECONDS", 0.0)


def tour(cell: Cell, plan: plans.Plan, peers: Peers, behind: Behind) -> Journey:
    """The tour of the cell's client through the engine."""
    peer = peers(cell.member)
    server = behind.member(peer.url, path=cell.path or Server.Path.AUTO)
    route = behind.route(server) if cell.path else behind.bundle((server, cell.alias))
    journey = travel(cell.client, route, cells.aliased(plan, cell.alias), upstream=peer, witnessed=True)
    for sent in journey.requests or []:
        assert "authorization" not in dict(sent["headers"])
        if not cell.member_modern:
            assert "io.modelcontextprotocol/" not in sent["body"], "an older member sees nothing of the newer protocol"
    return journey


def differences(cell: Cell, direct: dict[str, Step], journey: Journey) -> str:
    """What the client of the cell should have seen and did not, in words."""
    wanted, found = cells.expected(cell, direct), cells.seen_by_step(journey, cell.alias)
    lines = []
    for label, step in found.items():
        if label != "handshake" and cells.reduced(wanted[label], step) != wanted[label]:
            lines.append(f"{label}\n  wanted: {str(wanted[label])[:1500]}\n  found:  {str(step)[:1500]}")
    return "\n".join(lines)


@pytest.mark.parametrize("cell", WHOLE, ids=str)
def test_a_client_sees_of_a_member_what_its_era_can_say(
    cell: Cell, peers: Peers, behind: Behind, baselines: Baselines
) -> None:
    plan = cells.plan(modern=cell.modern, member_modern=cell.member_modern, key=str(cell))
    journey = tour(cell, plan, peers, behind)

    different = differences(cell, baselines(cell.baseline, cell.member), journey)
    assert not different, different
    check_opening(cell, journey)


@pytest.mark.parametrize("cell", SHORT, ids=str)
def test_a_member_of_both_eras_and_a_client_of_both_take_the_newest_that_they_share(
    cell: Cell, peers: Peers, behind: Behind, baselines: Baselines
) -> None:
    journey = tour(cell, cells.SHORT, peers, behind)

    # What a server says of itself does not depend on which of its eras it is asked in.
    member = {"everything-2": f"everything-2-{'new' if cell.member_modern else 'old'}"}.get(cell.member, cell.member)
    member = member.replace("stateless", "new")
    different = differences(cell, baselines(cell.baseline, member), journey)
    assert not different, different
    check_opening(cell, journey)


@pytest.mark.parametrize("cell", BRIDGES, ids=str)
def test_a_bridge_leads_from_one_era_to_the_other(
    cell: Cell, peers: Peers, behind: Behind, baselines: Baselines
) -> None:
    extra = cells.NEW_QUESTIONS if cell.member_modern else cells.OLD_QUESTIONS
    journey = tour(cell, [*cells.SHORT, *extra], peers, behind)

    different = differences(cell, baselines(cell.baseline, cell.member), journey)
    assert not different, different
    check_opening(cell, journey)


def check_opening(cell: Cell, journey: Journey) -> None:
    """What the endpoint says of itself, and what of each era stands in its lists."""
    if cell.path == "auto" and cell.modern:
        # A client of both eras falls back; one of the new era only is served all the same.
        refused = journey.seen[0]["error"]
        assert (refused["code"], refused["data"]["supported"]) == (-32022, ["2025-11-25"])
    else:
        check_opened(cell, journey)
    pages = [page for step in journey.seen if step["do"] == "list" for page in step["result"]]
    for page in pages:
        of_the_era = {key: page[key] for key in ("resultType", "ttlMs", "cacheScope") if key in page}
        assert of_the_era == ({"resultType": "complete", "ttlMs": 0, "cacheScope": "private"} if cell.modern else {})


def check_opened(cell: Cell, journey: Journey) -> None:
    """Versions, capabilities, instructions and name."""
    opened: dict[str, Any] = journey.seen[0]["result"]
    said = opened["discover"] if cell.modern else opened["initialize"]
    assert set(said["capabilities"]) == {"tools", "prompts", "resources", "completions", "logging"}
    assert said["capabilities"]["tools"] == {"listChanged": True}
    assert "feature once." in said["instructions"]
    info = said["_meta"]["io.modelcontextprotocol/serverInfo"] if cell.modern else said["serverInfo"]
    assert info["name"] == ("default/member" if cell.path else "default/bundle")
    if cell.modern:
        assert said["supportedVersions"] == ["2026-07-28"]
    else:
        assert said["protocolVersion"] == "2025-11-25"


def test_a_client_of_both_eras_keeps_everything_that_an_older_server_has(peers: Peers, behind: Behind) -> None:
    peer = peers("everything-1")
    route = behind.route(behind.member(peer.url))
    plan = [plans.call("add", a=2, b=40), plans.call("test_elicitation", message="Who?"), {"do": "ping"}]

    direct = travel(EITHER, Route(peer.url, {}), plan, upstream=peer, witnessed=True)
    journey = travel(EITHER, route, plan, upstream=peer, witnessed=True)

    assert journey.seen == direct.seen
    assert journey.seen[0]["result"]["version"] == "2025-11-25"


@pytest.mark.parametrize("member", ["everything-2-old", "everything-2-new"])
def test_every_older_revision_is_spoken_in_front_of_any_member(member: str, peers: Peers, behind: Behind) -> None:
    route = behind.bundle((behind.member(peers(member).url), "all"))
    for version in ("2025-03-26", "2025-06-18", "2025-11-25"):
        with RawSession(route, version=version) as session:
            assert session.initialize().json()["result"]["protocolVersion"] == version
            assert session.post(request("tools/list")).status_code == 200
            answer = session.post(tool_call("all__add", a=2, b=40))
            assert answer.json()["result"]["content"] == [{"type": "text", "text": "42"}]
            unknown = session.post(request("ping"), mcp_protocol_version="1999-01-01")
            assert unknown.status_code == 400
            assert "2025-11-25" in unknown.json()["error"]["message"]


@pytest.mark.requirement("CL-25")
def test_who_listens_before_an_older_member_was_called_hears_of_changes_all_the_same(
    peers: Peers, behind: Behind
) -> None:
    cell = Cell(NEW, "everything-2-old", OLD)
    changes = [{**step, "key": number} for number in (1, 2) for step in cells.HEAR]

    journey = tour(cell, changes, peers, behind)

    heard = [[one["method"] for one in step["notifications"]] for step in journey.seen[1:]]
    assert heard == [[f"notifications/{step['kind']}/list_changed"] for step in changes]
