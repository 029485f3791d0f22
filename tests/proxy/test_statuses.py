"""What becomes of the upstream's status, and what a broken upstream looks like to the client."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_django import Settings

from servers.models import Call
from tests.conftest import Cast, allow_private
from tests.proxy.test_credentials_upstream import use_shared_header
from tests.support.calls import LEGACY, member_of, message, modern, modern_headers, point_at, tool_call
from tests.support.gateway import LiveGateway
from tests.support.mcp_upstream import make_certificate
from tests.support.raw_http import RawConnection, Response, encoded
from tests.support.records import write_records
from tests.support.upstream import HANG_UP, Answer, Request, Upstream, chunk, json_answer, mcp_server, result

LIST = message("tools/list")


def answered(gateway: LiveGateway, cast: Cast, script: Callable[[Request], object], body: object = LIST) -> Response:
    with Upstream(script) as upstream:  # type: ignore[arg-type]
        point_at(cast.server, upstream)
        return member_of(gateway, cast).post(body)


@pytest.mark.requirement("T52", "F-701")
@pytest.mark.parametrize("status", [200, 201, 400, 404, 405, 406, 409, 415, 422, 429])
def test_mcp_level_statuses_arrive_with_their_body(gateway: LiveGateway, cast: Cast, status: int) -> None:
    error = {"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "from upstream"}}
    response = answered(gateway, cast, lambda _: json_answer(error, status))
    assert response.status == status
    assert response.json() == error


@pytest.mark.parametrize("status", [202, 204])
@pytest.mark.parametrize("body", [b"", b"<html>"])
def test_an_accepted_message_has_an_empty_answer(gateway: LiveGateway, cast: Cast, status: int, body: bytes) -> None:
    response = answered(gateway, cast, lambda _: Answer(status, (("Content-Type", "text/html"),), body))
    assert (response.status, response.body) == (status, b"")
    assert "content-type" not in response.names()
    assert ("content-length" in response.names()) == (status == 202)


def test_an_overloaded_upstream_is_believed_when_it_says_how_long(gateway: LiveGateway, cast: Cast) -> None:
    response = answered(gateway, cast, lambda _: json_answer({"busy": True}, 503, Retry_After="9"))
    assert (response.status, response.header("retry-after"), response.json()) == (503, "9", {"busy": True})


@pytest.mark.requirement("T52")
@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 507, 599, 600, 999])
def test_other_errors_of_the_upstream_are_502_and_name_the_server(
    gateway: LiveGateway, cast: Cast, status: int
) -> None:
    response = answered(gateway, cast, lambda _: json_answer({"trace": "canary-internal"}, status))
    assert response.status == 502
    assert response.json()["error"]["code"] == 1502
    assert response.json()["id"] == 1
    assert "'Calculator'" in response.json()["error"]["message"]
    assert b"canary" not in response.body


CHALLENGE = 'Bearer resource_metadata="https://evil.example/", error="invalid_token"'


@pytest.mark.requirement("T32", "RS-12")
@pytest.mark.parametrize("status", [401, 403, 407])
def test_a_refused_credential_is_never_shown_as_the_callers_own(gateway: LiveGateway, cast: Cast, status: int) -> None:
    def script(_: Request) -> Answer:
        return json_answer({"error": "canary-upstream"}, status, WWW_Authenticate=CHALLENGE)

    with Upstream(script) as upstream:
        point_at(cast.server, upstream)
        caller = member_of(gateway, cast)
        legacy = caller.post(tool_call("echo", id="a"))
        modern_call = caller.modern("tools/call", {"name": "echo", "arguments": {}})
        others = [caller.post(LIST), caller.post(message("initialize", {})), caller.send("GET"), caller.send("DELETE")]
    for response, identity in ((legacy, "a"), (modern_call, 1)):
        assert response.status == 200
        assert response.json()["id"] == identity
        assert response.json()["result"]["isError"] is True
        (content,) = response.json()["result"]["content"]
        assert "manager" in content["text"]
        assert "'Calculator'" in content["text"]
    assert "resultType" not in legacy.json()["result"]
    assert modern_call.json()["result"]["resultType"] == "complete"
    assert [response.status for response in others] == [502] * 4
    for response in (legacy, modern_call, *others):
        assert "www-authenticate" not in response.names()
        assert b"canary" not in response.body


@pytest.mark.requirement("T32", "T57")
@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("with_credential", [True, False])
def test_a_refusal_speaks_of_a_credential_only_where_there_is_one(
    gateway: LiveGateway, cast: Cast, status: int, with_credential: bool
) -> None:
    if with_credential:
        use_shared_header(cast, ("X-Api-Key", "{secret}"))
    response = answered(gateway, cast, lambda _: json_answer({}, status), tool_call("echo"))
    (content,) = response.json()["result"]["content"]
    write_records()
    outcome = Call.objects.get().outcome
    if with_credential:
        assert "refused the gateway's own credential" in content["text"]
        assert outcome == "upstream_refused_credential"
    else:
        assert content["text"].startswith(
            f"The MCP server 'Calculator' refused the request ({status}); it has no credential configured. Ask "
        )
        assert outcome == "upstream_refused"


# Redirects


@pytest.mark.requirement("T28", "F-701")
@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_within_the_origin_is_followed_once_with_the_body(
    gateway: LiveGateway, cast: Cast, status: int
) -> None:
    def script(request: Request) -> Answer:
        if request.target == "/mcp":
            return Answer(status, (("Location", "/mcp/"),), b"moved")
        return mcp_server(request)

    with Upstream(script) as upstream:
        point_at(cast.server, upstream, static_headers={"X-Region": "eu"})
        response = member_of(gateway, cast).post(tool_call("echo", {"a": 1}), [("Mcp-Param-A", "1")])
        first, second = upstream.requests
    assert response.status == 200
    assert (first.body, first.headers) == (second.body, second.headers)
    assert second.target == "/mcp/"


@pytest.mark.requirement("T28")
@pytest.mark.parametrize(
    "location",
    ["/mcp", "/elsewhere", "", None, "http://[bad", "/a b", "/a\tb", "http://user:pw@{host}/mcp", "{origin}/x#y", "//"],
)
def test_a_redirect_that_leads_nowhere_good_is_502(gateway: LiveGateway, cast: Cast, location: str | None) -> None:
    with Upstream() as upstream:
        host = f"127.0.0.1:{upstream.port}"
        target = location.format(origin=upstream.origin, host=host) if location is not None else None
        point_at(cast.server, upstream)
        caller = member_of(gateway, cast)
        for status in (301, 302, 303, 304, 307, 308):
            upstream.requests.clear()
            upstream.script = lambda _, s=status: Answer(s, (("Location", target),) if target is not None else ())  # type: ignore[misc]
            assert caller.post(LIST).status == 502
            assert len(upstream.requests) <= 2
            assert all(seen.method == "POST" for seen in upstream.requests)


@pytest.mark.requirement("T28")
def test_a_redirect_to_another_origin_gets_neither_call_nor_credential(gateway: LiveGateway, cast: Cast) -> None:
    with Upstream() as other:
        allow_private(other.url)
        for status in (301, 302, 307, 308):
            for location in (other.url, f"//127.0.0.1:{other.port}/mcp", f"https://127.0.0.1:{other.port}/"):
                script = lambda _, s=status, to=location: Answer(s, (("Location", to),))  # noqa: E731
                response = answered(gateway, cast, script, tool_call("echo"))
                assert response.status == 502
                assert "location" not in response.names()
        assert other.connections == 0


# Upstreams that do not answer as they should


@pytest.mark.requirement("T30")
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000,
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 20_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\x00\x02\x02\x16",
    ],
    ids=lambda answer: f"{answer[:30]!r}",
)
def test_what_is_no_http_is_502_and_names_the_phase(gateway: LiveGateway, cast: Cast, answer: bytes) -> None:
    response = answered(gateway, cast, lambda _: [answer, HANG_UP] if answer else None)
    assert response.status == 502
    assert "'Calculator'" in response.json()["error"]["message"]
    assert "phase: response" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html", b"<h1>Sign in</h1>"),
        ("text/plain", b"ok"),
        ("", b"<h1>Sign in</h1>"),
        ("application/octet-stream", b"{}"),
        ("text/html", b""),
    ],
)
def test_a_successful_answer_that_is_no_mcp_is_502(
    gateway: LiveGateway, cast: Cast, content_type: str, body: bytes
) -> None:
    headers = (("Content-Type", content_type),) if content_type else ()
    response = answered(gateway, cast, lambda _: Answer(200, headers, body))
    assert response.status == 502
    assert b"<h1>" not in response.body


@pytest.mark.requirement("T25", "T31")
def test_an_error_page_of_the_upstream_cannot_run_on_our_origin(gateway: LiveGateway, cast: Cast) -> None:
    page = b"<script>alert(1)</script>"
    response = answered(gateway, cast, lambda _: Answer(404, (("Content-Type", "text/html"),), page))
    assert response.status == 404
    assert response.header("content-type") == "text/plain; charset=utf-8"
    assert response.header("x-content-type-options") == "nosniff"


def test_an_upstream_that_is_not_there_is_502_and_names_the_phase(gateway: LiveGateway, cast: Cast) -> None:
    with Upstream() as upstream:
        point_at(cast.server, upstream)
    response = member_of(gateway, cast).post(tool_call("echo"))
    assert response.status == 502
    assert "phase: connect" in response.json()["error"]["message"]


def test_a_name_that_does_not_resolve_and_an_address_that_is_not_allowed_are_502(
    gateway: LiveGateway, cast: Cast
) -> None:
    caller = member_of(gateway, cast)
    for url in ("https://nothing.invalid/mcp", "http://127.0.0.2:9/mcp", "https://169.254.169.254/"):
        cast.server.url = url
        cast.server.save()
        response = caller.post(LIST)
        assert response.status == 502
        assert "phase: address" in response.json()["error"]["message"]
        assert "127.0.0.2" not in response.body.decode()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[ssl.SSLContext, str]:
    pem, key = make_certificate(tmp_path, "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    return context, pem.read_text()


@pytest.mark.requirement("F-108")
def test_an_upstream_with_an_unknown_certificate_is_502_until_its_ca_is_given(
    gateway: LiveGateway, cast: Cast, certificate: tuple[ssl.SSLContext, str]
) -> None:
    context, ca = certificate
    with Upstream(tls=context) as upstream:
        point_at(cast.server, upstream)
        caller = member_of(gateway, cast)
        refused = caller.post(tool_call("echo"))
        assert upstream.requests == []
        cast.server.ca_certificate = ca
        cast.server.save()
        assert caller.post(tool_call("echo")).status == 200
    assert refused.status == 502
    assert "phase: TLS" in refused.json()["error"]["message"]


@pytest.mark.requirement("T30")
def test_a_slow_upstream_is_504_and_names_server_and_phase(gateway: LiveGateway, cast: Cast) -> None:
    release = threading.Event()

    def script(_: Request) -> None:
        release.wait(20)

    with Upstream(script) as upstream:
        point_at(cast.server, upstream, response_timeout=1)
        response = member_of(gateway, cast).post(tool_call("echo", id=4))
        release.set()
    assert response.status == 504
    assert response.json()["id"] == 4
    assert response.json()["error"]["code"] == 1504
    assert response.json()["error"]["message"].startswith("The MCP server 'Calculator' did not answer within 1 s")


@pytest.mark.requirement("T30")
def test_an_answer_over_the_limit_is_refused_or_cut_short(gateway: LiveGateway, cast: Cast, settings: Settings) -> None:
    settings.MAX_RESPONSE_BYTES = 300_000
    declared = answered(gateway, cast, lambda request: result(request, {"text": "x" * 1_000_000}))
    assert declared.status == 502
    assert "300000 bytes" in declared.json()["error"]["message"]

    def endless(_: Request) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        while True:
            yield chunk(b" " * 10_000)

    with Upstream(endless) as upstream:
        point_at(cast.server, upstream)
        caller = member_of(gateway, cast)
        with RawConnection(gateway.origin) as connection:
            connection.send(encoded("POST", caller.url, caller.headers, b'{"id":1,"method":"tools/list"}'))
            received = connection.read_all()
    # No last chunk: the client sees that the answer is not whole.
    assert received.startswith(b"HTTP/1.1 200 ")
    assert len(received) < 400_000
    assert not received.endswith(b"0\r\n\r\n")


@pytest.mark.requirement("T49", "F-701")
def test_delete_ends_a_session_and_a_session_that_is_gone_counts_as_ended(gateway: LiveGateway, cast: Cast) -> None:
    with Upstream() as upstream:
        point_at(cast.server, upstream)
        caller = member_of(gateway, cast)
        headers = [("Mcp-Session-Id", caller.open_session()), ("MCP-Protocol-Version", LEGACY)]
        statuses = []
        for status in (200, 204, 404, 405):
            upstream.script = lambda _, s=status: Answer(s)  # type: ignore[misc]
            statuses.append(caller.send("DELETE", headers).status)
        assert [seen.method for seen in upstream.requests[1:]] == ["DELETE"] * 4
    assert statuses == [200, 204, 204, 405]


@pytest.mark.requirement("T52")
def test_an_upstreams_refusal_of_a_modern_probe_arrives_unchanged(gateway: LiveGateway, cast: Cast) -> None:
    body = b'{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"Bad Request: Missing session ID"}}'
    refusal = Answer(400, (("Content-Type", "application/json"),), body)
    with Upstream(lambda _: refusal) as upstream:
        point_at(cast.server, upstream)
        probe = modern("server/discover")
        response = member_of(gateway, cast).post(probe, modern_headers(probe))
    assert (response.status, response.body) == (400, body)


@pytest.mark.requirement("T57")
def test_every_outcome_leaves_a_record_that_tells_them_apart(gateway: LiveGateway, cast: Cast) -> None:
    for status in (200, 404, 500, 401, 302):
        answered(gateway, cast, lambda _, s=status: json_answer({}, s), tool_call("echo"))
    write_records()
    rows = Call.objects.order_by("id").values_list("status", "upstream_status", "outcome", "item")
    assert list(rows) == [
        (200, 200, "ok", "echo"),
        (404, 404, "ok", "echo"),
        (502, 500, "upstream_error", "echo"),
        (200, 401, "upstream_refused", "echo"),
        (502, 302, "upstream_redirect", "echo"),
    ]
