"""The HTTP/1.1 side of `manage.py serve`, byte by byte."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from proxy.http_server import HEAD_SECONDS, LARGEST_HEAD, LeanHttpProtocol
from tests.support.gateway import UvicornThread
from tests.support.raw_http import RawConnection, Response, request

GET = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: x\r\n"


class Application:
    """Repeats what it was asked; some paths behave otherwise. Keeps the scopes of all requests."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.entered = threading.Event()
        self.release = threading.Event()
        self.disconnected = threading.Event()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        self.scopes.append({**scope, "headers": list(scope["headers"])})
        path = scope["path"]
        if path == "/refuse":
            await self.answer(send, 413, [(b"content-length", b"0")], b"")
            return
        if path == "/wait":
            self.entered.set()
            import asyncio

            await asyncio.get_running_loop().run_in_executor(None, self.release.wait, 20)
        if path == "/gone":
            self.entered.set()
            while (await receive())["type"] != "http.disconnect":
                pass
            self.disconnected.set()
            return
        body = b""
        while True:
            event = await receive()
            if event["type"] != "http.request":
                return
            body += event["body"]
            if not event["more_body"]:
                break
        self.scopes[-1]["seen"] = list(scope["headers"])
        if path == "/chunked":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for piece in (b"one", b"", b"two"):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        elif path == "/bad-header":
            await self.answer(send, 200, [(b"x", b"a\r\nSet-Cookie: evil=1")], b"")
        elif path == "/bad-name":
            await self.answer(send, 200, [(b"x\n", b"a")], b"")
        elif path == "/long":
            await self.answer(send, 200, [(b"content-length", b"1")], b"too long")
        elif path == "/short":
            await self.answer(send, 200, [(b"content-length", b"9")], b"short")
        elif path == "/fails":
            raise RuntimeError("on purpose")
        elif path == "/cut":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
        elif path == "/empty":
            await self.answer(send, 204, [], b"a body that 204 has not")
        elif path == "/close":
            await self.answer(send, 200, [(b"connection", b"close"), (b"content-length", b"2")], b"ok")
        else:
            text = scope["method"].encode() + b" " + path.encode() + b" " + body
            await self.answer(send, 200, [(b"content-length", b"%d" % len(text))], text)

    @staticmethod
    async def answer(send: Any, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
def server(application: Application) -> Iterator[UvicornThread]:
    with UvicornThread(application, lifespan="off") as running:
        yield running
        application.release.set()


@pytest.fixture
def connection(server: UvicornThread) -> Iterator[RawConnection]:
    with RawConnection(server.origin) as opened:
        yield opened


def test_a_connection_serves_one_request_after_another(connection: RawConnection) -> None:
    for number in range(5):
        connection.send(POST + b"Content-Length: 1\r\n\r\n%d" % number)
        assert connection.read().body == b"POST /a %d" % number


def test_requests_sent_at_once_are_answered_in_order(connection: RawConnection, application: Application) -> None:
    connection.send(
        b"GET /1 HTTP/1.1\r\nHost: x\r\n\r\n"
        b"POST /2 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"
        b"POST /3 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\n"
        b"GET /4 HTTP/1.1\r\nHost: x\r\nX-Last: yes\r\n\r\n"
    )
    assert [connection.read().body for _ in range(4)] == [b"GET /1 ", b"POST /2 abc", b"POST /3 def", b"GET /4 "]
    assert [b"x-last" in dict(scope["headers"]) for scope in application.scopes] == [False, False, False, True]


def test_a_request_may_come_byte_by_byte(connection: RawConnection, application: Application) -> None:
    data = b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nX-Y: z\r\nContent-Length: 5\r\n\r\nhello" + GET
    for position in range(len(data)):
        connection.send(data[position : position + 1])
    assert connection.read().body == b"POST /a hello"
    assert connection.read().body == b"GET /a "
    scope = application.scopes[0]
    assert (scope["query_string"], scope["raw_path"]) == (b"b=c", b"/a")
    assert (b"x-y", b"z") in scope["headers"]


@pytest.mark.parametrize("sizes", [[1] * 10, [10], [3, 4, 3], [100_000, 1, 300_000]])
def test_a_chunked_body_is_whole(connection: RawConnection, sizes: list[int]) -> None:
    connection.send(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    for size in sizes:
        connection.send(b"%x;extension=1\r\n%b\r\n" % (size, b"x" * size))
    connection.send(b"0\r\n\r\n")
    assert len(connection.read().body) == len(b"POST /a ") + sum(sizes)
    connection.send(GET)
    assert connection.read().status == 200


@pytest.mark.requirement("T6")
@pytest.mark.parametrize("at_once", [True, False])
def test_a_trailer_never_becomes_a_header(connection: RawConnection, application: Application, at_once: bool) -> None:
    head = POST + b"Transfer-Encoding: chunked\r\nTrailer: Authorization\r\n\r\n"
    rest = b"3\r\nabc\r\n0\r\nAuthorization: Bearer smuggled\r\nX-T: 1\r\n\r\n"
    if at_once:
        connection.send(head + rest)
    else:
        connection.send(head)
        connection.send(rest)
    assert connection.read().body == b"POST /a abc"
    names = [name for name, _ in application.scopes[0]["seen"]]
    assert names == [b"host", b"transfer-encoding", b"trailer"]


def test_head_is_answered_without_a_body(connection: RawConnection) -> None:
    for path in (b"/a", b"/chunked"):
        connection.send(b"HEAD " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
        assert connection.read(of="HEAD").status == 200
        assert connection.read().body == b"GET /a "


def test_an_answer_of_unknown_length_is_chunked(connection: RawConnection) -> None:
    connection.send(b"GET /chunked HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
    response = connection.read()
    assert (response.header("transfer-encoding"), response.body) == ("chunked", b"onetwo")
    assert connection.read().body == b"GET /a "


@pytest.mark.parametrize("header", [b"", b"Connection: keep-alive\r\n"])
@pytest.mark.parametrize("path", [b"/a", b"/chunked"])
def test_http_1_0_gets_one_answer_and_no_chunks(connection: RawConnection, path: bytes, header: bytes) -> None:
    connection.send(b"GET " + path + b" HTTP/1.0\r\n" + header + b"\r\n")
    response = connection.read()
    assert "transfer-encoding" not in response.names()
    assert response.body in (b"GET /a ", b"onetwo")
    assert connection.is_closed()


@pytest.mark.parametrize(
    "data", [GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), b"GET /close HTTP/1.1\r\nHost: x\r\n\r\n"]
)
def test_the_connection_is_closed_when_either_side_says_so(connection: RawConnection, data: bytes) -> None:
    connection.send(data)
    response = connection.read()
    assert (response.status, response.header("connection")) == (200, "close")
    assert connection.is_closed()


def test_a_204_has_neither_length_nor_body(connection: RawConnection) -> None:
    connection.send(b"GET /empty HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
    response = connection.read()
    assert response.status == 204
    assert response.names() == set()
    assert connection.read().body == b"GET /a "


def test_a_client_that_asks_first_is_told_to_go_on(connection: RawConnection) -> None:
    connection.send(POST + b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert connection.read().status == 100
    connection.send(b"abc")
    assert connection.read().body == b"POST /a abc"
    connection.send(GET)
    assert connection.read().status == 200


def test_a_client_that_asks_first_and_is_refused_cannot_mistake_what_comes_next(connection: RawConnection) -> None:
    # Whether it sends the body all the same is up to the client, so the connection is of no more use.
    connection.send(b"POST /refuse HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    response = connection.read()
    assert (response.status, response.header("connection")) == (413, "close")
    assert connection.is_closed()


SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.requirement("T6")
@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc" + SMUGGLED,
        b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc" + SMUGGLED,
        b"Content-Length: 3, 3\r\n\r\nabc" + SMUGGLED,
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"Transfer-Encoding: identity\r\nContent-Length: 0\r\n\r\n" + SMUGGLED,
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
        b"Content-Length: +3\r\n\r\nabc" + SMUGGLED,
        b"Content-Length: -1\r\n\r\nabc" + SMUGGLED,
        b"Content-Length: 0x3\r\n\r\nabc" + SMUGGLED,
        b"Content-Length: 99999999999999999999\r\n\r\nabc" + SMUGGLED,
        b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n" + SMUGGLED,
        b"Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n" + SMUGGLED,
        b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n" + SMUGGLED,
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n" + SMUGGLED,
        b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc" + SMUGGLED,
    ],
)
def test_a_body_of_two_lengths_is_no_http_and_smuggles_nothing(
    connection: RawConnection, application: Application, head: bytes
) -> None:
    connection.send(POST + head)
    response = connection.read()
    assert response.status == 400
    assert connection.is_closed()
    assert all(scope["path"] != "/smuggled" for scope in application.scopes)


@pytest.mark.requirement("T53")
@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"GET /a HTTP/3.0\r\nHost: x\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"get /a HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost x\r\n\r\n",
        b"GET /a HTTP/1.1\r\n: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nA b: x\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
        b"GET /a\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_http_is_400(connection: RawConnection, application: Application, data: bytes) -> None:
    connection.send(data)
    assert connection.read().status == 400
    assert connection.is_closed()
    assert application.scopes == []


@pytest.mark.requirement("T30")
@pytest.mark.parametrize(
    "piece", [b"X: %b\r\n" % (b"a" * 1000), b"a: b\r\n" * 200, b"a" * 1000], ids=["values", "many", "one line"]
)
def test_an_endless_head_is_431(connection: RawConnection, application: Application, piece: bytes) -> None:
    connection.send(b"GET /a HTTP/1.1\r\nHost: x\r\nX: ")
    sent = 0
    while sent <= LARGEST_HEAD + 4000:
        try:
            connection.send(piece)
        except OSError:
            break
        sent += len(piece)
    assert connection.read().status == 431
    assert application.scopes == []


def test_a_long_head_within_the_limit_is_taken(connection: RawConnection, application: Application) -> None:
    connection.send(b"GET /a HTTP/1.1\r\nHost: x\r\nX: %b\r\n\r\n" % (b"a" * (LARGEST_HEAD - 2000)))
    assert connection.read().status == 200


@pytest.mark.requirement("T53")
@pytest.mark.parametrize("path", [b"/bad-header", b"/bad-name"])
def test_a_line_break_in_a_response_header_is_refused(connection: RawConnection, path: bytes) -> None:
    connection.send(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"set-cookie" not in connection.read_all().lower()


@pytest.mark.parametrize("path", [b"/long", b"/short", b"/cut"])
def test_an_answer_that_is_not_what_it_said_ends_the_connection(connection: RawConnection, path: bytes) -> None:
    connection.send(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
    received = connection.read_all()
    assert b"too long" not in received
    assert b"GET /a" not in received
    assert not received.endswith(b"0\r\n\r\n")


def test_an_application_that_fails_is_500_and_the_server_goes_on(
    connection: RawConnection, server: UvicornThread
) -> None:
    connection.send(b"GET /fails HTTP/1.1\r\nHost: x\r\n\r\n")
    assert connection.read().status == 500
    assert connection.is_closed()
    assert request("GET", server.origin + "/a").status == 200


def test_garbage_behind_a_request_is_no_part_of_its_answer(connection: RawConnection, application: Application) -> None:
    connection.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
    assert application.entered.wait(10)
    connection.send(b"nonsense\r\n\r\n")
    received = connection.read_all()
    application.release.set()
    assert received == b""


@pytest.mark.parametrize("length", [b"3", b"0"])
def test_an_upgrade_that_is_not_offered_is_answered_as_a_plain_request(
    connection: RawConnection, length: bytes
) -> None:
    connection.send(
        POST
        + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\nContent-Length: "
        + length
        + b"\r\n\r\n"
        + b"abc"[: int(length)]
    )
    assert connection.read().body == b"POST /a " + b"abc"[: int(length)]
    connection.send(GET)
    assert connection.read().body == b"GET /a "


def test_the_body_behind_an_upgrade_may_come_in_pieces(connection: RawConnection) -> None:
    head = POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n"
    for piece in (head, b"3\r\nab", b"c\r\n0\r\n", b"\r\n" + GET):
        connection.send(piece)
    assert connection.read().body == b"POST /a abc"
    assert connection.read().body == b"GET /a "


def test_a_client_that_leaves_is_noticed(server: UvicornThread, application: Application) -> None:
    with RawConnection(server.origin) as connection:
        connection.send(b"GET /gone HTTP/1.1\r\nHost: x\r\n\r\n")
        assert application.entered.wait(10)
    assert application.disconnected.wait(10)


def test_a_call_in_flight_is_finished_when_the_server_ends(application: Application) -> None:
    answers: list[Response] = []
    with (
        UvicornThread(application, lifespan="off") as running,
        RawConnection(running.origin) as connection,
        RawConnection(running.origin) as idle,
    ):
        idle.send(GET)
        idle.read()
        connection.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        assert application.entered.wait(10)
        running._server.should_exit = True
        assert idle.is_closed()
        application.release.set()
        answers.append(connection.read())
        assert connection.is_closed()
    assert answers[0].body == b"GET /wait "
    assert answers[0].header("connection") == "close"


class Quiet:
    """A transport that only notes what became of it."""

    def __init__(self) -> None:
        self.closed = False

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close


@pytest.mark.parametrize(
    ("head_bytes", "quiet_for", "closed"),
    [(0, 4.0, False), (0, 6.0, True), (10, 6.0, False)],
)
def test_a_quiet_connection_is_closed_after_the_keep_alive_time(
    server: UvicornThread, head_bytes: int, quiet_for: float, closed: bool
) -> None:
    protocol = LeanHttpProtocol(server._server.config, server._server.server_state, {}, _loop=object())  # type: ignore[arg-type]
    protocol.transport = transport = Quiet()  # type: ignore[assignment]
    protocol.quiet_since, protocol.head_since, protocol.closing_since = 1000.0, 0.0, 0.0
    protocol.head_bytes = head_bytes
    protocol.close_if_quiet(1000.0 + quiet_for)
    assert transport.closed is closed
    if head_bytes:
        # Seen at this time for the first time, and given its own time from then on.
        protocol.close_if_quiet(1000.0 + quiet_for + HEAD_SECONDS - 1)
        assert not transport.closed
        protocol.close_if_quiet(1000.0 + quiet_for + HEAD_SECONDS + 1)
        assert transport.closed
