"""Answers that come piece by piece: events, JSON, streams that stay open."""

from __future__ import annotations

import threading

import pytest
from pytest_django import Settings

from tests.proxy.wire import Stage, wait_until

EVENT = b'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}\n\n'
RESULT = b'event: message\ndata: {"jsonrpc":"2.0","id":7,"result":{"content":[]}}\n\n'
COMMENT = b": keep-alive\n\n"


@pytest.mark.requirement("F-701")
@pytest.mark.parametrize("modern", [False, True])
def test_an_event_arrives_before_the_upstream_has_sent_the_next(stage: Stage, modern: bool) -> None:
    caller, asked = stage.stream(modern=modern)
    for number in range(5):
        event = b"id: %d\ndata: {}\n\n" % number
        asked.piece(event)
        assert caller.event() == event
    asked.piece(RESULT)
    asked.end_stream()
    assert caller.event() == RESULT
    assert caller.chunk() == b""


@pytest.mark.requirement("F-701")
def test_the_head_of_a_stream_arrives_before_its_first_event(stage: Stage) -> None:
    caller, _ = stage.stream()
    assert caller.headers["content-type"] == "text/event-stream"
    assert caller.headers["cache-control"] == "no-cache, no-transform"
    assert caller.headers["x-accel-buffering"] == "no"
    assert caller.headers["x-content-type-options"] == "nosniff"
    assert caller.headers["transfer-encoding"] == "chunked"
    assert "content-length" not in caller.headers


@pytest.mark.requirement("F-701")
def test_json_passes_in_the_pieces_in_which_it_comes(stage: Stage) -> None:
    caller, asked = stage.call()
    body = b'{"jsonrpc":"2.0","id":7,"result":{"content":[]}}'
    asked.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    asked.piece(body[:10])
    assert caller.read_head() == 200
    assert caller.chunk() == body[:10]
    asked.piece(body[10:])
    assert caller.chunk() == body[10:]
    asked.end_stream()
    assert caller.chunk() == b""


@pytest.mark.requirement("F-701")
def test_an_upstream_that_sends_single_bytes_is_relayed_whole(stage: Stage) -> None:
    caller, asked = stage.stream()
    for byte in RESULT:
        asked.piece(bytes([byte]))
    asked.end_stream()
    assert caller.read_body() == RESULT


@pytest.mark.requirement("F-701")
def test_a_head_that_comes_in_single_bytes_is_understood(stage: Stage) -> None:
    caller, asked = stage.call()
    for byte in b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}":
        asked.send(bytes([byte]))
    assert caller.read_head() == 200
    assert caller.read_body() == b"{}"


@pytest.mark.requirement("F-701")
def test_an_answer_that_ends_with_its_connection_is_complete(stage: Stage) -> None:
    caller, asked = stage.call()
    asked.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + EVENT)
    asked.close()
    caller.read_head()
    assert caller.read_body() == EVENT


@pytest.mark.requirement("F-701")
def test_a_get_opens_a_stream_and_carries_the_servers_messages(stage: Stage) -> None:
    caller, asked = stage.stream(http_method="GET")
    assert asked.http_method == "GET"
    assert asked.body == b""
    asked.piece(EVENT)
    assert caller.event() == EVENT


@pytest.mark.requirement("F-701")
def test_a_subscription_of_the_modern_era_stays_open_beyond_the_response_timeout(stage: Stage) -> None:
    stage.server.response_timeout = 1
    stage.server.save()
    caller, asked = stage.call(modern=True, method="subscriptions/listen")
    other, silent = stage.call()
    asked.start_stream()
    assert caller.read_head() == 200
    # The other call's time is up; the stream began no later.
    assert other.read_head() == 504
    assert silent.left_by_gateway()
    asked.piece(EVENT)
    assert caller.event() == EVENT


@pytest.mark.requirement("F-701")
def test_many_idle_streams_cost_no_thread(stage: Stage, settings: Settings) -> None:
    settings.MAX_STREAMS_PER_CALLER = 100
    open_streams = [stage.stream(http_method="GET")]
    before = threading.active_count()
    open_streams += [stage.stream(http_method="GET") for _ in range(40)]
    assert threading.active_count() <= before
    for caller, asked in open_streams:
        asked.piece(EVENT)
        assert caller.event() == EVENT


@pytest.mark.requirement("F-701", "T30")
def test_one_caller_has_a_limit_of_open_streams_and_others_have_their_own(stage: Stage, settings: Settings) -> None:
    settings.MAX_STREAMS_PER_CALLER = 2
    first = stage.stream(http_method="GET")
    stage.stream()
    refused, asked = stage.call()
    asked.start_stream()
    answer = refused.answer()
    assert refused.status == 429
    assert refused.headers["retry-after"] == "10"
    assert answer["id"] == 7
    assert "Too many open streams" in answer["error"]["message"]
    assert asked.left_by_gateway()
    # A plain answer is no stream.
    plain, asked = stage.call()
    expected = asked.answer_result()
    plain.read_head()
    assert plain.read_body() == expected
    # One that ends makes room.
    first[1].end_stream()
    assert first[0].chunk() == b""
    caller = stage.caller().call(stage.path, key=stage.key)
    first[1].read_request().start_stream()
    assert caller.read_head() == 200


# --- Keep-alive comments ----------------------------------------------------------------------------


@pytest.fixture
def impatient(settings: Settings) -> None:
    """Comments on every stream that has been idle at all."""
    settings.STREAM_KEEPALIVE_SECONDS = 0


@pytest.mark.requirement("F-701")
@pytest.mark.parametrize("http_method", ["GET", "POST"])
def test_an_idle_stream_is_kept_alive_with_comments(impatient: None, stage: Stage, http_method: str) -> None:
    caller, asked = stage.stream(http_method=http_method)
    assert caller.chunk() == COMMENT
    asked.piece(EVENT)
    seen = wait_until(lambda: (chunk := caller.chunk()) != COMMENT and chunk, "the event")
    assert seen == EVENT
    assert caller.chunk() == COMMENT
    assert asked.silent()


@pytest.mark.requirement("F-701")
@pytest.mark.parametrize(
    ("first", "second"),
    [
        (b"data: {\n", b"data: }\n\n"),
        (b"data: {}\n", b"\n"),
        (b"data: {}", b"\n\n"),
        (b"data: {}\r\n", b"\r\n"),
        (b"data: {}\r\n\r", b"\n"),
        (b"data: one\n\ndata: t", b"wo\n\n"),
    ],
)
def test_no_comment_comes_inside_an_event_and_one_comes_after_it(
    impatient: None, stage: Stage, first: bytes, second: bytes
) -> None:
    waiting, _ = stage.stream(http_method="GET")
    caller, asked = stage.stream()
    asked.piece(first)
    seen = wait_until(lambda: (chunk := caller.chunk()) != COMMENT and chunk, "the first half")
    assert seen == first
    # The other stream has been sent two more comments: this one had its turns.
    waiting.socket.settimeout(30)
    for _ in range(3):
        while waiting.chunk() != COMMENT:
            pass
    assert caller.silent()
    asked.piece(second)
    assert caller.chunk() == second
    assert caller.chunk() == COMMENT


@pytest.mark.requirement("F-701")
def test_json_that_comes_slowly_gets_no_comments(impatient: None, stage: Stage) -> None:
    waiting, _ = stage.stream(http_method="GET")
    caller, asked = stage.call()
    asked.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    asked.piece(b"{")
    caller.read_head()
    assert caller.chunk() == b"{"
    for _ in range(3):
        assert waiting.chunk() == COMMENT
    asked.piece(b"}")
    asked.end_stream()
    assert caller.read_body() == b"}"
