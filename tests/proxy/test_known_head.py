"""A connection that sends a head again: what is not parsed a second time means what it meant the first time."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.known_head import KEPT
from tests.proxy.test_http_server import GET, POST, Application, application, connection, server
from tests.support.gateway import UvicornThread
from tests.support.raw_http import RawConnection

__all__ = ["application", "connection", "server"]


def meaning(scope: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in scope.items() if key not in (KEPT, "client")}


def post(body: bytes, *, head: bytes = POST, length: bytes | None = None) -> bytes:
    return head + b"Content-Length: %b\r\n\r\n%b" % (length or b"%d" % len(body), body)


@pytest.mark.requirement("T58")
def test_a_head_that_comes_again_means_the_same_whatever_the_length_of_the_body(
    server: UvicornThread, connection: RawConnection, application: Application
) -> None:
    bodies = [b"a", b"bb", b"c" * 5000, b"", b"d" * 12]
    for body in bodies:
        connection.send(post(body))
        assert connection.read().body == b"POST /a " + body
    kept = list(application.scopes)
    assert [KEPT in scope for scope in kept] == [False, False, True, True, True], "the second request is remembered"
    application.scopes.clear()
    for body in bodies:
        with RawConnection(server.origin) as fresh:
            fresh.send(post(body))
            fresh.read()
    assert [meaning(scope) for scope in kept] == [meaning(scope) for scope in application.scopes]


def test_a_known_head_stays_while_others_take_turns_with_it_and_goes_when_it_comes_no_more(
    connection: RawConnection, application: Application
) -> None:
    other = POST + b"X-Other: yes\r\n"
    for head in [POST, POST, *([other, POST] * 10), *([other] * 10)]:
        connection.send(post(b"abc", head=head))
        connection.read()
    known = [KEPT in scope for scope in application.scopes]
    assert known == [False, False, *([False, True] * 10), *([False] * 8), True, True]


SECOND = [
    post(b"xyz", head=POST + b"Authorization: Bearer other\r\n"),
    post(b"xyz", head=POST.replace(b"/a", b"/b")),
    post(b"xyz", head=POST.replace(b"/a", b"/ab")),
    post(b"xyz", length=b"003"),
    POST + b"content-length:3\r\n\r\nxyz",
    POST + b"Content-Length: 3\r\nX-More: yes\r\n\r\nxyz",
    POST + b"X-More: yes\r\nContent-Length: 3\r\n\r\nxyz",
    POST + b"Transfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\n\r\n",
    GET,
    post(b"one") + post(b"three"),
    post(b"one") + GET,
    b"\r\n" + post(b"xyz"),
]


@pytest.mark.parametrize("data", SECOND)
def test_a_request_that_differs_in_anything_but_its_length_is_read_anew(
    server: UvicornThread, connection: RawConnection, application: Application, data: bytes
) -> None:
    for _ in range(3):
        connection.send(post(b"abc"))
        connection.read()
    application.scopes.clear()
    connection.send(data)
    answers = [connection.read().body]
    while len(answers) < data.count(b"HTTP/1.1"):
        answers.append(connection.read().body)
    kept = [meaning(scope) for scope in application.scopes]
    application.scopes.clear()
    with RawConnection(server.origin) as fresh:
        fresh.send(data)
        assert [fresh.read().body for _ in answers] == answers
    assert kept == [meaning(scope) for scope in application.scopes]
    connection.send(post(b"after"))
    assert connection.read().body == b"POST /a after"


@pytest.mark.parametrize("length", [b"+3", b"-3", b"0x3", b"3 3", b"3,3", b"", b"\xb3"])
def test_a_length_that_is_no_number_is_refused_behind_a_known_head(connection: RawConnection, length: bytes) -> None:
    for _ in range(3):
        connection.send(post(b"abc"))
        connection.read()
    connection.send(POST + b"Content-Length: " + length + b"\r\n\r\nxyz")
    assert connection.read().status == 400


def test_a_second_length_behind_a_known_head_is_refused(connection: RawConnection) -> None:
    for _ in range(3):
        connection.send(post(b"abc"))
        connection.read()
    connection.send(POST + b"Content-Length: 3\r\nContent-Length: 30\r\n\r\nxyz")
    assert connection.read().status == 400


@pytest.mark.parametrize("cut", [10, len(POST) + 5, len(POST) + 16, len(POST) + 20, len(post(b"hello")) - 1])
def test_a_known_head_may_come_in_two_packets(connection: RawConnection, cut: int) -> None:
    data = post(b"hello")
    for _ in range(3):
        connection.send(data)
        connection.read()
    connection.send(data[:cut])
    connection.send(data[cut:] + GET)
    assert connection.read().body == b"POST /a hello"
    assert connection.read().body == b"GET /a "


def test_a_body_may_look_like_the_known_head(connection: RawConnection, application: Application) -> None:
    inner = post(b"abc")
    for _ in range(3):
        connection.send(inner)
        connection.read()
    application.scopes.clear()
    head = POST + b"Content-Length: %d\r\n\r\n" % len(inner)
    connection.send(head)
    connection.send(inner)
    assert connection.read().body == b"POST /a " + inner
    assert len(application.scopes) == 1


def test_what_a_request_does_to_its_scope_is_not_seen_by_the_next(server: UvicornThread) -> None:
    """The application of the gateway writes into the scope."""
    seen: list[dict[str, Any]] = []

    async def scribbling(scope: dict[str, Any], receive: Any, send: Any) -> None:
        seen.append(meaning({**scope, "headers": list(scope["headers"])}))
        scope["headers"].append((b"x-added", b"1"))
        scope["path"] = "/changed"
        scope["added"] = True
        await Application.answer(send, 200, [(b"content-length", b"0")], b"")

    with UvicornThread(scribbling, lifespan="off") as running, RawConnection(running.origin) as opened:
        for _ in range(4):
            opened.send(post(b"abc"))
            assert opened.read().status == 200
    assert seen == [seen[0]] * 4
