"""Sessions of the older revisions belong to the upstream: the gateway may restart, and any replica will do (F-704)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.conf import settings

from servers.models import Server
from tests.interop.conftest import Peers
from tests.interop.raw import RawSession, request, tool_call
from tests.interop.route import Route
from tests.support.node import ROOT
from tests.support.other_process import database_url
from tests.support.processes import Peer, free_port, start_foreign

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

Register = Callable[[str], tuple[Server, str]]


@contextmanager
def replica() -> Iterator[Peer]:
    """One more gateway, a process of its own with the same database and keys."""
    origin = f"http://127.0.0.1:{free_port()}"
    process = start_foreign(
        [sys.executable, "manage.py", "serve", "--port", origin.rpartition(":")[2]],
        url=f"{origin}/healthz",
        environment={
            "DATABASE_URL": database_url(),
            "GATEHOUSE_DATA_DIR": str(settings.DATA_DIR),
            "GATEHOUSE_PUBLIC_URL": origin,
        },
        folder=ROOT,
    )
    process.url = origin
    try:
        yield process
    finally:
        process.stop()


def route(gateway: Peer, registered: tuple[Server, str]) -> Route:
    server, key = registered
    return Route(f"{gateway.url}{server.mcp_path}", {"Authorization": f"Bearer {key}"})


@pytest.mark.requirement("F-704")
def test_a_session_and_its_running_call_survive_the_death_of_the_gateway(peers: Peers, register: Register) -> None:
    peer = peers("everything-2")
    peer.witness("reset")
    registered = register(peer.url)
    with replica() as first:
        session = RawSession(route(first, registered))
        with session:
            session.initialize()
            with session.stream(tool_call("gated", key="survives")) as incoming:
                last_id = next(number for number, message in incoming if message is not None)
                first.process.kill()
                first.process.wait(10)
            with replica() as second:
                session.move(route(second, registered))
                peer.witness("mark", mark="open:survives")
                with session.listen(last_event_id=last_id) as resumed:
                    result = next(message for _, message in resumed if message and "result" in message)
                assert result["result"]["content"][0]["text"] == "passed survives"
                assert session.post(request("tools/list")).status_code == 200
                assert session.delete().status_code == 200
    handshakes = [entry for entry in peer.witness("requests") if '"initialize"' in entry["body"]]
    assert len(handshakes) == 1


@pytest.mark.requirement("F-704")
def test_one_session_is_served_by_any_replica_also_in_the_middle_of_a_call(peers: Peers, register: Register) -> None:
    peer = peers("everything-2")
    registered = register(peer.url)
    with replica() as one, replica() as other, RawSession(route(one, registered)) as session:
        session.initialize()
        for gateway in (other, one, other):
            session.move(route(gateway, registered))
            assert session.post(request("ping")).status_code == 200

        session.move(route(one, registered))
        with session.stream(tool_call("test_elicitation", message="Who?")) as incoming:
            question = next(message for _, message in incoming if message and "method" in message)
            assert question["method"] == "elicitation/create"
            # The person's answer arrives at the replica that does not hold the stream of the call.
            session.move(route(other, registered))
            answer = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}
            assert session.post(answer).status_code == 202
            result = next(message for _, message in incoming if message and "result" in message)
        assert result["result"]["content"][0]["text"].startswith("User response: action=decline")
