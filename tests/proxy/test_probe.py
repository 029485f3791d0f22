"""Test connection against the SDK's server in both eras, and against sockets that misbehave."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from proxy.probe import ProbeResult, Target, probe, probe_all
from servers.egress import parse_destination
from servers.errors import DestinationRefused
from servers.models import PrivateDestination
from tests.conftest import allow_private
from tests.support.mcp_upstream import (
    answering,
    calculator,
    http_answer,
    legacy_only,
    make_certificate,
    modern_only,
    requiring,
    serving,
)

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-806")]

KEY = "canary-upstream-key"


def tried(url: str, **options: Any) -> ProbeResult:
    allow_private(url)
    seconds = options.pop("total_seconds", 20.0)
    return probe(Target(url=url, **options), total_seconds=seconds)


def test_a_dual_server_is_reported_with_every_version_it_answers_to() -> None:
    with serving(calculator()) as url:
        result = tried(url)
    assert result.ok, result.sentence
    assert result.versions == ("2026-07-28", "2025-11-25")
    assert (result.server_name, result.server_version, result.tools) == ("Calculator", "1.2.3", 2)
    assert result.milliseconds > 0


@pytest.mark.parametrize("options", [{"json_response": True}, {"stateless_http": True}])
def test_json_answers_and_stateless_servers_are_understood(options: dict[str, bool]) -> None:
    with serving(calculator(**options)) as url:
        result = tried(url)
    assert result.ok
    assert result.tools == 2


def test_a_server_that_never_heard_of_discover_is_legacy() -> None:
    with serving(legacy_only(calculator())) as url:
        result = tried(url)
    assert result.ok
    assert result.versions == ("2025-11-25",)
    assert (result.server_name, result.tools) == ("Calculator", 2)


def test_a_server_that_refuses_initialize_is_modern() -> None:
    with serving(modern_only(calculator())) as url:
        result = tried(url)
    assert result.ok
    assert result.versions == ("2026-07-28",)
    assert result.tools == 2


@pytest.mark.requirement("T56")
def test_a_wrong_key_is_named_as_such_and_not_repeated() -> None:
    with serving(requiring(calculator(), "Authorization", "Bearer right")) as url:
        result = tried(url, credential=(("Authorization", f"Bearer {KEY}"),))
        right = tried(url, credential=(("Authorization", "Bearer right"),))
        none = tried(url)
    assert right.ok
    assert (result.ok, result.step) == (False, "authentication")
    assert "refused the credential (401)" in result.sentence
    assert KEY not in json.dumps(result.as_dict())
    assert "asks for a credential" in none.sentence


def test_a_401_is_the_right_answer_where_calls_bring_their_own_credential() -> None:
    with serving(requiring(calculator(), "Authorization", f"Bearer {KEY}")) as url:
        good = tried(url, callers_bring=True)
        wrong = tried(url, callers_bring=True, credential=(("Authorization", "Bearer wrong"),))
    assert good.ok, good.sentence
    assert "it asks for a credential (401), as it should" in good.sentence
    assert good.tools is None
    assert not wrong.ok


def test_a_server_that_repeats_the_credential_does_not_get_it_shown() -> None:
    def echo(connection: socket.socket, request: bytes) -> None:
        message = json.loads(request.partition(b"\r\n\r\n")[2] or b"{}")
        info = {"name": f"I know {KEY}", "version": f"<b>Bearer {KEY}"}
        result = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": info}
        if message.get("method") == "server/discover":
            answer = {"jsonrpc": "2.0", "id": message["id"], "error": {"code": -32601, "message": KEY}}
        else:
            answer = {"jsonrpc": "2.0", "id": message.get("id"), "result": result}
        http_answer("200 OK", json.dumps(answer).encode(), Content_Type="application/json")(connection, request)

    with answering(echo) as url:
        result = tried(url, credential=(("Authorization", f"Bearer {KEY}"),))
    assert result.ok
    assert result.versions == ("2025-06-18",)
    assert KEY not in json.dumps(result.as_dict())


PAGE = b"<html><script>alert(1)</script></html>"


@pytest.mark.parametrize(
    ("answer", "step", "words"),
    [
        (http_answer("200 OK", PAGE, Content_Type="text/html"), "answer", "web page"),
        (http_answer("200 OK", b"{}", Content_Type="application/json"), "answer", "not with MCP"),
        (http_answer("404 Not Found", PAGE, Content_Type="text/html"), "answer", "no MCP endpoint"),
        (http_answer("405 Method Not Allowed"), "answer", "no MCP endpoint"),
        (http_answer("403 Forbidden"), "authentication", "refused the request (403)"),
        (http_answer("500 Internal Server Error", b"boom"), "fault", "problem of its own (HTTP 500)"),
        (http_answer("429 Too Many Requests"), "answer", "slow down"),
        (http_answer("421 Misdirected Request"), "answer", "host name"),
        (lambda connection, _: connection.close(), "answer", "closed the connection"),
        (lambda connection, _: connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n"), "answer", "closed the connection"),
    ],
)
def test_what_is_not_mcp_is_said_in_plain_words(answer: Any, step: str, words: str) -> None:
    with answering(answer) as url:
        result = tried(url)
    assert not result.ok
    assert (result.step, words in result.sentence) == (step, True), result
    assert "<" not in result.sentence


def test_a_redirect_is_named_and_not_followed() -> None:
    paths: list[bytes] = []

    def redirect(connection: socket.socket, request: bytes) -> None:
        paths.append(request.split(b" ")[1])
        http_answer("307 Temporary Redirect", Location="https://user:pw@elsewhere.example/mcp?token=x")(
            connection, request
        )

    with answering(redirect) as url:
        result = tried(url, credential=(("X-Api-Key", KEY),))
    assert result.step == "opening"
    assert "https://elsewhere.example/mcp" in result.sentence
    assert "token" not in result.sentence
    assert "pw" not in result.sentence
    assert set(paths) == {b"/mcp"}


def test_the_old_http_sse_transport_is_recognised() -> None:
    def old(connection: socket.socket, request: bytes) -> None:
        if request.startswith(b"GET"):
            body = b"event: endpoint\ndata: /messages?session=1\n\n"
            http_answer("200 OK", body, Content_Type="text/event-stream")(connection, request)
        else:
            http_answer("405 Method Not Allowed")(connection, request)

    with answering(old) as url:
        result = tried(url)
    assert "2024-11-05" in result.sentence


@pytest.mark.parametrize("drip", [False, True], ids=["silent", "a byte at a time"])
def test_a_server_that_hangs_ends_the_test_in_time(drip: bool) -> None:
    over = threading.Event()

    def hang(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while not over.wait(0.05):
            if drip:
                connection.sendall(b"x")

    with answering(hang) as url:
        result = tried(url, total_seconds=1.0)
        over.set()
    assert not result.ok
    assert "within 1 seconds" in result.sentence
    assert result.milliseconds < 10_000


def test_an_endless_answer_is_not_read_to_its_end() -> None:
    def flood(connection: socket.socket, _: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        while True:
            connection.sendall(b"[" * 65536)

    with answering(flood) as url:
        result = tried(url)
    assert "larger than 8 MiB" in result.sentence


def test_pages_that_never_end_are_given_up() -> None:
    def pages(connection: socket.socket, request: bytes) -> None:
        message = json.loads(request.partition(b"\r\n\r\n")[2] or b"{}")
        result: dict[str, Any] = {"tools": [], "nextCursor": "again"}
        if message.get("method") == "initialize":
            result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {}}
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message.get("id"), "result": result}
        http_answer("200 OK", json.dumps(answer).encode(), Content_Type="application/json")(connection, request)

    with answering(pages) as url:
        result = tried(url)
    assert (result.step, result.versions) == ("tools", ("2025-11-25",))


@pytest.mark.requirement("T26")
def test_a_private_address_is_refused_before_any_socket_opens() -> None:
    with answering(http_answer("200 OK")) as url:
        result = probe(Target(url=url))
    assert (result.step, result.private_address) == ("address", True)
    assert "private address" in result.sentence


def test_an_unknown_host_and_a_closed_port_are_told_apart() -> None:
    unknown = probe(Target(url="https://does-not-exist.invalid/mcp"))
    assert (unknown.step, "cannot be resolved" in unknown.sentence) == ("address", True)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
    closed = tried(url)
    assert (closed.step, "refused the connection" in closed.sentence) == ("connect", True)


@pytest.mark.requirement("F-806")
def test_tls_trouble_is_explained_and_a_custom_authority_helps(tmp_path: Path) -> None:
    pem, key = make_certificate(tmp_path, "127.0.0.1")
    with serving(calculator(), ssl_certfile=str(pem), ssl_keyfile=str(key)) as url:
        unknown = tried(url)
        known = tried(url, ca_certificate=pem.read_text())
        plain = tried(url.replace("https", "http"))
    assert (unknown.step, "Custom CA" in unknown.sentence) == ("tls", True)
    assert known.ok
    assert not plain.ok


def test_a_certificate_for_another_name_is_explained(tmp_path: Path) -> None:
    pem, key = make_certificate(tmp_path, "other.example")
    with serving(calculator(), ssl_certfile=str(pem), ssl_keyfile=str(key)) as url:
        result = tried(url, ca_certificate=pem.read_text())
    assert (result.step, "another name" in result.sentence) == ("tls", True)


def test_tls_asked_of_a_plain_port_is_explained() -> None:
    with serving(calculator()) as url:
        result = tried(url.replace("http", "https"))
    assert (result.step, "does not speak TLS" in result.sentence) == ("tls", True)


def test_a_custom_authority_stands_instead_of_the_public_ones(tmp_path: Path) -> None:
    from servers.egress import tls_context

    pem, key = make_certificate(tmp_path, "127.0.0.1")
    with serving(calculator(), ssl_certfile=str(pem), ssl_keyfile=str(key)) as url:
        assert tried(url, ca_certificate=pem.read_text()).ok
    assert len(tls_context(pem.read_text()).get_ca_certs()) == 1


def test_a_value_that_no_header_may_hold_is_refused_without_showing_it() -> None:
    with answering(http_answer("200 OK")) as url:
        result = tried(url, credential=(("X-Key", f"{KEY}\r\nHost: evil"),))
    assert result.step == "authentication"
    assert KEY not in result.sentence


@pytest.mark.django_db(transaction=True)
def test_several_tests_run_side_by_side_and_keep_their_order() -> None:
    with serving(calculator()) as good, answering(http_answer("404 Not Found")) as bad:
        allow_private(good)
        allow_private(bad)
        results = probe_all([Target(url=url) for url in (good, bad, good, bad)], test=probe)
    assert [result.ok for result in results] == [True, False, True, False]


def test_an_address_is_checked_by_parts() -> None:
    with pytest.raises(DestinationRefused):
        parse_destination("file:///etc/passwd")
    assert probe(Target(url="file:///etc/passwd")).step == "address"
    assert not PrivateDestination.objects.exists()
