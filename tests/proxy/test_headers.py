"""Which headers pass, seen from the upstream and from the client."""

from __future__ import annotations

import pytest
from django.conf import settings

from servers.models import AccessRule, Role, Server
from tests.conftest import Cast
from tests.support.calls import MODERN, member_of, message, modern, modern_headers, point_at, tool_call
from tests.support.gateway import LiveGateway
from tests.support.raw_http import request
from tests.support.upstream import Answer, Upstream, json_answer

LIST = message("tools/list")

DROPPED = [
    ("Baggage", "person=canary"),
    ("Cookie", "sessionid=canary"),
    ("Forwarded", "for=canary;host=canary"),
    ("X-Forwarded-For", "10.0.0.1"),
    ("X-Forwarded-User", "admin"),
    ("X-Forwarded-Host", "canary"),
    ("X-Real-IP", "10.0.0.1"),
    ("X-Gatehouse-User", "admin"),
    ("X-GW-User", "admin"),
    ("X-User-Id", "1"),
    ("Remote-User", "admin"),
    ("Proxy-Authorization", "Basic canary"),
    ("Proxy-Connection", "keep-alive"),
    ("Keep-Alive", "timeout=5"),
    ("TE", "trailers"),
    ("Trailer", "X-Canary"),
    ("Via", "1.1 canary"),
    ("Referer", "https://canary.example/"),
    ("Sec-Fetch-Site", "cross-site"),
    ("Sec-WebSocket-Key", "canary"),
    ("Accept-Encoding", "gzip, br"),
    ("Accept-Language", "de"),
    ("X-Api-Key", "canary"),
    ("Api-Key", "canary"),
    ("X-Unknown", "canary"),
    ("Last-Event-ID", "canary-1"),
    ("Mcp-Unknown", "canary"),
    ("If-None-Match", '"canary"'),
    ("Range", "bytes=0-1"),
    ("X-HTTP-Method-Override", "DELETE"),
]


@pytest.mark.requirement("T7", "T60")
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_only_known_headers_reach_the_upstream(gateway: LiveGateway, cast: Cast, method: str) -> None:
    with Upstream() as upstream:
        point_at(cast.server, upstream)
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}' if method == "POST" else None
        member_of(gateway, cast).send(method, [*DROPPED, ("User-Agent", "ide/1")], body)
        (seen,) = upstream.requests
    always = {"host", "accept", "accept-encoding", "content-type", "user-agent"}
    assert set(seen.names()) == (always | {"content-length"} if method == "POST" else always)
    assert seen.header("accept-encoding") == "identity"
    assert "canary" not in seen.raw.decode("latin-1")


@pytest.mark.requirement("F-701")
def test_what_the_upstream_must_see_arrives_as_it_was_sent(gateway: LiveGateway, cast: Cast) -> None:
    body = modern("tools/call", {"name": "echo", "arguments": {"owner": "x"}})
    passed = [
        *modern_headers(body),
        ("Mcp-Param-Owner", "=?base64?w6Fja21l?="),
        ("mcp-param-unknown", "  Value, with  spaces "),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "a=1"),
    ]
    with Upstream() as upstream:
        point_at(cast.server, upstream)
        caller = member_of(gateway, cast)
        caller.post(body, [*passed, ("User-Agent", "ide/1 (x)")])
        (seen,) = upstream.requests
    for name, value in passed:
        assert seen.header(name) == value.strip()
    assert seen.header("accept") == "application/json, text/event-stream"
    assert seen.header("content-type") == "application/json"
    assert seen.header("user-agent") == f"ide/1 (x) gatehouse/{settings.VERSION}"
    assert seen.header("host") == f"127.0.0.1:{upstream.port}"
    assert seen.target == "/mcp"
    assert seen.body == caller.encode(body)


def test_a_client_without_a_name_is_shown_as_the_gateway_alone(gateway: LiveGateway, cast: Cast) -> None:
    with Upstream() as upstream:
        point_at(cast.server, upstream)
        member_of(gateway, cast).post(LIST)
        assert upstream.requests[0].header("user-agent") == f"gatehouse/{settings.VERSION}"


def test_the_version_header_is_neither_added_nor_changed(gateway: LiveGateway, cast: Cast) -> None:
    with Upstream() as upstream:
        point_at(cast.server, upstream)
        caller = member_of(gateway, cast)
        caller.post(LIST)
        caller.post(LIST, [("MCP-Protocol-Version", "2025-06-18")])
        caller.post(LIST, [("MCP-Protocol-Version", "2024-99-99")])
        values = [seen.header("mcp-protocol-version") for seen in upstream.requests]
    assert values == [None, "2025-06-18", "2024-99-99"]


@pytest.mark.requirement("F-108")
def test_static_and_allowed_headers_are_sent_and_the_static_one_wins(gateway: LiveGateway, cast: Cast) -> None:
    with Upstream() as upstream:
        point_at(
            cast.server,
            upstream,
            static_headers={"X-Region": "eu", "X-Both": "ours"},
            allowed_request_headers=["x-team", "X-Both"],
        )
        member_of(gateway, cast).post(LIST, [("X-Team", "blue"), ("X-Both", "theirs"), ("X-Region", "theirs")])
        (seen,) = upstream.requests
    assert (seen.header("x-region"), seen.header("x-team"), seen.header("x-both")) == ("eu", "blue", "ours")


@pytest.mark.requirement("T2", "T7", "T60")
def test_a_row_that_allows_or_sets_the_gateways_own_headers_does_not_get_its_way(
    gateway: LiveGateway, cast: Cast
) -> None:
    # The forms refuse these names; a row may come from elsewhere.
    names = ["Authorization", "Cookie", "Baggage", "Host", "X-Forwarded-For", "Connection", "Mcp-Session-Id"]
    with Upstream() as upstream:
        point_at(
            cast.server,
            upstream,
            allowed_request_headers=names,
            static_headers={"Host": "evil.example", "Mcp-Method": "x", "Content-Length": "3", "Connection": "close"},
        )
        caller = member_of(gateway, cast)
        assert caller.post(LIST, [("Cookie", "a=b"), ("Baggage", "c"), ("X-Forwarded-For", "1.2.3.4")]).status == 200
        (seen,) = upstream.requests
    assert set(seen.names()) == {"host", "accept", "accept-encoding", "content-type", "user-agent", "content-length"}
    assert seen.header("host") == f"127.0.0.1:{upstream.port}"
    assert caller.key not in seen.raw.decode("latin-1")


def test_a_header_that_connection_names_goes_no_further(gateway: LiveGateway, cast: Cast) -> None:
    with Upstream() as upstream:
        point_at(cast.server, upstream, allowed_request_headers=["x-team"])
        member_of(gateway, cast).post(LIST, [("X-Team", "blue"), ("Connection", "keep-alive, X-Team")])
        assert "x-team" not in upstream.requests[0].names()


def test_a_header_that_mcp_needs_cannot_be_taken_away_by_connection(gateway: LiveGateway, cast: Cast) -> None:
    with Upstream() as upstream:
        point_at(cast.server, upstream, allowed_request_headers=["x-team"])
        body = modern("tools/list")
        member_of(gateway, cast).post(body, [*modern_headers(body), ("Connection", "keep-alive, MCP-Protocol-Version")])
        assert upstream.requests[0].header("mcp-protocol-version") == MODERN


@pytest.mark.requirement("T6")
@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("MCP-Protocol-Version", MODERN, "2025-03-26"),
        ("MCP-Protocol-Version", MODERN, MODERN),
        ("Mcp-Method", "tools/list", "tools/call"),
        ("Mcp-Name", "safe", "danger"),
        ("Mcp-Session-Id", "a", "b"),
        ("Mcp-Param-Owner", "a", "b"),
        ("Content-Type", "application/json", "text/plain"),
        ("Last-Event-ID", "1", "2"),
        ("traceparent", "a", "b"),
    ],
)
def test_a_header_that_came_twice_is_refused(
    gateway: LiveGateway, cast: Cast, name: str, first: str, second: str
) -> None:
    with Upstream() as upstream:
        point_at(cast.server, upstream)
        caller = member_of(gateway, cast)
        headers = [(name, first), (name.upper(), second)]
        base = [pair for pair in caller.headers if pair[0] != name]
        response = request("POST", caller.url, [*base, *headers], b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}')
        assert response.status == 400
        assert upstream.requests == []


@pytest.mark.requirement("T6")
def test_a_list_header_that_came_twice_is_joined(gateway: LiveGateway, cast: Cast) -> None:
    with Upstream() as upstream:
        point_at(cast.server, upstream)
        caller = member_of(gateway, cast)
        caller.post(LIST, [("Accept", "x/y"), ("Tracestate", "a=1"), ("Tracestate", "b=2")])
        (seen,) = upstream.requests
    assert seen.header("accept") == "application/json, text/event-stream, x/y"
    assert seen.header("tracestate") == "a=1, b=2"


@pytest.mark.requirement("T53")
def test_names_with_line_breaks_reach_no_header_in_either_direction(gateway: LiveGateway, cast: Cast) -> None:
    name = "evil\r\nX-Injected: yes\r\n\r\nGET /admin HTTP/1.1"
    with Upstream() as upstream:
        point_at(cast.server, upstream)
        caller = member_of(gateway, cast)
        legacy = caller.post(tool_call(name))
        body = modern("tools/call", {"name": name, "arguments": {}})
        refused = caller.post(body, [*modern_headers(modern("tools/call", {"name": "evil"}))])
        (seen,) = upstream.requests
    assert legacy.status == 200
    assert "x-injected" not in seen.names()
    assert refused.status == 400
    assert "x-injected" not in legacy.names() | refused.names()


@pytest.mark.requirement("T53")
@pytest.mark.parametrize("value", ["a\nX-Injected: yes", "a\rX-Injected: yes", "a\x00b", "a\r\n X-Folded: yes"])
def test_control_characters_in_a_request_header_are_no_http(gateway: LiveGateway, cast: Cast, value: str) -> None:
    with Upstream() as upstream:
        point_at(cast.server, upstream, allowed_request_headers=["x-team", "x-injected"])
        response = member_of(gateway, cast).post(LIST, [("X-Team", value)])
        seen = upstream.requests
    # Either no HTTP at all, or two headers as the client wrote them: never one that becomes two on our side.
    assert response.status == 400 or [one.header("x-team") for one in seen] == ["a"]


UNWANTED = {
    "Set_Cookie": "sessionid=evil; Path=/",
    "Access_Control_Allow_Origin": "*",
    "Access_Control_Allow_Credentials": "true",
    "Location": "https://evil.example/",
    "Clear_Site_Data": '"*"',
    "Content_Security_Policy": "default-src *",
    "WWW_Authenticate": 'Bearer resource_metadata="https://evil.example/"',
    "Refresh": "0; url=https://evil.example/",
    "Server": "evil/1",
    "Via": "1.1 evil",
    "Alt_Svc": 'h2="evil.example:443"',
    "Strict_Transport_Security": "max-age=0",
    "X_Accel_Redirect": "/etc/passwd",
    "Link": "<https://evil.example/>",
    "X_Frame_Options": "ALLOWALL",
    "Cache_Control": "public, max-age=99999",
    "ETag": '"1"',
    "Mcp_Session_Id": "upstream-secret-session",
    "Allow": "GET",
    "Connection": "keep-alive",
    "X_Powered_By": "evil",
}


@pytest.mark.requirement("T31", "T32", "T42")
@pytest.mark.parametrize("status", [200, 400, 404, 405, 429])
def test_only_known_headers_reach_the_client(gateway: LiveGateway, cast: Cast, status: int) -> None:
    with Upstream(lambda _: json_answer({}, status, **UNWANTED, Retry_After="7", MCP_Protocol_Version="x")) as upstream:
        point_at(cast.server, upstream)
        response = member_of(gateway, cast).post(LIST)
    assert response.status == status
    expected = {
        "content-type",
        "content-length",
        "cache-control",
        "x-content-type-options",
        "retry-after",
        "mcp-protocol-version",
    }
    assert response.names() == expected | ({"allow"} if status == 405 else set())
    assert response.header("cache-control") == "no-store"
    assert response.header("retry-after") == "7"


@pytest.mark.requirement("T42")
@pytest.mark.parametrize("status", [400, 404, 405, 429, 202, 204, 201])
def test_a_session_id_on_anything_but_a_successful_initialize_is_not_adopted(
    gateway: LiveGateway, cast: Cast, status: int
) -> None:
    with Upstream(lambda _: json_answer({}, status, Mcp_Session_Id="s")) as upstream:
        point_at(cast.server, upstream)
        response = member_of(gateway, cast).post(message("initialize", {"protocolVersion": "2025-11-25"}))
    assert "mcp-session-id" not in response.names()


@pytest.mark.requirement("T42")
def test_a_session_id_on_a_modern_answer_is_not_adopted(gateway: LiveGateway, cast: Cast) -> None:
    with Upstream(lambda _: json_answer({}, Mcp_Session_Id="s")) as upstream:
        point_at(cast.server, upstream)
        caller = member_of(gateway, cast)
        assert "mcp-session-id" not in caller.modern("tools/list").names()
        assert "mcp-session-id" not in caller.modern("initialize").names()


@pytest.mark.requirement("T53")
@pytest.mark.parametrize("value", [b"1\nSet-Cookie: a=b", b"1\rSet-Cookie: a=b", b"1\r\n Set-Cookie: a=b", b"1\x00"])
def test_an_upstream_cannot_break_out_of_a_header(gateway: LiveGateway, cast: Cast, value: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
    answer = head + b"Retry-After: " + value + b"\r\n\r\n{}"
    with Upstream(lambda _: answer) as upstream:
        point_at(cast.server, upstream)
        response = member_of(gateway, cast).post(LIST)
    assert "set-cookie" not in response.names()
    assert response.status in (200, 502)


def test_a_compressed_answer_is_refused_instead_of_passed_on_as_json(gateway: LiveGateway, cast: Cast) -> None:
    # The gateway asked for identity; without Content-Encoding the client could not read these bytes.
    with Upstream(lambda _: json_answer({}, Content_Encoding="gzip")) as upstream:
        point_at(cast.server, upstream)
        assert member_of(gateway, cast).post(LIST).status == 502


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json"])
def test_json_is_recognised_however_its_type_is_written(gateway: LiveGateway, cast: Cast, content_type: str) -> None:
    with Upstream(lambda _: Answer(200, (("Content-Type", content_type),), b"{}")) as upstream:
        point_at(cast.server, upstream)
        response = member_of(gateway, cast).post(LIST)
    assert (response.status, response.body) == (200, b"{}")


def test_the_upstreams_own_path_and_query_are_used_and_the_clients_are_not(gateway: LiveGateway, cast: Cast) -> None:
    with Upstream() as upstream:
        point_at(cast.server, upstream, path="/a/b?fixed=1")
        caller = member_of(gateway, cast)
        caller.url += "?profile=evil"
        caller.post(LIST)
        assert upstream.requests[0].target == "/a/b?fixed=1"


def test_two_servers_on_one_host_keep_their_own_headers(gateway: LiveGateway, cast: Cast) -> None:
    with Upstream() as upstream:
        point_at(cast.server, upstream, static_headers={"X-Which": "one"})
        other = Server.objects.create(tenant=cast.tenant, slug="other", name="Other", url=upstream.origin + "/other")
        other.static_headers = {"X-Which": "two"}
        other.save()
        AccessRule.objects.create(server=other, team=cast.readers, role=Role.USER)
        first = member_of(gateway, cast)
        second = member_of(gateway, cast)
        second.url = gateway.mcp_url(other)
        for caller in (first, second, first, second):
            assert caller.post(LIST).status == 200
        pairs = [(seen.target, seen.header("x-which")) for seen in upstream.requests]
        assert upstream.connections == 1
    assert pairs == [("/mcp", "one"), ("/other", "two")] * 2
