"""Whoever leaves: the other side learns of it, nothing is made up, and the record says so (T49, T57)."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from django.db.models import QuerySet

from proxy.record import recorder
from servers.models import Call
from tests.proxy.wire import Broken, Caller, RawUpstream, Stage, wait_until

EVENT = b"data: {}\n\n"


def the_record(**wanted: object) -> Call:
    """The only call record, as soon as it is written."""

    def found() -> QuerySet[Call] | None:
        rows = Call.objects.all()
        return rows if recorder.waiting() == 0 and rows.exists() else None

    rows = wait_until(found, "the call record")
    record = rows.get()
    assert {name: getattr(record, name) for name in wanted} == wanted
    return record


def leave(caller: Caller, how: str) -> None:
    if how == "closed":
        caller.close()
    else:
        caller.reset()


# --- The client leaves ------------------------------------------------------------------------------


@pytest.mark.requirement("T49", "T57", "F-701")
@pytest.mark.parametrize("modern", [False, True])
@pytest.mark.parametrize("how", ["closed", "reset"])
def test_a_client_that_leaves_during_a_slow_call_ends_the_exchange_upstream(
    stage: Stage, how: str, modern: bool
) -> None:
    caller, asked = stage.call(modern=modern)
    leave(caller, how)
    # Closing is the whole message: no notifications/cancelled is made up, on this connection or another.
    assert asked.left_by_gateway()
    assert stage.upstream.nobody_came()
    the_record(outcome="client_disconnected", decision="allowed", status=0, method="tools/call", item="add")


@pytest.mark.requirement("T49", "T57")
@pytest.mark.parametrize("how", ["closed", "reset"])
@pytest.mark.parametrize("http_method", ["GET", "POST"])
def test_a_client_that_leaves_a_stream_ends_it_upstream(stage: Stage, how: str, http_method: str) -> None:
    caller, asked = stage.stream(http_method=http_method)
    asked.piece(EVENT)
    assert caller.event() == EVENT
    leave(caller, how)
    assert asked.left_by_gateway()
    assert stage.upstream.nobody_came()
    the_record(outcome="client_disconnected", status=200, upstream_status=200, http_method=http_method)


@pytest.mark.requirement("T49", "T57")
def test_a_client_that_leaves_in_the_middle_of_json_ends_the_exchange(stage: Stage) -> None:
    caller, asked = stage.call()
    asked.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{")
    caller.read_head()
    assert caller.exactly(1) == b"{"
    caller.close()
    assert asked.left_by_gateway()
    the_record(outcome="client_disconnected", status=200, bytes_out=1)


@pytest.mark.requirement("T49")
def test_the_connection_of_a_call_that_was_left_is_not_used_again(stage: Stage) -> None:
    first, asked = stage.call()
    expected = asked.answer_result()
    first.read_head()
    assert first.read_body() == expected
    second = stage.caller().call(stage.path, key=stage.key)
    asked.read_request()  # the kept connection
    second.close()
    assert asked.left_by_gateway()
    third, fresh = stage.call()
    expected = fresh.answer_result(third=True)
    third.read_head()
    assert third.read_body() == expected


@pytest.mark.requirement("T57", "T49")
@pytest.mark.parametrize("how", ["closed", "reset"])
def test_a_client_that_leaves_before_its_body_is_complete_reaches_no_upstream(stage: Stage, how: str) -> None:
    caller = stage.caller().ask(stage.path, key=stage.key, body=b'{"jsonrpc"', length=1000)
    leave(caller, how)
    the_record(outcome="client_disconnected", status=0, http_method="POST", method="")
    assert stage.upstream.nobody_came()


@pytest.mark.requirement("T49", "T57")
def test_a_client_that_leaves_while_the_gateway_connects_is_noticed(stage: Stage) -> None:
    full = RawUpstream(backlog=0)
    waiting = [Caller(full.port)]  # one connection that nobody accepts fills the queue
    try:
        full.front(stage.server, connect_timeout=60)
        caller = stage.caller().call(stage.path, key=stage.key)
        caller.close()
        the_record(outcome="client_disconnected", status=0)
    finally:
        for one in waiting:
            one.close()
        full.close()


@pytest.mark.requirement("T49")
def test_a_client_that_asked_ahead_and_left_is_noticed(stage: Stage) -> None:
    caller, asked = stage.call()
    caller.call(stage.path, key=stage.key, tool="pipelined")
    other, other_asked = stage.stream(http_method="GET")
    caller.call(stage.path, key=stage.key, tool="pipelined")
    other.close()
    assert other_asked.left_by_gateway()  # the timer has come round
    caller.call(stage.path, key=stage.key, tool="pipelined")
    caller.close()
    assert asked.left_by_gateway()
    assert stage.upstream.nobody_came()


@pytest.mark.requirement("T46")
def test_a_client_that_asks_far_ahead_is_dropped(stage: Stage) -> None:
    caller, asked = stage.call()
    with suppress(ConnectionError):
        for _ in range(20):
            caller.call(stage.path, key=stage.key, tool="pipelined")
    assert caller.rest() == b""
    assert asked.left_by_gateway()


@pytest.mark.requirement("T46")
def test_a_client_that_sends_a_large_body_ahead_is_dropped(stage: Stage) -> None:
    caller, asked = stage.call()
    with suppress(ConnectionError):
        caller.ask(stage.path, key=stage.key, body=bytes(1_000_000))
    assert caller.rest() == b""
    assert asked.left_by_gateway()


def test_requests_that_were_sent_ahead_are_answered_in_their_order(stage: Stage) -> None:
    caller, asked = stage.call(tool="first")
    caller.call(stage.path, key=stage.key, tool="second")
    for name in ("first", "second"):
        expected = asked.answer_result(name=name)
        assert caller.read_head() == 200
        assert caller.read_body() == expected
        if name == "first":
            assert json.loads(asked.read_request().body)["params"]["name"] == "second"


# --- The upstream leaves ------------------------------------------------------------------------------


@pytest.mark.requirement("T50", "T57")
@pytest.mark.parametrize("how", ["close", "reset"])
def test_an_upstream_that_leaves_without_an_answer_is_a_502_and_was_asked_once(stage: Stage, how: str) -> None:
    caller, asked = stage.call()
    getattr(asked, how)()
    answer = caller.answer()
    assert caller.status == 502
    assert answer["id"] == 7
    assert "'Calculator'" in answer["error"]["message"]
    assert "the call may have run (phase: response)" in answer["error"]["message"]
    assert stage.upstream.nobody_came()
    the_record(outcome="upstream_response", status=502, upstream_status=None)


@pytest.mark.requirement("T49", "T57")
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_stream_that_breaks_ends_without_a_result(stage: Stage, how: str) -> None:
    caller, asked = stage.stream()
    asked.piece(b"data: {}\n\ndata: {")
    assert caller.chunk() == b"data: {}\n\ndata: {"
    getattr(asked, how)()
    # Nothing is added: a client that waits for its result sees the end of the stream instead.
    assert caller.chunk() == b""
    the_record(outcome="upstream_body", status=200)


BREAKS = [
    b"content-length: 100\r\n\r\n{",
    b"transfer-encoding: chunked\r\n\r\n5\r\n{1234\r\n",
    b"transfer-encoding: chunked\r\n\r\n5\r\n{1",
    b"transfer-encoding: chunked\r\n\r\n5\r\n{1234\r\nnot a size\r\n",
]


@pytest.mark.requirement("T49", "T57")
@pytest.mark.parametrize("broken", BREAKS)
def test_json_that_breaks_off_is_never_taken_for_complete(stage: Stage, broken: bytes) -> None:
    caller, asked = stage.call()
    asked.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n" + broken)
    asked.close()
    # When everything comes at once, an error in words is as good as a broken answer; a complete one is not.
    if caller.read_head() == 200:
        with pytest.raises(Broken):
            caller.read_body()
        the_record(outcome="upstream_body", status=200)
    else:
        assert caller.status == 502


@pytest.mark.requirement("T49")
def test_json_that_breaks_off_after_its_first_part_was_relayed_leaves_the_client_with_a_broken_answer(
    stage: Stage,
) -> None:
    caller, asked = stage.call()
    asked.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    asked.piece(b'{"jsonrpc":"2.0"')
    assert caller.read_head() == 200
    assert caller.chunk() == b'{"jsonrpc":"2.0"'
    asked.close()
    with pytest.raises(Broken):
        caller.chunk()
    the_record(outcome="upstream_body", status=200, bytes_out=16)


@pytest.mark.requirement("T6")
@pytest.mark.parametrize(
    "unasked",
    [
        b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n"unasked"',
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nx-swallows: ",
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
def test_what_an_upstream_says_unasked_is_nobodys_answer(stage: Stage, unasked: bytes, at_once: bool) -> None:
    first, asked = stage.call()
    body = json.dumps({"jsonrpc": "2.0", "id": 7, "result": {}}).encode()
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    if at_once:
        asked.send(answer + unasked)
        first.read_head()
    else:
        asked.send(answer)
        first.read_head()
        asked.send(unasked)
    assert first.read_body() == body
    if not at_once:
        assert asked.left_by_gateway()
    second, fresh = stage.call()
    expected = fresh.answer_result(second=True)
    second.read_head()
    assert second.read_body() == expected
