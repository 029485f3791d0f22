"""The gateway in processes of its own: what one learns from another, and how it stops (T9, T10, T57)."""

from __future__ import annotations

import json
import signal
import time
import urllib.error
import urllib.request

import pytest
from django.db import connection

from authflows.inbound.api_keys import revoke_key
from authflows.models import ApiKey
from servers.models import Call
from tests.conftest import Cast
from tests.proxy.wire import Asked, Caller, Stage, message, staged, wait_until
from tests.support.gateway import LiveGateway
from tests.support.process_gateway import ProcessGateway

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

both_databases = pytest.mark.parametrize("vendor", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])


@pytest.fixture(autouse=True)
def right_database(request: pytest.FixtureRequest, transactional_db: None) -> None:
    """A case that names a database runs on that one only."""
    vendor = getattr(request.node, "callspec", None)
    wanted = vendor.params.get("vendor") if vendor else None
    if wanted is not None and wanted != connection.vendor:
        pytest.skip("PostgreSQL only" if wanted == "postgresql" else "SQLite only")


def stream_on(port: int, stage: Stage, method: str) -> tuple[Caller, Asked]:
    """An open stream through the gateway on another port."""
    caller = stage.caller(port=port)
    if method == "GET":
        caller.ask(stage.path, key=stage.key, method="GET")
    else:
        caller.call(stage.path, key=stage.key, modern=True, method="subscriptions/listen")
    asked = stage.upstream.request()
    asked.start_stream()
    assert caller.read_head() == 200
    return caller, asked


def call_on(port: int, stage: Stage, *, goes_up: bool = True) -> int:
    """The status of one call through the gateway on that port."""
    caller = stage.caller(port=port).call(stage.path, key=stage.key)
    if goes_up:
        stage.upstream.request().answer(b"{}", status="200 OK\r\nconnection: close")
    return caller.read_head()


@both_databases
@pytest.mark.requirement("T9", "T10")
def test_a_key_that_one_process_revokes_is_refused_by_another_and_its_streams_end(
    cast: Cast, key: str, vendor: str
) -> None:
    with ProcessGateway() as first, ProcessGateway() as second, staged(first.port, cast.server, key) as stage:
        streams = []
        for gateway in (first, second):
            assert call_on(gateway.port, stage) == 200
            streams += [stream_on(gateway.port, stage, method) for method in ("GET", "POST")]
        # This process is the third: it revokes, the two others have to hear of it.
        revoke_key(ApiKey.objects.get(), actor="tests")
        revoked = time.monotonic()
        for caller, asked in streams:
            assert caller.chunk() == b""
            assert asked.left_by_gateway()
        for gateway in (first, second):
            assert call_on(gateway.port, stage, goes_up=False) == 401
        # No measure of speed, but the promise itself: a second, and what a loaded test machine needs besides.
        assert time.monotonic() - revoked < 1 + 4


@both_databases
@pytest.mark.requirement("T9")
def test_a_live_gateway_revokes_at_once_and_another_process_within_a_second(cast: Cast, key: str, vendor: str) -> None:
    with (
        LiveGateway() as here,
        ProcessGateway() as elsewhere,
        staged(here.port, cast.server, key) as stage,
    ):
        for port in (here.port, elsewhere.port):
            assert call_on(port, stage) == 200
        caller, _ = stream_on(elsewhere.port, stage, "GET")
        revoke_key(ApiKey.objects.get(), actor="tests")
        assert call_on(here.port, stage, goes_up=False) == 401
        assert caller.chunk() == b""
        assert call_on(elsewhere.port, stage, goes_up=False) == 401


@both_databases
@pytest.mark.requirement("F-806", "T57")
def test_several_workers_serve_calls_and_stop_cleanly(cast: Cast, key: str, vendor: str) -> None:
    calls = 20
    with (
        ProcessGateway("serve", "--workers", "2") as gateway,
        staged(gateway.port, cast.server, key) as stage,
    ):
        for _ in range(calls):
            assert call_on(gateway.port, stage) == 200
        gateway.ask_to_stop()
        assert gateway.wait(30) == 0
        assert "Traceback" not in gateway.said()
    assert Call.objects.filter(outcome="ok", status=200).count() == calls
    # Request ids tell the processes apart; each has its own beginning.
    assert Call.objects.values("request_id").distinct().count() == calls


@pytest.mark.requirement("T57", "F-806")
def test_a_gateway_that_is_told_to_stop_ends_open_streams_in_time_and_writes_every_record(cast: Cast, key: str) -> None:
    with ProcessGateway() as gateway, staged(gateway.port, cast.server, key) as stage:
        assert call_on(gateway.port, stage) == 200
        caller, asked = stream_on(gateway.port, stage, "GET")
        asked.piece(b"data: {}\n\n")
        assert caller.event() == b"data: {}\n\n"
        slow = stage.caller().call(stage.path, key=key, tool="slow")
        slow_asked = stage.upstream.request()
        gateway.ask_to_stop()
        wait_until(lambda: _refuses(gateway.port), "the listener to close")
        # What only listens ends at once and in order, so that its client finds another process.
        assert caller.chunk() == b""
        assert asked.left_by_gateway()
        # A call that is under way gets its answer.
        expected = slow_asked.answer_result()
        assert slow.read_head() == 200
        assert slow.read_body() == expected
        assert gateway.wait(10) in (0, -signal.SIGTERM)  # uvicorn ends by the signal it was sent
        assert "Traceback" not in gateway.said()
    outcomes = Call.objects.values_list("http_method", "outcome", "status")
    assert sorted(outcomes) == [("GET", "shutdown", 200), ("POST", "ok", 200), ("POST", "ok", 200)]
    assert ApiKey.objects.get().last_used_at is not None


def _refuses(port: int) -> bool:
    try:
        Caller(port).close()
    except ConnectionError:
        return True
    return False


@pytest.mark.requirement("T9")
@pytest.mark.django_db(transaction=True)
def test_a_gateway_that_cannot_read_its_feed_answers_503_until_it_can(cast: Cast, key: str) -> None:
    with ProcessGateway() as gateway, staged(gateway.port, cast.server, key) as stage:
        assert call_on(gateway.port, stage) == 200
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE servers_change RENAME TO servers_change_away")
        try:
            wait_until(lambda: _status(gateway, stage) == 503, "503")
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ALTER TABLE servers_change_away RENAME TO servers_change")
        wait_until(lambda: gateway_ready(gateway), "readiness")
        assert call_on(gateway.port, stage) == 200


def _status(gateway: ProcessGateway, stage: Stage) -> int:
    """Of a request that is refused in any case, so that it never goes upstream."""
    return stage.caller(port=gateway.port).ask(stage.path, key=None, body=message()[0]).read_head()


def gateway_ready(gateway: ProcessGateway) -> bool:
    try:
        with urllib.request.urlopen(f"{gateway.origin}/readyz", timeout=20) as answer:
            return bool(json.load(answer)["status"] == "ok")
    except urllib.error.HTTPError as error:
        error.close()
        return False
