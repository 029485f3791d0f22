"""How a metadata document is fetched: to which addresses, how long, how large, how many, and how long it is fresh."""

from __future__ import annotations

import http.server
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from authflows.inbound.oauth import client_documents, document_fetch
from tests.conftest import allow_private
from tests.servers.test_egress import listening
from tests.support.document_host import DocumentHost, known, reason

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTES, HOUR, DAY = 300, 3600, 86400


@pytest.mark.requirement("AZ-10", "T26")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "name", ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254", "[fd00::1]", "[::ffff:a00:1]"]
)
def test_a_document_at_a_private_address_is_not_fetched(name: str) -> None:
    with listening() as (port, was_reached):
        assert reason(f"https://{name}:{port}/client.json") == "private_address"
        assert not was_reached()


@pytest.mark.requirement("AZ-10", "T26")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int, host: DocumentHost) -> None:
    host.publish("target.json", client_id=host.url())
    url = host.serve("client.json", b"", status=status, headers={"Location": host.url("target.json")})

    assert reason(url) == "redirecting"
    assert host.seen == ["/client.json"]


@pytest.mark.requirement("AZ-10")
@pytest.mark.parametrize("status", [201, 204, 400, 403, 404, 500, 503])
def test_anything_but_200_is_no_document(status: int, host: DocumentHost) -> None:
    document = json.dumps({"client_id": host.url(), "client_name": "E", "redirect_uris": ["http://localhost/"]})

    assert reason(host.serve("client.json", b"" if status == 204 else document.encode(), status=status)) == "down"


@pytest.mark.requirement("AZ-10")
@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"<!doctype html>", "text/html"),
        (b"{}", "text/html; charset=utf-8"),
        (b"{}", "text/json"),
        (b"{}", ""),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'"x"', "application/json"),
        (b"\xff\xff", "application/json"),
        (b"[" * 16_000, "application/json"),
    ],
)
def test_what_is_not_a_json_object_is_no_document(body: bytes, media_type: str, host: DocumentHost) -> None:
    assert reason(host.serve("client.json", body, headers={"Content-Type": media_type})) == "not_json"


@pytest.mark.requirement("AZ-9")
@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "application/client-metadata+json"])
def test_other_types_of_json_are_taken(media_type: str, host: DocumentHost) -> None:
    assert known(host.publish(headers={"Content-Type": media_type}))


@pytest.mark.requirement("AZ-10")
def test_a_document_of_16_kib_is_read_and_one_byte_more_is_not(host: DocumentHost) -> None:
    url = host.publish("a.json")
    usual = len(json.dumps(json.loads(_body(host, "a.json")) | {"padding": ""}))
    host.publish("a.json", padding="x" * (16 * 1024 - usual))
    host.publish("b.json", padding="x" * (16 * 1024 - usual + 1))

    assert known(url)
    assert reason(host.url("b.json")) == "huge"


def _body(host: DocumentHost, name: str) -> bytes:
    fetched = document_fetch.fetch(host.url(name))
    assert isinstance(fetched, document_fetch.Fetched)
    return json.dumps(fetched.document).encode()


@pytest.mark.requirement("AZ-10", "T54")
def test_an_endless_document_is_not_read_to_its_end(host: DocumentHost) -> None:
    sent: list[int] = []

    def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        for _ in range(10_000):
            handler.wfile.write(b" " * 64 * 1024)
            sent.append(1)

    assert reason(host.answer("client.json", endless)) == "huge"
    assert len(sent) < 1000


@pytest.mark.requirement("AZ-10", "T54")
def test_a_document_that_comes_byte_by_byte_is_given_up(host: DocumentHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document_fetch, "SECONDS", 0.3)
    stop = threading.Event()

    def dripping(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.end_headers()
        while not stop.wait(0.02):
            handler.wfile.write(b" ")

    began = time.monotonic()
    try:
        assert reason(host.answer("client.json", dripping)) == "slow"
        assert time.monotonic() - began < 3
    finally:
        stop.set()


@pytest.mark.requirement("AZ-10")
def test_a_host_where_nobody_listens_is_down(host: DocumentHost) -> None:
    with listening() as (port, _):
        pass
    allow_private(f"https://localhost:{port}")

    assert reason(f"https://localhost:{port}/client.json") == "down"


@pytest.mark.requirement("AZ-10")
@pytest.mark.django_db(transaction=True)
def test_a_name_that_does_not_exist_is_down() -> None:
    assert reason("https://nowhere.invalid/client.json") == "down"


@pytest.mark.requirement("AZ-10")
def test_a_certificate_that_nobody_vouches_for_is_down(host: DocumentHost) -> None:
    assert reason(host.publish().replace("localhost", "127.0.0.1")) == "private_address"
    allow_private(host.origin.replace("localhost", "127.0.0.1"))
    client_documents.forget_failures()

    assert reason(host.publish().replace("localhost", "127.0.0.1")) == "down"


@pytest.mark.requirement("AZ-10", "T54")
def test_only_so_many_documents_are_fetched_at_once(host: DocumentHost) -> None:
    go_on, waiting = threading.Event(), threading.Semaphore(0)

    def held(handler: http.server.BaseHTTPRequestHandler) -> None:
        waiting.release()
        go_on.wait(10)
        handler.send_error(404)

    host.answer("held.json", held)
    with ThreadPoolExecutor(document_fetch.MOST_AT_ONCE) as pool:
        fetches = [pool.submit(document_fetch.fetch, host.url("held.json")) for _ in range(document_fetch.MOST_AT_ONCE)]
        try:
            assert all(waiting.acquire(timeout=5) for _ in fetches)
            assert reason(host.publish()) == "busy"
        finally:
            go_on.set()
        assert {fetch.result() for fetch in fetches} == {"down"}
    # Being busy is nobody's failure: the next try counts.
    assert known(host.url())


@pytest.mark.requirement("AZ-9")
@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, HOUR),
        ({"Cache-Control": "max-age=7200"}, 7200),
        ({"Cache-Control": "public, Max-Age=7200, must-revalidate"}, 7200),
        ({"Cache-Control": "max-age=7200", "Age": "3600"}, HOUR),
        ({"Cache-Control": "max-age=7200", "Age": "x"}, 7200),
        ({"Cache-Control": "max-age=1"}, MINUTES),
        ({"Cache-Control": "max-age=999999999"}, DAY),
        ({"Cache-Control": "max-age=" + "9" * 50}, DAY),
        ({"Cache-Control": "s-maxage=7200"}, HOUR),
        ({"Cache-Control": "no-store, max-age=7200"}, MINUTES),
        ({"Cache-Control": "no-cache"}, MINUTES),
        ({"Expires": "Thu, 01 Jan 2026 14:00:00 GMT"}, 7200),
        ({"Expires": "Thu, 01 Jan 2026 11:00:00 GMT"}, MINUTES),
        ({"Expires": "0"}, MINUTES),
    ],
)
def test_caching_headers_count_between_five_minutes_and_a_day(headers: dict[str, str], seconds: int) -> None:
    assert document_fetch.fresh_seconds(headers, now=NOW) == seconds
