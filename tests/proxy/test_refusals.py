"""Who is turned away, with what, and what a stranger can learn from it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from datetime import timedelta
from itertools import product

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from authflows.inbound.api_keys import create_key, revoke_key
from proxy.record import recorder
from servers.models import AccessRule, Call, Role, Server
from tests.conftest import PASSWORD, Cast
from tests.support.calls import Caller, caller_for, member_of, message, point_at, tool_call
from tests.support.gateway import LiveGateway
from tests.support.raw_http import Pairs, RawConnection, Response, encoded, request
from tests.support.records import write_records
from tests.support.upstream import Upstream

LIST = b'{"jsonrpc":"2.0","id":5,"method":"tools/list"}'
METHODS = ("POST", "GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS")


@pytest.fixture
def upstream(cast: Cast) -> Iterator[Upstream]:
    with Upstream() as server:
        point_at(cast.server, server)
        yield server


def challenge_of(gateway: LiveGateway, path: str, error: str = "") -> str:
    metadata = f"{gateway.origin}/.well-known/oauth-protected-resource{path}"
    return f'Bearer resource_metadata="{metadata}", scope="mcp"' + (f', error="{error}"' if error else "")


def authorizations(key: str, expired: str, revoked: str) -> dict[str, list[tuple[str, str]]]:
    """Every way to be nobody."""
    other_shape = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."
    values = {
        "wrong": f"Bearer {key[:-1]}{'A' if key[-1] != 'A' else 'B'}",
        "expired": f"Bearer {expired}",
        "revoked": f"Bearer {revoked}",
        "other scheme": f"Basic {key}",
        "no scheme": key,
        "empty": "Bearer ",
        "cut": f"Bearer {key[:-10]}",
        "more": f"Bearer {key}x",
        "two": f"Bearer {key} {key}",
        "quoted": f'Bearer "{key}"',
        "list": f"Bearer {key}, Bearer {key}",
        "unsigned token": f"Bearer {other_shape}",
        "not ASCII": "Bearer gh\xe9",
        "very long": "Bearer ghk_" + "a" * 20_000,
        "tab": f"Bearer\t{key}",
        "upper case": f"Bearer {key.upper()}",
    }
    found = {name: [("Authorization", value)] for name, value in values.items()}
    found["twice the same"] = [("Authorization", f"Bearer {key}")] * 2
    found["twice"] = [("Authorization", f"Bearer {key}"), ("authorization", "Bearer other")]
    found["good behind bad"] = [("Authorization", "Bearer other"), ("Authorization", f"Bearer {key}")]
    return found


@pytest.mark.requirement("RS-3", "RS-5", "RS-6", "RS-7", "RS-13", "T5", "T6")
def test_without_a_valid_credential_every_request_gets_the_challenge(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    good = member_of(gateway, cast)
    row, expired = create_key(owner=cast.member, name="e", actor="t", expires_at=timezone.now() + timedelta(hours=1))
    type(row).objects.filter(pk=row.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    row, revoked = create_key(owner=cast.member, name="r", actor="t")
    revoke_key(row, actor="t")
    for name, headers in authorizations(good.key, expired, revoked).items():
        response = request("POST", good.url, headers, LIST)
        assert response.status == 401, name
        assert response.header("www-authenticate") == challenge_of(gateway, cast.server.mcp_path, "invalid_token"), name
        assert response.json()["error"]["code"] == 1401, name
        assert good.key not in response.body.decode(), name
    response = request("POST", good.url, [], LIST)
    assert (response.status, response.header("www-authenticate")) == (
        401,
        challenge_of(gateway, cast.server.mcp_path),
    )
    assert upstream.requests == []


@pytest.mark.requirement("RS-5", "RS-13")
def test_the_challenge_comes_before_method_version_session_and_body(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    url = gateway.mcp_url(cast.server)
    extras: list[Pairs] = [
        [],
        [("MCP-Protocol-Version", "nonsense")],
        [("Mcp-Session-Id", "x")],
        [("Mcp-Name", "a"), ("Mcp-Name", "b")],
    ]
    for method, headers in product(METHODS, extras):
        response = request(method, url, headers)
        assert response.status == 401, (method, headers)
        assert response.header("www-authenticate") == challenge_of(gateway, cast.server.mcp_path)
    for body in (b"nonsense", b"", b"[" * 1000, b'{"method":1,"method":2}'):
        assert request("POST", url, [], body).status == 401


@pytest.mark.requirement("RS-5", "T30")
def test_a_stranger_is_refused_before_an_oversize_body_is_read(gateway: LiveGateway, cast: Cast) -> None:
    with RawConnection(gateway.origin) as connection:
        headers = [("Content-Length", str(10**12))]
        connection.send(encoded("POST", gateway.mcp_url(cast.server), headers))
        assert connection.read().status == 401


@pytest.mark.requirement("RS-13")
def test_an_unread_body_does_not_become_the_next_request(gateway: LiveGateway, cast: Cast) -> None:
    inner = encoded("GET", gateway.origin + "/healthz")
    with RawConnection(gateway.origin) as connection:
        connection.send(encoded("POST", gateway.mcp_url(cast.server), [], inner))
        assert connection.read().status == 401
        connection.send(encoded("GET", gateway.mcp_url(cast.server)))
        assert connection.read().status == 401


@pytest.mark.requirement("RS-8", "T4")
def test_a_valid_key_in_the_url_is_refused_and_never_logged(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    caller = member_of(gateway, cast)
    with caplog.at_level(logging.DEBUG):
        for query in (f"access_token={caller.key}", f"x=1&access_token={caller.key}"):
            bare = request("POST", f"{caller.url}?{query}", [], LIST)
            both = request("POST", f"{caller.url}?{query}", caller.headers, LIST)
            assert (bare.status, both.status) == (401, 401)
            assert bare.header("www-authenticate") == challenge_of(gateway, cast.server.mcp_path, "invalid_request")
        for query in (f"access%5Ftoken={caller.key}", f"token={caller.key}", f"key={caller.key}"):
            assert request("POST", f"{caller.url}?{query}", [], LIST).status == 401
    assert caller.key not in caplog.text
    assert upstream.requests == []


@pytest.mark.requirement("T51", "RS-7")
def test_a_signed_in_admin_without_a_key_is_a_stranger_to_the_endpoint(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    browser = Client()
    assert browser.login(username="admin", password=PASSWORD)
    cookies = "; ".join(f"{name}={morsel.value}" for name, morsel in browser.cookies.items())
    response = request("POST", gateway.mcp_url(cast.server), [("Cookie", cookies), ("Origin", gateway.origin)], LIST)
    assert response.status == 401
    assert upstream.requests == []


@pytest.mark.requirement("T51", "RS-15")
def test_pages_of_other_origins_and_other_host_names_are_refused(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    caller = member_of(gateway, cast)
    for origin in ("https://evil.example", "null", gateway.origin + ".evil.example", "", gateway.origin.upper()):
        for headers in ([("Origin", origin)], [*caller.headers, ("Origin", origin)]):
            assert request("POST", caller.url, headers, LIST).status == 403
        preflight = request("OPTIONS", caller.url, [("Origin", origin), ("Access-Control-Request-Method", "POST")])
        assert preflight.status == 403
        assert not {name for name in preflight.names() if name.startswith("access-control-")}
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "a b"):
        refused = request("POST", caller.url, [*caller.headers, ("Host", host)], LIST)
        assert refused.status in (400, 421), host
    assert upstream.requests == []


@pytest.mark.requirement("RS-15")
def test_a_page_of_the_gateways_own_origin_may_call_and_read_the_answer(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    caller = member_of(gateway, cast)
    wanted = [("Origin", gateway.origin), ("Access-Control-Request-Headers", "authorization,mcp-method")]
    preflight = request("OPTIONS", caller.url, wanted)
    assert preflight.status == 204
    assert preflight.header("access-control-allow-headers") == "authorization,mcp-method"
    answer = request("POST", caller.url, [*caller.headers, ("Origin", gateway.origin)], LIST)
    assert answer.status == 200
    assert answer.header("access-control-allow-origin") == gateway.origin
    assert "WWW-Authenticate" in (answer.header("access-control-expose-headers") or "")
    challenge = request("POST", caller.url, [("Origin", gateway.origin)], LIST)
    assert challenge.header("access-control-allow-origin") == gateway.origin


def comparable(response: Response) -> tuple[int, list[tuple[str, str]], bytes]:
    return response.status, response.headers, response.body


@pytest.mark.requirement("RS-13")
def test_a_stranger_cannot_tell_an_unknown_server_from_a_known_one(gateway: LiveGateway, cast: Cast) -> None:
    Server.objects.create(tenant=cast.tenant, slug="switched-off", name="Off", url="http://x.test/", enabled=False)
    paths = [cast.server.mcp_path, "/default/mcp/nothing-here/server", "/nobody/mcp/nothing-here/server"]
    paths.append("/default/mcp/switched-off/server")
    answers = []
    for path, method in product(paths, ("POST", "GET", "PUT")):
        status, headers, body = comparable(request(method, gateway.origin + path, [], LIST))
        answers.append((status, [(k, v.replace(path, "<path>")) for k, v in headers], body))
    assert all(answer == answers[0] for answer in answers)


@pytest.mark.requirement("RS-12", "RS-13", "T1")
def test_a_known_person_cannot_tell_an_unknown_server_from_one_without_a_right(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    other = Server.objects.create(tenant=cast.tenant, slug="other", name="Other", url=upstream.url)
    elsewhere = Server.objects.create(tenant=cast.other_tenant, slug="else", name="Else", url=upstream.url)
    member, outsider, stranger = (
        caller_for(gateway, cast.server, person) for person in (cast.member, cast.outsider, cast.stranger)
    )
    limited = caller_for(gateway, cast.server, cast.member, limited_to=[other])
    callers = [outsider, stranger, limited]
    for path in (other.mcp_path, elsewhere.mcp_path, "/default/mcp/none/server", "/nobody/mcp/none/server"):
        callers.append(Caller(gateway.origin + path, member.key))
    for method, body in (("POST", LIST), ("POST", b"nonsense"), ("GET", None), ("DELETE", None)):
        answers = [comparable(caller.send(method, body=body)) for caller in callers]
        assert all(answer == answers[0] for answer in answers)
        status, headers, text = answers[0]
        assert status == 403
        assert "www-authenticate" not in dict(headers)
        assert b'"code": 1404' in text
    assert callers[0].post(LIST).json()["id"] == 5
    assert upstream.requests == []


@pytest.mark.requirement("T1")
def test_a_key_limited_to_a_server_opens_that_one_only(gateway: LiveGateway, cast: Cast, upstream: Upstream) -> None:
    other = Server.objects.create(tenant=cast.tenant, slug="other", name="Other", url=upstream.url)
    AccessRule.objects.create(server=other, user=cast.member, role=Role.MANAGER)
    limited = caller_for(gateway, other, cast.member, limited_to=[other])
    assert limited.post(LIST).status == 200
    for endpoint in ("server", "mcp", "key"):
        limited.url = gateway.mcp_url(cast.server, endpoint)
        assert limited.post(LIST).status == 403
    assert len(upstream.requests) == 1


def test_a_disabled_server_says_so_to_its_users(gateway: LiveGateway, cast: Cast, upstream: Upstream) -> None:
    cast.server.enabled = False
    cast.server.save()
    response = member_of(gateway, cast).post(LIST)
    assert response.status == 403
    assert "disabled" in response.json()["error"]["message"]
    assert "disabled" not in caller_for(gateway, cast.server, cast.outsider).post(LIST).body.decode()


@pytest.mark.requirement("T9", "F-207")
def test_a_revoked_key_is_refused_at_once(gateway: LiveGateway, cast: Cast, upstream: Upstream) -> None:
    row, key = create_key(owner=cast.member, name="k", actor="t")
    caller = Caller(gateway.mcp_url(cast.server), key)
    assert caller.post(LIST).status == 200
    revoke_key(row, actor="t")
    assert caller.post(LIST).status == 401


@pytest.mark.requirement("T10")
def test_a_person_who_is_switched_off_is_refused_at_once(gateway: LiveGateway, cast: Cast, upstream: Upstream) -> None:
    caller = member_of(gateway, cast)
    assert caller.post(LIST).status == 200
    cast.member.is_active = False
    cast.member.save()
    assert caller.post(LIST).status == 401


@pytest.mark.requirement("F-701")
def test_the_key_endpoint_never_starts_an_oauth_discovery(gateway: LiveGateway, cast: Cast, upstream: Upstream) -> None:
    caller = member_of(gateway, cast, "key")
    assert caller.post(LIST).status == 200
    for headers in ([], [("Authorization", "Bearer wrong")], [("Authorization", "Basic x")]):
        refused = request("POST", caller.url, headers, LIST)
        assert refused.status == 401
        assert "resource_metadata" not in (refused.header("www-authenticate") or "")
        assert (refused.header("www-authenticate") or "").startswith("Bearer ")


@pytest.mark.requirement("F-701", "RS-2")
def test_the_mcp_alias_works_and_names_itself_in_its_challenge(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    caller = member_of(gateway, cast, "mcp")
    assert caller.post(LIST).status == 200
    refused = request("POST", caller.url, [], LIST)
    path = cast.server.mcp_path.removesuffix("server") + "mcp"
    assert refused.header("www-authenticate") == challenge_of(gateway, path)


@pytest.mark.requirement("F-701")
def test_no_other_spelling_of_the_url_is_redirected(gateway: LiveGateway, cast: Cast, upstream: Upstream) -> None:
    caller = member_of(gateway, cast)
    path = cast.server.mcp_path
    for other in (path + "/", "/" + path, path.replace("/mcp/", "//mcp/"), path.upper(), path + "/x", path + ";a=b"):
        for method in ("POST", "GET"):
            response = request(method, gateway.origin + other, caller.headers, LIST if method == "POST" else None)
            assert response.status in (403, 404), (method, other)
            assert "location" not in response.names()
    assert upstream.requests == []


@pytest.mark.requirement("T53", "RS-5")
@pytest.mark.parametrize(
    "name",
    [
        "a%0d%0aSet-Cookie:%20evil=1",
        "%E2%82%AC",
        "a%22,%20error=%22x",
        "%00",
        "%ff",
        "a%0a",
        "a%20b",
        "%25",
        "%F0%9F%98%80",
    ],
)
@pytest.mark.parametrize("where", ["tenant", "server"])
def test_any_name_in_the_path_gets_the_challenge_and_breaks_out_of_nothing(
    gateway: LiveGateway, cast: Cast, name: str, where: str
) -> None:
    path = f"/{name}/mcp/x/server" if where == "tenant" else f"/default/mcp/{name}/server"
    response = request("POST", gateway.origin + path, [], LIST)
    assert response.status == 401
    assert "set-cookie" not in response.names()
    assert (response.header("www-authenticate") or "").count('"') == 4
    known = member_of(gateway, cast)
    known.url = gateway.origin + path
    assert known.post(LIST).status == 403


@pytest.mark.requirement("F-701")
def test_methods_that_mcp_does_not_have_are_refused_after_the_credential(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    caller = member_of(gateway, cast)
    for method in ("PUT", "PATCH", "HEAD", "OPTIONS", "PROPFIND", "TRACE"):
        response = caller.send(method)
        assert response.status == 405, method
        assert response.header("allow") == "POST, GET, DELETE"
    assert upstream.requests == []


@pytest.mark.requirement("T30")
def test_a_body_over_the_limit_is_refused_with_the_limit_in_words(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    cast.server.max_request_bytes = 1000
    cast.server.save()
    caller = member_of(gateway, cast)
    assert caller.post(LIST.ljust(1000)).status == 200
    declared = caller.post(LIST.ljust(1001))
    with RawConnection(gateway.origin) as connection:
        connection.send(encoded("POST", caller.url, [*caller.headers, ("Transfer-Encoding", "chunked")]))
        connection.send(b"%x\r\n%b\r\n" % (600, b" " * 600))
        connection.send(b"%x\r\n%b\r\n" % (600, b" " * 600))
        counted = connection.read()
        assert connection.is_closed()
    with RawConnection(gateway.origin) as connection:
        connection.send(encoded("POST", caller.url, [*caller.headers, ("Content-Length", str(10**15))]))
        unread = connection.read()
    for response in (declared, counted, unread):
        assert response.status == 413
        assert response.json()["error"]["code"] == 1413
        assert "1000 bytes" in response.json()["error"]["message"]
    assert len(upstream.requests) == 1


@pytest.mark.requirement("T38", "T39")
def test_a_refused_body_reaches_no_upstream(gateway: LiveGateway, cast: Cast, upstream: Upstream) -> None:
    caller = member_of(gateway, cast)
    for body, code in (
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call"}', -32700),
        (b"nonsense", -32700),
        (b"", -32700),
        (b"[]", -32600),
        (b'{"id":1}', -32600),
        (b'{"id":' + b"9" * 4000 + b',"method":"ping"}', -32600),
    ):
        response = caller.post(body)
        assert (response.status, response.json()["error"]["code"]) == (400, code)
    batch = [message("tools/list"), tool_call("x", id=2)]
    assert caller.post(batch, [("MCP-Protocol-Version", "2025-06-18")]).status == 400
    assert upstream.requests == []
    assert caller.post(batch, [("MCP-Protocol-Version", "2025-03-26")]).status == 202


def test_odd_ids_come_back_as_they_were(gateway: LiveGateway, cast: Cast) -> None:
    caller = caller_for(gateway, cast.server, cast.outsider)
    for identity in (0, -1, 2**63, "", "ünï\u0000\n", "x" * 5000):
        assert caller.post(message("tools/list", id=identity)).json()["id"] == identity


@pytest.mark.requirement("T54")
def test_many_strangers_at_once_all_get_the_same_answer(gateway: LiveGateway, cast: Cast, upstream: Upstream) -> None:
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(request("POST", gateway.mcp_url(cast.server), [], LIST).status))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [401] * 20


@pytest.mark.requirement("T57")
@pytest.mark.parametrize("vendor", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_a_name_that_the_database_cannot_hold_does_not_hold_up_other_records(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, vendor: str
) -> None:
    if vendor != connection.vendor:
        pytest.skip("PostgreSQL only" if vendor == "postgresql" else "SQLite only")
    caller = member_of(gateway, cast)
    assert request("POST", gateway.origin + "/%00/mcp/%00/server", [], LIST).status == 401
    assert caller.post(tool_call("a\0b")).status == 200
    assert caller.post(LIST).status == 200
    write_records()
    assert sorted(Call.objects.values_list("status", flat=True)) == [200, 200, 401]
    assert recorder.waiting() == 0
