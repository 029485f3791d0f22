"""How a server fares, as its calls show it: told apart by what is wrong, kept when it changes, well again by itself."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from proxy.conditions import Condition
from servers import health
from servers.models import AuthConfig, Server
from servers.secrets import store
from tests.conftest import PASSWORD, Cast, allow_private
from tests.proxy.wire import wait_until
from tests.support.calls import member_of, message, point_at, tool_call
from tests.support.gateway import LiveGateway
from tests.support.mcp_upstream import make_certificate
from tests.support.upstream import Answer, Upstream, mcp_server

pytestmark = pytest.mark.requirement("F-109")

Health = Server.Health
LIST = message("tools/list")
HTML = Answer(200, (("Content-Type", "text/html"),), b"<h1>Welcome</h1>")


# The rules


def test_the_first_good_call_makes_an_untested_server_a_good_one() -> None:
    condition = Condition()
    assert condition.state is None
    assert condition.succeeded(slow=False)
    assert condition.state is Health.OK
    assert not condition.succeeded(slow=False)
    assert condition.steady


def test_one_call_decides_nothing_and_three_in_a_row_do() -> None:
    condition = Condition()
    condition.succeeded(slow=False)
    for _ in range(5):
        assert not condition.failed(Health.UNREACHABLE, "no connection")
        assert not condition.failed(Health.UNREACHABLE, "no connection")
        assert not condition.succeeded(slow=False)
    assert [condition.failed(Health.TLS, "expired") for _ in range(4)] == [False, False, True, False]
    assert (condition.state, condition.words) == (Health.TLS, "expired")
    assert not condition.steady
    assert [condition.succeeded(slow=False) for _ in range(4)] == [False, False, True, False]
    assert condition.state is Health.OK


def test_another_reason_is_another_state() -> None:
    condition = Condition()
    for _ in range(3):
        condition.failed(Health.UNREACHABLE, "no connection")
    assert condition.failed(Health.TLS, "expired")


def test_slow_is_a_median_and_not_a_call() -> None:
    condition = Condition()
    assert condition.succeeded(slow=True)
    assert condition.state is Health.OK
    assert [condition.succeeded(slow=True) for _ in range(5)] == [False, False, False, False, True]
    assert condition.state is Health.SLOW
    quick = [condition.succeeded(slow=False) for _ in range(9)]
    assert quick.index(True) == 4, "five of the last ten are no more than half"
    assert condition.state is Health.OK


def test_no_answer_in_time_counts_as_slow() -> None:
    condition = Condition()
    assert [condition.too_slow("no answer") for _ in range(3)] == [False, False, True]
    assert condition.state is Health.SLOW


# Real calls


@pytest.fixture
def upstream(cast: Cast, gateway: LiveGateway) -> Iterator[Upstream]:
    with Upstream() as found:
        point_at(cast.server, found)
        yield found


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """Each change is written when it happens, and no breaker stands before the calls."""
    monkeypatch.setattr("proxy.gates._WRITE_SECONDS", 0.0)
    settings.BREAKER_FAILURES = 1000


def row(cast: Cast) -> Server:
    return Server.objects.get(pk=cast.server.pk)


def becomes(cast: Cast, wanted: Server.Health) -> Server:
    """The server's row once it says so."""
    wait_until(lambda: row(cast).health == wanted, f"health {wanted}")
    return row(cast)


def use_key(cast: Cast) -> None:
    secret = store.set_secret(tenant=cast.tenant, group="calculator", key="token", value="s3cret", actor="admin")
    config = AuthConfig.objects.get(server=cast.server)
    config.method = AuthConfig.Method.SHARED_HEADER
    config.set_header_templates([("Authorization", f"Bearer {secret.fqn}")])
    config.save()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (Answer(401), Health.AUTH, "refuses the gateway's own credential (HTTP 401)"),
        (Answer(500), Health.FAILING, "errors of its own (HTTP 500)"),
        (HTML, Health.PROTOCOL, "neither JSON nor an event stream"),
        (Answer(302, (("Location", "https://elsewhere.example/"),)), Health.PROTOCOL, "redirects (HTTP 302)"),
        (None, Health.PROTOCOL, "breaks off before it answers"),
    ],
    ids=["auth", "error", "page", "redirect", "closes"],
)
def test_calls_show_what_is_wrong_and_that_it_is_well_again(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, answer: Answer | None, kind: Server.Health, words: str
) -> None:
    use_key(cast)
    caller = member_of(gateway, cast)
    assert caller.post(LIST).status == 200
    good = becomes(cast, Health.OK)
    assert good.health_detail["sentence"] == "Calls are answered."
    upstream.script = lambda _: answer
    upstream.drop_connections()
    for _ in range(3):
        caller.post(LIST)
    bad = becomes(cast, kind)
    assert words in bad.health_detail["sentence"]
    assert bad.health_detail["ok"] is False
    assert bad.health_at is not None
    assert good.health_at is not None
    assert bad.health_at > good.health_at
    upstream.script = mcp_server
    for _ in range(3):
        assert caller.post(LIST).status == 200
    becomes(cast, Health.OK)


@pytest.mark.django_db(transaction=True)
def test_a_server_that_is_gone_is_unreachable(gateway: LiveGateway, cast: Cast, upstream: Upstream) -> None:
    upstream.stop_listening()
    caller = member_of(gateway, cast)
    for _ in range(3):
        caller.post(LIST)
    assert "no connection" in becomes(cast, Health.UNREACHABLE).health_detail["sentence"]


@pytest.mark.django_db(transaction=True)
def test_a_certificate_that_is_not_trusted_is_a_matter_of_tls(gateway: LiveGateway, cast: Cast, tmp_path: Path) -> None:
    certificate, key = make_certificate(tmp_path, "127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with Upstream(tls=context) as upstream:
        point_at(cast.server, upstream)
        caller = member_of(gateway, cast)
        for _ in range(3):
            caller.post(LIST)
        assert "TLS certificate is not trusted" in becomes(cast, Health.TLS).health_detail["sentence"]


@pytest.mark.django_db(transaction=True)
def test_calls_that_take_long_make_a_server_slow(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, settings: Any
) -> None:
    settings.SLOW_SECONDS = 0
    caller = member_of(gateway, cast)
    for _ in range(6):
        assert caller.post(LIST).status == 200
    found = becomes(cast, Health.SLOW)
    assert "More than half of its last ten calls took longer than 0 seconds" in found.health_detail["sentence"]


@pytest.mark.django_db(transaction=True)
def test_refusals_of_what_was_asked_say_nothing_against_the_server(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    caller = member_of(gateway, cast)
    assert caller.post(LIST).status == 200
    becomes(cast, Health.OK)
    for status in (400, 403, 404, 405, 429):
        upstream.script = lambda _, status=status: Answer(status, (("Content-Type", "application/json"),), b"{}")  # type: ignore[misc]
        for _ in range(3):
            caller.post(LIST)
    upstream.script = mcp_server
    assert caller.post(tool_call()).status == 200
    assert row(cast).health == Health.OK


# The row


@pytest.mark.django_db
def test_calls_write_the_row_only_when_it_says_something_else(cast: Cast) -> None:
    detail = {"ok": True, "sentence": "Connected; 2 tools.", "tools": 2, "step": ""}
    Server.objects.filter(pk=cast.server.pk).update(health=Health.OK, health_detail=detail)
    url = cast.server.url
    assert not health.keep_from_calls(cast.server.pk, url, Health.OK, "")
    assert row(cast).health_detail == detail
    assert not health.keep_from_calls(cast.server.pk, "http://elsewhere/mcp", Health.TLS, "x")
    assert health.keep_from_calls(cast.server.pk, url, Health.TLS, "its TLS certificate is not trusted")
    found = row(cast)
    assert (found.health, found.health_detail["tools"], found.health_detail["step"]) == (Health.TLS, 2, "calls")
    assert "custom CA" in found.health_detail["sentence"]


@pytest.mark.django_db(transaction=True)
def test_after_a_failed_test_good_calls_make_a_server_good_again(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, client: Client
) -> None:
    caller = member_of(gateway, cast)
    assert caller.post(LIST).status == 200
    becomes(cast, Health.OK)
    upstream.script = lambda _: Answer(500)
    client.login(username="manager", password=PASSWORD)
    allow_private(upstream.url)
    assert client.post(f"/admin/test-connection/{cast.server.pk}/").status_code == 200
    assert row(cast).health == Health.FAILING
    upstream.script = mcp_server
    wait_until(lambda: caller.post(LIST).status == 200 and row(cast).health == Health.OK, "a good server")


@pytest.mark.django_db
def test_the_pages_tell_what_is_wrong_since_when_and_what_to_do(cast: Cast, client: Client) -> None:
    health.keep_from_calls(cast.server.pk, cast.server.url, Health.UNREACHABLE, "no connection")
    client.login(username="manager", password=PASSWORD)
    listed = client.get("/admin/servers/server/").content.decode()
    assert '<span class="gh-health gh-health-unreachable">Unreachable</span>' in listed
    page = client.get(f"/admin/servers/server/{cast.server.pk}/change/").content.decode()
    assert "Calls do not reach it: no connection. Check that it runs" in page
    assert "0\xa0minutes ago" in page
    client.login(username="member", password=PASSWORD)
    assert "Not answering" in client.get("/portal/").content.decode()
