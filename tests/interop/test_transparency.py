"""Real clients at real servers: through the gateway both sides see what they see without it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.utils import timezone

from servers.models import Server
from tests.interop import plans
from tests.interop.conftest import Peers
from tests.interop.route import Route
from tests.interop.travel import CLIENTS, differences, failed_steps, travel

pytestmark = pytest.mark.slow

OLD, OLDER, NEW, EITHER = "SDK 2, initialize", "SDK 1", "SDK 2, 2026-07-28", "SDK 2, negotiating"

PAIRS = {
    (OLDER, "everything-2"): plans.SESSION,
    (OLD, "everything-2"): plans.SESSION,
    (NEW, "everything-2"): plans.MODERN,
    (EITHER, "everything-2"): plans.MODERN,
    (OLDER, "everything-2-json"): plans.ANSWERS,
    (NEW, "everything-2-json"): plans.ANSWERS,
    (OLDER, "everything-2-stateless"): [*plans.ANSWERS, *plans.DURING_A_CALL[:2]],
    (NEW, "everything-2-stateless"): plans.MODERN,
    (OLDER, "everything-1"): plans.SESSION,
    (OLD, "everything-1"): plans.SESSION,
    (EITHER, "everything-1"): plans.SESSION,
    # No common revision: the refusals are the upstream's own.
    (NEW, "everything-1"): plans.LISTS,
    (OLDER, "everything-1-json-stateless"): plans.ANSWERS,
    (EITHER, "everything-1-json-stateless"): plans.ANSWERS,
}


@pytest.mark.requirement("F-701", "T2")
@pytest.mark.parametrize(("client", "upstream"), PAIRS, ids=lambda name: name)
def test_client_and_server_see_the_same_through_the_gateway_as_without_it(
    client: str, upstream: str, peers: Peers, through: Callable[..., Route]
) -> None:
    plan, peer = PAIRS[client, upstream], peers(upstream)
    # Known, so that the gateway asks no questions of its own; and nothing is translated.
    known = {"eras": Server.Eras.DUAL, "eras_at": timezone.now(), "versions": ["2025-11-25"]}
    route = through(peer.url, **(known if "everything-2" in upstream else {"path": Server.Path.TRANSPARENT}))

    direct = travel(client, Route(peer.url, {}), plan, upstream=peer, witnessed=True)
    behind = travel(client, route, plan, upstream=peer, witnessed=True)

    assert failed_steps(direct) == []
    different = differences(direct, behind)
    assert not different, "\n".join(different)
    for request in behind.requests or []:
        sent = dict(request["headers"])
        assert "authorization" not in sent
        assert f"http://{sent['host']}/mcp" == peer.url


def test_every_client_meets_every_kind_of_upstream() -> None:
    clients = {client for client, _ in PAIRS}
    assert clients == set(CLIENTS)
