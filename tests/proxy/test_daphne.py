"""The same application under `manage.py serve` and under Daphne gives the same answers."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from servers.models import Call
from tests.conftest import Cast
from tests.proxy.test_back_pressure import BUFFER, MOST_SENT, push, with_small_buffer
from tests.proxy.test_disconnects import the_record
from tests.proxy.wire import Stage, message, staged, wait_until
from tests.support.process_gateway import ProcessGateway

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

EVENT = b'event: message\ndata: {"jsonrpc":"2.0","id":7,"result":{}}\n\n'
VOLATILE = {"date", "server", "transfer-encoding", "mcp-session-id"}


@pytest.fixture(params=["serve", "daphne", "runserver"])
def either(request: pytest.FixtureRequest, cast: Cast, key: str) -> Iterator[Stage]:
    """The stage in front of one kind of server."""
    with (
        ProcessGateway(request.param, MAX_REQUEST_BYTES=4096, STREAM_KEEPALIVE_SECONDS=1) as gateway,
        staged(gateway.port, cast.server, key) as stage,
    ):
        yield stage


@pytest.mark.requirement("F-701", "F-704", "T46", "T49")
def test_the_exchange_is_the_same(either: Stage, cast: Cast) -> None:
    stage = either
    initialize = json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}}
    ).encode()

    # A session is opened, used with its sealed id, and unknown to others.
    caller = stage.caller().ask(stage.path, key=stage.key, body=initialize)
    asked = stage.upstream.request()
    asked.send(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nmcp-session-id: theirs\r\ncontent-length: 2\r\n\r\n{}"
    )
    assert caller.read_head() == 200
    assert caller.read_body() == b"{}"
    sealed = caller.headers["mcp-session-id"]
    assert sealed != "theirs"
    assert {name: value for name, value in caller.headers.items() if name not in VOLATILE} == {
        "content-type": "application/json",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "content-length": "2",
    }
    body, _ = message()
    caller = stage.caller().ask(stage.path, key=stage.key, body=body, headers={"Mcp-Session-Id": sealed})
    asked.read_request()
    assert asked.headers["mcp-session-id"] == "theirs"
    expected = asked.answer_result()
    assert caller.read_head() == 200
    assert caller.read_body() == expected
    caller = stage.caller().ask(stage.path, key=stage.key, body=body, headers={"Mcp-Session-Id": sealed[:-2]})
    assert caller.answer()["error"]["code"] == 1440
    assert caller.status == 404
    asked.close()

    # Events come one by one, before the first there is the head, and comments in between.
    caller, asked = stage.stream()
    assert caller.headers["content-type"] == "text/event-stream"
    assert caller.headers["cache-control"] == "no-cache, no-transform"
    assert wait_until(lambda: caller.chunk() == b": keep-alive\n\n", "a comment")
    for _ in range(2):
        asked.piece(EVENT)
        assert caller.event() == EVENT
    asked.end_stream()
    assert caller.chunk() == b""
    asked.close()

    # A client that leaves a listening stream is noticed.
    caller, asked = stage.stream(http_method="GET")
    caller.close()
    assert asked.left_by_gateway()
    # One that leaves a slow call, too.
    caller, asked = stage.call()
    caller.close()
    assert asked.left_by_gateway()

    # Refusals.
    caller = stage.caller().ask(stage.path, key=None, body=body)
    assert caller.answer()["error"]["code"] == 1401
    assert caller.status == 401
    assert caller.headers["www-authenticate"].startswith("Bearer resource_metadata=")
    caller = stage.caller().ask(stage.path, key=stage.key, body=b" " * 5000)
    assert caller.answer()["error"]["code"] == 1413
    assert caller.status == 413
    caller = stage.caller().ask(stage.path, key=stage.key, method="HEAD")
    assert caller.read_head() == 405
    caller = stage.caller().ask(stage.path, key=None, method="HEAD")
    assert caller.read_head() == 401
    stage.upstream.close()
    caller = stage.caller().call(stage.path, key=stage.key)
    assert caller.answer()["error"]["code"] == 1502

    def all_recorded() -> list[str] | None:
        rows = list(Call.objects.order_by("id").values_list("outcome", flat=True))
        return rows if len(rows) == 11 else None

    assert sorted(wait_until(all_recorded, "all records")) == sorted(
        [
            *("ok",) * 3,
            "session_unknown",
            *("client_disconnected",) * 2,
            "credential_missing",
            "body_too_large",
            "method_not_allowed",
            "credential_missing",
            "upstream_connect",
        ]
    )


@pytest.mark.requirement("T37")
@pytest.mark.parametrize("prefix", ["/default", "/nowhere", "/default/mcp/calculator/server", "%00", "\xff"])
def test_a_root_path_that_a_client_sends_changes_nothing(cast: Cast, key: str, prefix: str) -> None:
    with ProcessGateway("daphne") as gateway, staged(gateway.port, cast.server, key) as stage:
        body, _ = message()
        headers = {"Daphne-Root-Path": prefix}
        caller = stage.caller().ask(stage.path, key=stage.key, body=body, headers=headers)
        if prefix == "\xff":
            assert caller.read_head() >= 400  # Daphne itself refuses what is not ASCII
            return
        stage.upstream.request().answer_result()
        assert caller.read_head() == 200
        health = stage.caller().ask("/healthz", key=None, method="GET", headers=headers)
        assert health.read_head() == 200
        inside = stage.caller().ask("/default/healthz", key=None, method="GET", headers=headers)
        assert inside.read_head() in (302, 404)


# Stock Daphne can neither cut an answer nor wait for a client: docs/operations.md says to use the two others.
not_stock = pytest.mark.parametrize("either", ["serve", "runserver"], indirect=True)


@not_stock
@pytest.mark.requirement("T49", "T50")
def test_json_that_breaks_off_is_never_complete(either: Stage) -> None:
    caller, asked = either.call()
    asked.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    asked.piece(b"{")
    assert caller.read_head() == 200
    assert caller.chunk() == b"{"
    asked.close()
    assert caller.rest() == b""
    the_record(outcome="upstream_body", status=200)


@not_stock
@pytest.mark.requirement("T30")
def test_an_upstream_waits_for_a_client_that_does_not_read(either: Stage) -> None:
    either.caller(receive_buffer=BUFFER).call(either.path, key=either.key)
    asked = with_small_buffer(either.upstream.request())
    asked.start_stream()
    assert push(asked, at_most=2 * MOST_SENT) <= MOST_SENT
