"""What is sent a second time, and what never is."""

from __future__ import annotations

import threading

import pytest

from tests.conftest import Cast
from tests.support.calls import member_of, message, point_at, tool_call
from tests.support.gateway import LiveGateway
from tests.support.raw_http import RawConnection, Response
from tests.support.upstream import HANG_UP, Request, Upstream, json_answer, mcp_server

LISTS = [
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    "server/discover",
    "ping",
    "completion/complete",
]
WRITES = [
    tool_call("echo"),
    message("prompts/get", {"name": "p"}),
    message("resources/read", {"uri": "a://b"}),
    message("tasks/cancel", {"taskId": "t"}),
    message("initialize", {}),
    message("made/up"),
    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}},
    {"jsonrpc": "2.0", "id": 1, "result": {}},
]


@pytest.mark.requirement("T50")
@pytest.mark.parametrize("body", [*WRITES, message("tools/list")], ids=lambda body: body.get("method", "response"))
def test_an_upstream_that_dies_after_receiving_a_message_received_it_once(
    gateway: LiveGateway, cast: Cast, body: dict[str, object]
) -> None:
    with Upstream(lambda _: None) as upstream:
        point_at(cast.server, upstream)
        response = member_of(gateway, cast).post(body)
        assert len(upstream.requests) == 1
    assert response.status == 502
    assert "the call may have run" in response.json()["error"]["message"]


def dies_on_kept_connections(request: Request) -> object:
    """Answers the first request of a connection and hangs up on the second, as a server whose timer ran out."""
    seen = [one for one in dies_on_kept_connections.upstream.requests if one.peer.number == request.peer.number]  # type: ignore[attr-defined]
    return mcp_server(request) if len(seen) == 1 else None


@pytest.mark.requirement("T50")
@pytest.mark.parametrize("method", LISTS)
def test_reading_is_repeated_once_when_a_kept_connection_was_stale(
    gateway: LiveGateway, cast: Cast, method: str
) -> None:
    with Upstream(dies_on_kept_connections) as upstream:  # type: ignore[arg-type]
        dies_on_kept_connections.upstream = upstream  # type: ignore[attr-defined]
        point_at(cast.server, upstream)
        caller = member_of(gateway, cast)
        assert caller.post(message("ping")).status == 200
        assert caller.post(message(method)).status == 200
        assert upstream.connections == 2
        assert len(upstream.requests) == 3
        assert upstream.requests[1].raw == upstream.requests[2].raw


@pytest.mark.requirement("T50")
@pytest.mark.parametrize("body", WRITES, ids=lambda body: body.get("method", "response"))
def test_nothing_that_may_change_something_is_repeated_on_a_stale_connection(
    gateway: LiveGateway, cast: Cast, body: dict[str, object]
) -> None:
    with Upstream(dies_on_kept_connections) as upstream:  # type: ignore[arg-type]
        dies_on_kept_connections.upstream = upstream  # type: ignore[attr-defined]
        point_at(cast.server, upstream)
        caller = member_of(gateway, cast)
        assert caller.post(message("ping")).status == 200
        assert caller.post(body).status == 502
        assert len(upstream.requests) == 2


@pytest.mark.requirement("T50")
def test_reading_is_repeated_once_only(gateway: LiveGateway, cast: Cast) -> None:
    first = threading.Event()

    def script(request: Request) -> object:
        if first.is_set():
            return None
        first.set()
        return mcp_server(request)

    with Upstream(script) as upstream:  # type: ignore[arg-type]
        point_at(cast.server, upstream)
        caller = member_of(gateway, cast)
        caller.post(message("tools/list"))
        assert caller.post(message("tools/list")).status == 502
        assert len(upstream.requests) == 3


@pytest.mark.requirement("T50")
def test_a_connection_that_the_upstream_closed_in_time_is_not_used_for_a_call(gateway: LiveGateway, cast: Cast) -> None:
    with Upstream() as upstream:
        point_at(cast.server, upstream)
        caller = member_of(gateway, cast)
        upstream.script = lambda request: [mcp_server(request).encoded(), HANG_UP]
        for _ in range(5):
            assert caller.post(message("tools/list")).status == 200
        upstream.script = lambda request: json_answer({}, Connection="close")
        # One that may be repeated: the end of the last connection may still be on its way to the gateway.
        assert caller.post(message("tools/list")).status == 200
        for _ in range(5):
            assert caller.post(tool_call("echo")).status == 200
        assert upstream.connections >= 5


def test_an_answer_of_another_request_is_never_handed_out(gateway: LiveGateway, cast: Cast) -> None:
    """An upstream that says more than it was asked: its surplus is not the answer to the next call."""

    def script(request: Request) -> bytes:
        answer = mcp_server(request).encoded()
        return answer + b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"surplus"'

    with Upstream(script) as upstream:
        point_at(cast.server, upstream)
        caller = member_of(gateway, cast)
        for number in range(4):
            response = caller.post(tool_call("echo", {"n": number}, id=number))
            assert response.status == 200
            assert response.json()["id"] == number
        assert upstream.connections == 4


@pytest.mark.parametrize("cut", [1, 40, 70])
def test_a_second_answer_that_comes_in_two_pieces_is_never_handed_out(
    gateway: LiveGateway, cast: Cast, cut: int
) -> None:
    surplus = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"surplus"'
    with Upstream(lambda request: [mcp_server(request).encoded() + surplus[:cut], surplus[cut:]]) as upstream:
        point_at(cast.server, upstream)
        caller = member_of(gateway, cast)
        for number in range(3):
            response = caller.post(tool_call("echo", {"n": number}, id=number))
            assert (response.status, response.json()["id"]) == (200, number)


@pytest.mark.requirement("F-701")
def test_calls_at_the_same_time_each_get_their_own_answer(gateway: LiveGateway, cast: Cast) -> None:
    everybody = threading.Barrier(16)

    def script(request: Request) -> object:
        if request.json()["method"] == "tools/call":
            everybody.wait(20)
        return mcp_server(request)

    results: dict[int, Response] = {}
    with Upstream(script) as upstream:  # type: ignore[arg-type]
        point_at(cast.server, upstream)
        caller = member_of(gateway, cast)

        def call(number: int) -> None:
            with RawConnection(gateway.origin) as connection:
                # One id for all: ids travel unchanged and must not be mixed up.
                results[number] = caller.post_on(connection, tool_call("echo", {"n": number}, id=1))

        threads = [threading.Thread(target=call, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(upstream.requests) == 16
    for number, response in results.items():
        assert response.json()["result"]["content"][0]["text"] == f'{{"n": {number}}}'
