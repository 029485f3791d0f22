"""Nobody makes the gateway hold more than a little: neither a fast upstream nor a client that does not read (T30)."""

from __future__ import annotations

import resource
import socket
from pathlib import Path

import pytest
from pytest_django import Settings

from proxy.upstream import HIGH_WATER
from tests.proxy.test_disconnects import the_record
from tests.proxy.wire import Asked, Broken, Stage, wait_until

KIBIBYTE = 1024
MEBIBYTE = 1024 * KIBIBYTE
BUFFER = 64 * KIBIBYTE
"""Asked for as send buffer of the upstream and receive buffer of the client; the kernel takes twice as much."""


def largest_kernel_buffer(kind: str) -> int:
    """The size up to which the kernel lets a buffer grow that nobody gave a size (`tcp_rmem`, `tcp_wmem`)."""
    return int(Path(f"/proc/sys/net/ipv4/{kind}").read_text().split()[2])


# Where bytes can be while the client takes nothing. In the gateway:
# - in the response: up to HIGH_WATER it reads on, so one read more can follow (asyncio reads 256 KiB at most, uvloop
#   250 KiB); then reading pauses;
# - in the hands of the task that relays them, which waits for the client's transport: as much, taken in one piece;
# - in the client's transport: it takes a piece of the same size as long as no more than 64 KiB wait there.
# Clients that read now and then were seen to bring it to 6.1 times HIGH_WATER; the sum is 6.25 times.
ONE_READ = 256 * KIBIBYTE
TRANSPORT_HIGH_WATER = 64 * KIBIBYTE
FRAMING = 4 * KIBIBYTE
"""Sizes of chunks and the head of the answer, which count on one side only."""
MOST_HELD = TRANSPORT_HIGH_WATER + 3 * (HIGH_WATER + ONE_READ) + FRAMING
# In the kernel: our two buffers, and the gateway's two, whose size is the machine's to choose.
MOST_SENT = MOST_HELD + 2 * 2 * BUFFER + largest_kernel_buffer("tcp_rmem") + largest_kernel_buffer("tcp_wmem")
MOST_RESIDENT = 8 * MEBIBYTE
"""What is held, copies of pieces while they are joined and framed, and what the allocator rounds up."""
PIECE = b"data: " + b"x" * (65536 - 8) + b"\n\n"
FRAMED = b"%x\r\n%b\r\n" % (len(PIECE), PIECE)


def with_small_buffer(asked: Asked) -> Asked:
    """The same, with a send buffer of a known size."""
    asked.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
    return asked


def push(asked: Asked, *, at_most: int) -> int:
    """Send as many bytes of a stream as are taken; returns their number.

    Nobody takes more when the gateway's timer has come round several times and the socket is still full.
    """
    asked.socket.settimeout(1.0)
    sent = 0
    try:
        while sent < at_most:
            sent += asked.socket.send(FRAMED[sent % len(FRAMED) :])
    except TimeoutError:
        pass
    finally:
        asked.socket.settimeout(20)
    return sent


def closed_while_pushing(asked: Asked) -> bool:
    """Go on sending until the gateway closes the connection."""
    try:
        for _ in range(20):
            push(asked, at_most=MOST_SENT)
    except ConnectionError:
        return True
    return False


def in_kernel(*ports: int) -> int:
    """Bytes under way in the socket buffers of all connections to these local ports, both ends and directions."""
    total = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, queues, *_ = line.split()
        if state == "01" and {int(end.partition(":")[2], 16) for end in (local, remote)} & set(ports):
            total += sum(int(size, 16) for size in queues.split(":"))
    return total


def resident() -> int:
    """The largest resident size of this process so far, in bytes; upstream, gateway and client are all in it."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.requirement("T30", "F-701")
@pytest.mark.parametrize("kind", ["stream", "json"])
def test_an_upstream_waits_for_a_client_that_does_not_read(stage: Stage, kind: str) -> None:
    caller = stage.caller(receive_buffer=BUFFER).call(stage.path, key=stage.key)
    asked = with_small_buffer(stage.upstream.request())
    if kind == "stream":
        asked.start_stream()
    else:
        asked.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    before = resident()
    sent = push(asked, at_most=2 * MOST_SENT)
    assert sent <= MOST_SENT
    wait_until(lambda: sent - in_kernel(stage.port, stage.upstream.port) <= MOST_HELD, "the rest to be kept back")
    assert resident() - before < MOST_RESIDENT
    # Reading makes it flow again, and what was held is complete and in order.
    caller.read_head()
    received = b""
    while len(received) < sent // len(FRAMED) * len(PIECE):
        received += caller.chunk()
    assert received.startswith(PIECE * (sent // len(FRAMED)))
    assert asked.socket.send(FRAMED[sent % len(FRAMED) :]) > 0


@pytest.mark.requirement("T30")
def test_one_huge_event_passes_without_being_held(stage: Stage) -> None:
    caller, asked = stage.stream()
    size = 8 * MEBIBYTE
    asked.send(b"%x\r\n" % (size + 8))
    asked.send(b"data: ")
    received, sent = 0, 0
    before = resident()
    part = b"x" * MEBIBYTE
    while sent < size:
        asked.send(part)
        sent += len(part)
        # The event has not ended; what there is of it has arrived.
        while received < sent:
            received += len(caller.chunk())
    asked.send(b"\n\n\r\n")
    asked.end_stream()
    received += len(caller.read_body())
    assert received == size + 8
    assert resident() - before < 4 * MEBIBYTE + MOST_HELD


@pytest.mark.requirement("T30", "T57")
@pytest.mark.parametrize("kind", ["stream", "json"])
def test_a_client_that_never_reads_on_is_dropped(stage: Stage, settings: Settings, kind: str) -> None:
    settings.STALLED_CLIENT_SECONDS = 1
    stage.server.response_timeout = 1
    stage.server.save()
    caller = stage.caller(receive_buffer=BUFFER).call(stage.path, key=stage.key)
    asked = stage.upstream.request()
    if kind == "stream":
        asked.start_stream()
    else:
        asked.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    assert closed_while_pushing(asked)
    the_record(outcome="client_stalled", status=200)
    caller.read_head()
    with pytest.raises(Broken):
        caller.read_body()


@pytest.mark.requirement("T30")
def test_a_client_that_reads_slowly_is_not_dropped(stage: Stage, settings: Settings) -> None:
    settings.STALLED_CLIENT_SECONDS = 2
    caller = stage.caller(receive_buffer=BUFFER).call(stage.path, key=stage.key)
    asked = stage.upstream.request()
    asked.start_stream()
    caller.read_head()
    for _ in range(6):  # each push waits for a second in vain
        push(asked, at_most=MOST_SENT)
        received = 0
        while received < MEBIBYTE:
            received += len(caller.chunk())
    assert received >= MEBIBYTE


@pytest.mark.requirement("T30")
def test_a_stream_whose_client_does_not_read_can_still_be_revoked(stage: Stage) -> None:
    stage.caller(receive_buffer=BUFFER).call(stage.path, key=stage.key)
    asked = stage.upstream.request()
    asked.start_stream()
    push(asked, at_most=2 * MOST_SENT)
    stage.server.enabled = False
    stage.server.save()
    assert closed_while_pushing(asked)
    the_record(outcome="access_ended", status=200)


@pytest.mark.requirement("T30", "T46")
def test_json_larger_than_the_limit_is_refused_when_its_size_is_declared(stage: Stage, settings: Settings) -> None:
    settings.MAX_RESPONSE_BYTES = 1024
    caller, asked = stage.call()
    asked.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1025\r\n\r\n{")
    answer = caller.answer()
    assert caller.status == 502
    assert "sent an answer larger than 1024 bytes" in answer["error"]["message"]
    assert asked.left_by_gateway()
    the_record(outcome="upstream_too_large", status=502, upstream_status=200)


@pytest.mark.requirement("T30", "T46")
def test_json_that_grows_beyond_the_limit_is_cut(stage: Stage, settings: Settings) -> None:
    settings.MAX_RESPONSE_BYTES = 1024
    caller, asked = stage.call()
    asked.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    asked.piece(b"1" * 1024)
    assert caller.read_head() == 200
    assert caller.chunk() == b"1" * 1024
    asked.piece(b"1")
    with pytest.raises(Broken):
        caller.chunk()
    assert asked.left_by_gateway()
    the_record(outcome="upstream_too_large", status=200)


@pytest.mark.requirement("T30")
@pytest.mark.parametrize("at_once", [True, False])
def test_json_of_exactly_the_limit_passes_and_one_byte_more_does_not(
    stage: Stage, settings: Settings, at_once: bool
) -> None:
    settings.MAX_RESPONSE_BYTES = 1024
    for size in (1024, 1025):
        caller, asked = stage.call()
        body = b"1" * size
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
        if at_once:
            asked.send(head + b"content-length: %d\r\n\r\n" % size + body)
        else:
            asked.send(head + b"transfer-encoding: chunked\r\n\r\n")
            asked.piece(body)
            asked.end_stream()
        status = caller.read_head()
        if size == 1024:
            assert status == 200
            assert caller.read_body() == body
        elif status == 200:
            with pytest.raises(Broken):
                caller.read_body()


@pytest.mark.requirement("T30")
def test_streams_have_no_limit_of_size(stage: Stage, settings: Settings) -> None:
    settings.MAX_RESPONSE_BYTES = 1024
    caller, asked = stage.stream()
    for _ in range(4):
        asked.piece(b"data: " + b"x" * 1000 + b"\n\n")
        assert len(caller.event()) == 1008


@pytest.mark.requirement("T30", "T57")
def test_a_stream_ends_when_its_longest_time_is_over(stage: Stage, settings: Settings) -> None:
    settings.MAX_STREAM_SECONDS = 1
    caller, asked = stage.stream()
    asked.piece(b"data: {}\n\n")
    assert caller.event() == b"data: {}\n\n"
    # An orderly end: the client may come again.
    assert caller.chunk() == b""
    assert asked.left_by_gateway()
    the_record(outcome="timeout", status=200)


@pytest.mark.requirement("T46")
def test_an_upload_waits_for_nobody_who_refused_it(stage: Stage, settings: Settings) -> None:
    settings.MAX_REQUEST_BYTES = 1024
    caller = stage.caller().ask(stage.path, key=stage.key, length=10**9)
    answer = caller.answer()
    assert caller.status == 413
    assert "1024" in answer["error"]["message"]
    assert caller.headers["connection"] == "close"
    assert caller.rest() == b""
    assert stage.upstream.nobody_came()


@pytest.mark.requirement("T46")
def test_an_upload_without_a_declared_size_is_cut_at_the_limit(stage: Stage, settings: Settings) -> None:
    settings.MAX_REQUEST_BYTES = 1024
    caller = stage.caller()
    caller.send(
        f"POST {stage.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {stage.key}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    )
    caller.send(b"400\r\n" + b" " * 1024 + b"\r\n")
    assert caller.silent()
    caller.send(b"1\r\n \r\n")
    assert caller.read_head() == 413
    wait_until(stage.upstream.nobody_came, "nobody to come")
