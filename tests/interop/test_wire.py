"""The wire itself, for every older revision: handshake, streams, resumption, session end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.interop.conftest import Peers
from tests.interop.raw import RawSession, comparable, request, tool_call
from tests.interop.route import Route

pytestmark = pytest.mark.slow

REVISIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")


def exchanges(route: Route, version: str, *, announce: bool) -> dict[str, Any]:
    """What a client of one revision gets for everything it may send, right and wrong."""
    with RawSession(route, version=version, announce=announce) as session:
        opened = session.initialize()
        found = {"initialize": comparable(opened), "has a session": session.session_id is not None}
        for label, message in {
            "ping": request("ping"),
            "list": request("tools/list"),
            "second page": request("tools/list", cursor="from-30"),
            "text id": request("ping", "idé-\u2028-1"),
            "progress": tool_call("test_tool_with_progress", "tok"),
            "unknown method": request("no/such/method"),
            "wrong parameters": request("tools/call", arguments=3),
            "unknown tool": tool_call("nothing"),
            "large": tool_call("large_result"),
            "unusual": tool_call("unusual_characters"),
        }.items():
            found[label] = comparable(session.post(message))
        found["wrong accept"] = comparable(session.post(request("ping"), accept="text/html"))
        found["unknown version"] = comparable(session.post(request("ping"), mcp_protocol_version="1999-01-01"))
        found["empty object"] = session.post({}).status_code
        known, session.session_id = session.session_id, "ffffffffffffffffffffffffffffffff"
        # Whose session it is not is told by the gateway itself, in its own words.
        found["foreign session"] = session.post(request("ping")).status_code
        session.session_id = known
        found["end"] = session.delete().status_code
        found["after the end"] = comparable(session.post(request("ping")))
        return found


@pytest.mark.requirement("F-701")
@pytest.mark.parametrize("announce", [True, False], ids=["with version header", "without version header"])
@pytest.mark.parametrize("version", REVISIONS)
@pytest.mark.parametrize("upstream", ["everything-2", "everything-1"])
def test_every_older_revision_gets_the_same_answers_through_the_gateway(
    upstream: str, version: str, announce: bool, peers: Peers, through: Callable[[str], Route]
) -> None:
    peer = peers(upstream)

    direct = exchanges(Route(peer.url, {}), version, announce=announce)
    behind = exchanges(through(peer.url), version, announce=announce)

    assert direct["has a session"]
    for label, answer in direct.items():
        assert behind[label] == answer, label


@pytest.mark.requirement("F-701")
def test_an_idle_stream_is_open_for_the_client_as_soon_as_it_is_open_at_the_upstream(
    peers: Peers, through: Callable[[str], Route]
) -> None:
    peer = peers("everything-2-json")  # keeps no events, so that its standing stream begins with nothing at all
    # The upstream's first keep-alive comment comes after fifteen seconds, so that only the head itself can be in time.
    with RawSession(through(peer.url), patience=5) as session:
        session.initialize()
        peer.witness("reset")
        with session.listen():
            assert peer.witness("wait", mark="listening", seconds=1)
            assert [entry["verb"] for entry in peer.witness("requests")] == ["GET"]


@pytest.mark.requirement("F-701")
@pytest.mark.parametrize("upstream", ["everything-2", "everything-1"])
def test_a_call_whose_stream_broke_goes_on_and_is_resumed_by_the_last_event_id(
    upstream: str, peers: Peers, through: Callable[[str], Route]
) -> None:
    peer = peers(upstream)

    def broken_and_resumed(route: Route) -> list[Any]:
        peer.witness("reset")
        with RawSession(route) as session:
            session.initialize()
            with session.stream(tool_call("gated", key="broken")) as incoming:
                # The line breaks as soon as the first step of the progress is here.
                last_id = next(number for number, message in incoming if message is not None)
            peer.witness("mark", mark="open:broken")
            with session.listen(last_event_id=last_id) as resumed:
                rest = []
                for _, message in resumed:
                    if message is not None:  # an event with nothing but an id comes or not, as timing has it
                        rest.append(message)
                        if "result" in message:
                            break
            cancelled = peer.witness("wait", mark="cancelled:broken", seconds=0)
            return [rest, cancelled]

    direct = broken_and_resumed(Route(peer.url, {}))
    behind = broken_and_resumed(through(peer.url))

    assert direct[0][-1]["result"]["content"][0]["text"] == "passed broken"
    assert behind == direct


@pytest.mark.requirement("F-701", "T49")
def test_a_broken_stream_of_an_older_revision_does_not_cancel_the_call(
    peers: Peers, through: Callable[[str], Route]
) -> None:
    peer = peers("everything-2")
    peer.witness("reset")
    with RawSession(through(peer.url)) as session:
        session.initialize()
        with session.stream(tool_call("endless", 7, key="left")) as incoming:
            next(incoming)
            assert peer.witness("wait", mark="started:left", seconds=10)
        assert session.post(request("ping")).status_code == 200
        assert not peer.witness("wait", mark="cancelled:left", seconds=0)

        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
        assert session.post(cancel).status_code == 202
        assert peer.witness("wait", mark="cancelled:left", seconds=10)
