"""Nobody keeps a page waiting for a body that does not come, or makes the gateway store one that does not end."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator

import pytest
from pytest_django import Settings

from tests.proxy.wire import GUARD, Caller
from tests.support.gateway import LiveGateway

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requirement("T30")]


@pytest.fixture
def caller(gateway: LiveGateway) -> Iterator[Caller]:
    caller = Caller(gateway.port)
    yield caller
    caller.close()


def post(caller: Caller, path: str, *, length: int) -> None:
    caller.send(
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        f"Content-Length: {length}\r\n\r\n".encode()
    )


def trickle(connection: socket.socket) -> None:
    """Send a byte now and then until the other side says something."""
    ends = time.monotonic() + GUARD
    while not select.select([connection], [], [], 0.1)[0]:
        assert time.monotonic() < ends, "nobody objects"
        connection.send(b"x")


@pytest.mark.parametrize("path", ["/sign-in/", "/admin/login/", "/nowhere"])
@pytest.mark.parametrize("how", ["silent", "slow"])
def test_a_body_that_takes_too_long_is_a_408_that_says_so(
    caller: Caller, settings: Settings, path: str, how: str
) -> None:
    settings.PAGE_BODY_SECONDS = 1
    post(caller, path, length=100_000)
    if how == "slow":
        trickle(caller.socket)
    assert caller.read_head() == 408
    assert caller.headers["connection"] == "close"
    assert caller.headers["content-type"] == "text/plain; charset=utf-8"
    assert caller.headers["x-request-id"]
    text = b"The request did not arrive within 1 seconds. Go back and send it again.\n"
    assert caller.read_body() == text
    assert caller.rest() == b""


def test_a_body_in_pieces_that_comes_in_time_is_read_whole(caller: Caller, settings: Settings) -> None:
    settings.PAGE_BODY_SECONDS = 5
    post(caller, "/sign-in/", length=13)
    caller.send(b"username=")
    assert caller.silent()
    caller.send(b"anna")
    assert caller.read_head() == 403  # no CSRF token, which is looked for in the body
    assert caller.headers["content-type"].startswith("text/html")


def test_the_limit_is_for_the_body_and_not_for_what_comes_after(caller: Caller, settings: Settings) -> None:
    settings.PAGE_BODY_SECONDS = 1
    for _ in range(2):
        caller.send(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert caller.answer() == {"status": "ok"}
        assert not select.select([caller.socket], [], [], 1.2)[0], "an idle connection stays open"


@pytest.mark.parametrize("excess", [0, 1])
def test_a_body_larger_than_the_limit_is_a_413_and_not_stored(caller: Caller, settings: Settings, excess: int) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 100_000
    post(caller, "/sign-in/", length=100_000 + excess)
    caller.send(b"x" * (100_000 + excess))
    assert caller.read_head() == (413 if excess else 403)
    if excess:
        assert b"larger than 100000 bytes" in caller.read_body()
        assert caller.headers["connection"] == "close"


def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_fault(
    caller: Caller, caplog: pytest.LogCaptureFixture, gateway: LiveGateway
) -> None:
    post(caller, "/sign-in/", length=100)
    caller.close()
    other = Caller(gateway.port)
    other.send(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    assert other.answer() == {"status": "ok"}
    other.close()
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]
