"""What takes too long ends, and the answer says what it was."""

from __future__ import annotations

import asyncio

import pytest

from proxy import consumers
from proxy.in_flight import InFlight
from tests.proxy.test_disconnects import the_record
from tests.proxy.wire import Caller, RawUpstream, Stage


@pytest.fixture
def impatient(stage: Stage) -> Stage:
    """Both timeouts of the server at a second."""
    stage.server.connect_timeout = stage.server.response_timeout = 1
    stage.server.save()
    return stage


@pytest.mark.requirement("T57", "F-701")
def test_a_server_that_accepts_no_connection_is_a_504_that_says_so(impatient: Stage) -> None:
    full = RawUpstream(backlog=0)
    waiting = [Caller(full.port)]  # nobody accepts it, so there is no room for another
    try:
        full.front(impatient.server)
        caller = impatient.caller().call(impatient.path, key=impatient.key)
        answer = caller.answer()
    finally:
        for one in waiting:
            one.close()
        full.close()
    assert caller.status == 504
    assert answer["id"] == 7
    assert answer["error"]["code"] == 1504
    assert (
        answer["error"]["message"]
        == "The MCP server 'Calculator' did not accept a connection within 1 seconds. Try again later."
    )
    the_record(outcome="timeout_connect", status=504, upstream_status=None)


@pytest.mark.requirement("T57")
def test_a_tls_handshake_that_hangs_is_a_504_of_the_connection(impatient: Stage) -> None:
    impatient.upstream.front(impatient.server, url=impatient.upstream.url.replace("http:", "https:"))
    caller = impatient.caller().call(impatient.path, key=impatient.key)
    hello = impatient.upstream.accept()
    assert hello.exactly(1) == b"\x16"
    answer = caller.answer()
    assert caller.status == 504
    assert "did not accept a connection within 1 seconds" in answer["error"]["message"]
    hello.rest()
    the_record(outcome="timeout_connect")


@pytest.mark.requirement("T57", "T50")
def test_a_server_that_does_not_answer_is_a_504_and_is_asked_once(impatient: Stage) -> None:
    caller, asked = impatient.call()
    answer = caller.answer()
    assert caller.status == 504
    assert answer["id"] == 7
    assert answer["error"]["message"] == "The MCP server 'Calculator' did not answer within 1 seconds. Try again later."
    assert asked.left_by_gateway()
    assert impatient.upstream.nobody_came()
    the_record(outcome="timeout_response", status=504, upstream_status=None, decision="allowed", item="add")


@pytest.mark.requirement("T57")
def test_a_head_that_never_ends_is_a_504(impatient: Stage) -> None:
    caller, asked = impatient.call()
    asked.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
    assert caller.read_head() == 504
    assert asked.left_by_gateway()


@pytest.mark.requirement("T57")
def test_json_that_stops_coming_is_cut(impatient: Stage) -> None:
    caller, asked = impatient.call()
    asked.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    asked.piece(b"{")
    assert caller.read_head() == 200
    assert caller.chunk() == b"{"
    assert caller.rest() == b""
    assert asked.left_by_gateway()
    the_record(outcome="timeout", status=200)


@pytest.mark.requirement("T50")
def test_after_a_timeout_the_connection_is_not_used_again(impatient: Stage) -> None:
    first, asked = impatient.call()
    assert first.read_head() == 504
    second, fresh = impatient.call()
    asked.close()
    expected = fresh.answer_result()
    second.read_head()
    assert second.read_body() == expected


@pytest.mark.requirement("T46", "T57")
def test_a_request_whose_body_does_not_come_is_a_408(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "_BODY_SECONDS", 0.5)
    caller = stage.caller().ask(stage.path, key=stage.key, body=b"{", length=100)
    answer = caller.answer()
    assert caller.status == 408
    assert answer["error"]["code"] == 1408
    assert caller.headers["connection"] == "close"
    assert caller.rest() == b""
    assert stage.upstream.nobody_came()
    the_record(outcome="request_timeout", status=408, principal="member")


@pytest.mark.requirement("T46")
def test_a_connection_on_which_no_request_gets_complete_is_closed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from proxy import http_server

    monkeypatch.setattr(http_server, "HEAD_SECONDS", 0.1)
    monkeypatch.setattr(http_server, "_SWEEP_SECONDS", 0.1)
    caller = stage.caller()
    caller.send(b"GET / HTTP/1.1\r\nHost: ")
    assert caller.rest() == b""


def test_a_tick_that_fails_is_not_the_last() -> None:
    async def ticks() -> list[float]:
        seen: list[float] = []
        twice = asyncio.Event()

        def sweep(now: float) -> None:
            seen.append(now)
            if len(seen) == 2:
                twice.set()
            raise RuntimeError("a sweep that fails")

        async def recheck(call: object) -> None:
            return None

        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        in_flight = InFlight(recheck, sweep)
        in_flight.begin(NoCall())  # type: ignore[arg-type]
        await asyncio.wait_for(twice.wait(), 20)
        in_flight.close()
        return seen

    assert len(asyncio.run(ticks())) == 2


class NoCall:
    """A call that waits for nothing."""

    deadline = 0.0
    sending = watchable = streaming = False
    watcher = prepared = None
    recheck_at = float("inf")

    def stop(self, why: object) -> None: ...
