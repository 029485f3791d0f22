"""Tokens of OAuth clients for the API: what they open, what they do not, and how they end."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests
from django.conf import settings
from django.test import Client
from oauth2_provider.models import Grant

from authflows.inbound.bearer import Unauthenticated, authenticate, still_signed_in
from authflows.inbound.oauth import approvals
from authflows.models import Approval, OAuthClient
from servers import changes
from servers.access import Principal
from servers.changes import Feed
from servers.models import AuthConfig, Call, Server
from tests.conftest import Cast, allow_private
from tests.proxy.api.conftest import Asker, LiveAsker, key_of
from tests.proxy.test_oauth_calls import (
    delete_client,
    disable_client,
    disable_person,
    give_back,
    redeem_stolen_token,
    revoke_approval,
)
from tests.proxy.wire import Asked, Stage, staged, wait_until
from tests.support.calls import Caller, message, point_at, speaking
from tests.support.gateway import LiveGateway
from tests.support.ide import CHALLENGE, REDIRECT_URI, VERIFIER, Ide, make_client, post_to
from tests.support.mcp_upstream import calculator, serving
from tests.support.other_process import run_elsewhere
from tests.support.records import write_records
from tests.support.upstream import Upstream

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requirement("F-604")]
API = "/api/v1"
SUM = {"a": 2, "b": 40}


@pytest.fixture
def program(cast: Cast) -> Ide:
    """A client that asks for the API."""
    return Ide(make_client(name="Dashboard"), cast.member, None, f"{settings.PUBLIC_URL}{API}")


@pytest.fixture
def ide(cast: Cast) -> Ide:
    """The same client at a server."""
    return Ide(make_client(name="Example IDE"), cast.member, cast.server, cast.server.mcp_url)


def status_of(token: str, path: str = "/api/v1/me") -> int:
    return Client(headers={"Authorization": f"Bearer {token}"}).get(path).status_code


# --- the whole trip


@pytest.mark.requirement("RS-1", "RS-3", "RS-5", "AZ-12", "AZ-13")
def test_a_client_that_knows_the_address_alone_signs_in_calls_refreshes_and_ends(
    gateway: LiveGateway, cast: Cast
) -> None:
    origin, api = gateway.origin, f"{gateway.origin}{API}"
    challenge = requests.get(f"{api}/servers", timeout=10).headers["WWW-Authenticate"]
    found = re.search(r'resource_metadata="([^"]+)"', challenge)
    assert found
    about = requests.get(found[1], timeout=10).json()
    assert about["resource"] == api
    assert about["authorization_servers"] == [origin]
    server = requests.get(f"{origin}/.well-known/oauth-authorization-server", timeout=10).json()
    asked = {"client_name": "Dashboard", "redirect_uris": [REDIRECT_URI], "token_endpoint_auth_method": "none"}
    registered = requests.post(server["registration_endpoint"], json=asked, timeout=10).json()

    parameters = {
        "response_type": "code",
        "client_id": registered["client_id"],
        "redirect_uri": REDIRECT_URI,
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        "resource": about["resource"],
        "scope": " ".join(about["scopes_supported"]),
    }
    browser = Client()
    browser.force_login(cast.member)
    page = browser.get(f"/authorize?{urlencode(parameters)}").headers["Location"]
    assert "Let a program use the Gateway API?" in browser.get(page).content.decode()
    back = urlsplit(browser.post(page, {"decision": "approve"}).headers["Location"])
    (code,) = parse_qs(back.query)["code"]
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": REDIRECT_URI,
        "client_id": registered["client_id"],
        "code_verifier": VERIFIER,
        "resource": api,
    }
    pair = requests.post(server["token_endpoint"], data=form, timeout=10).json()
    assert pair["scope"] == "mcp"

    with serving(calculator()) as url:
        cast.server.url = url
        cast.server.save()
        allow_private(url)
        answer = LiveAsker(gateway, pair["access_token"]).call(cast.server, "add", SUM)
    assert answer.json()["result"]["content"][0]["text"] == "42", answer.text
    write_records()
    call, approval = Call.objects.get(method="tools/call"), Approval.objects.get()
    assert approval.server is None
    assert (call.principal, call.user_id, call.credential) == ("member", cast.member.pk, f"approval:{approval.pk}")

    form = {"grant_type": "refresh_token", "refresh_token": pair["refresh_token"], "resource": api}
    client = {"client_id": registered["client_id"]}
    renewed = requests.post(server["token_endpoint"], data=form | client, timeout=10).json()
    assert (status_of(pair["access_token"]), status_of(renewed["access_token"])) == (401, 200)
    given = {"token": renewed["refresh_token"]} | client
    assert requests.post(server["revocation_endpoint"], data=given, timeout=10).status_code == 200
    assert status_of(renewed["access_token"]) == 401
    form["refresh_token"] = renewed["refresh_token"]
    refused = requests.post(server["token_endpoint"], data=form | client, timeout=10).json()
    assert refused["error"] == "invalid_grant"


def test_a_token_is_the_whole_person_at_the_api(program: Ide, cast: Cast) -> None:
    asker = Asker(program.sign_in()["access_token"])

    assert asker.get("me").json()["username"] == "member"
    assert [one["slug"] for one in asker.get("servers").json()["items"]] == ["calculator"]
    assert asker.get("connections").json()["total"] == 1


def test_the_compatible_paths_are_the_same_api(program: Ide) -> None:
    assert status_of(program.sign_in()["access_token"], "/api/svc/v1/mcp") == 200


# --- one resource each


@pytest.mark.requirement("T1", "RS-11", "RS-5")
@pytest.mark.parametrize("endpoint", ["server", "mcp", "key"])
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_a_token_of_the_api_is_no_credential_at_any_mcp_url(
    gateway: LiveGateway, program: Ide, cast: Cast, endpoint: str, method: str
) -> None:
    program.resource = f"{gateway.origin}{API}"
    token = program.sign_in()["access_token"]
    assert status_of(token) == 200
    with Upstream() as upstream:
        point_at(cast.server, upstream)
        caller = Caller(gateway.mcp_url(cast.server, endpoint), token)
        answer = caller.post(message("tools/list")) if method == "POST" else caller.send(method)
        assert upstream.requests == []

    assert answer.status == 401
    assert 'error="invalid_token"' in (answer.header("WWW-Authenticate") or "")
    outcomes = wait_until(lambda: list(Call.objects.values_list("outcome", flat=True)), "a record")
    assert outcomes == ["credential_for_another_resource"]
    assert status_of(token) == 200


@pytest.mark.requirement("T1", "RS-11")
@pytest.mark.parametrize("path", ["/api/v1/me", "/api/v1/servers", "/api/v1/nothing", "/api/svc/v1/mcp"])
@pytest.mark.parametrize("endpoint", ["server", "mcp"])
def test_a_token_of_an_mcp_url_is_no_credential_at_the_api(ide: Ide, cast: Cast, path: str, endpoint: str) -> None:
    ide.resource = ide.resource.removesuffix("server") + endpoint
    token = ide.sign_in()["access_token"]
    opened = ide.resource.removeprefix(settings.PUBLIC_URL)
    for _ in range(2):  # the second time the answer for the right URL is remembered
        assert authenticate(f"Bearer {token}".encode(), now=0, path=opened)
        answer = Client(headers={"Authorization": f"Bearer {token}"}).get(path)

        assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")
        assert 'error="invalid_token"' in answer.headers["WWW-Authenticate"]


@pytest.mark.requirement("T1", "RS-11")
@pytest.mark.parametrize(
    "path",
    [None, "", "/", "/api", "/api/v1/", "/api/v1/servers", "/API/V1", "/api/v2", "/default/mcp/calculator/server"],
)
def test_the_audience_is_compared_byte_for_byte(program: Ide, path: str | None) -> None:
    header = f"Bearer {program.sign_in()['access_token']}".encode()

    assert authenticate(header, now=0, path=API)
    assert not authenticate(header, now=0, path=path)


@pytest.mark.requirement("T1")
def test_an_approval_of_the_api_limits_to_no_server_and_one_of_a_server_to_it(
    program: Ide, ide: Ide, cast: Cast
) -> None:
    api = authenticate(f"Bearer {program.sign_in()['access_token']}".encode(), now=0, path=API)
    path = ide.resource.removeprefix(settings.PUBLIC_URL)
    mcp = authenticate(f"Bearer {ide.sign_in()['access_token']}".encode(), now=0, path=path)

    assert isinstance(api, Principal)
    assert isinstance(mcp, Principal)
    assert (api.limited_to, api.audience) == (None, API)
    assert (mcp.limited_to, mcp.audience) == (frozenset({cast.server.pk}), path)


@pytest.mark.requirement("RS-11")
def test_an_api_key_opens_both(gateway: LiveGateway, cast: Cast) -> None:
    key = key_of(cast.member)
    with Upstream() as upstream:
        point_at(cast.server, upstream)
        assert Caller(gateway.mcp_url(cast.server), key).post(message("tools/list")).status == 200
    assert status_of(key) == 200


@pytest.mark.requirement("RS-11", "T5")
def test_a_refresh_token_opens_nothing(program: Ide) -> None:
    assert status_of(program.sign_in()["refresh_token"]) == 401


RESOURCES: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "another origin": lambda: f"https://elsewhere.example{API}",
    "an origin that begins alike": lambda: f"{settings.PUBLIC_URL}.evil.example{API}",
    "a slash at the end": lambda: f"{settings.PUBLIC_URL}{API}/",
    "below it": lambda: f"{settings.PUBLIC_URL}{API}/servers",
    "above it": lambda: f"{settings.PUBLIC_URL}/api",
    "upper case": lambda: f"{settings.PUBLIC_URL}{API.upper()}",
    "upper case of the origin": lambda: f"{settings.PUBLIC_URL.upper()}{API}",
    "escaped": lambda: f"{settings.PUBLIC_URL}/api%2Fv1",
    "a query": lambda: f"{settings.PUBLIC_URL}{API}?",
    "a fragment": lambda: f"{settings.PUBLIC_URL}{API}#",
    "the compatible path": lambda: f"{settings.PUBLIC_URL}/api/svc/v1/mcp",
    "twice": lambda: [f"{settings.PUBLIC_URL}{API}"] * 2,
    "the API and a server": lambda: [
        f"{settings.PUBLIC_URL}{API}",
        f"{settings.PUBLIC_URL}/default/mcp/calculator/server",
    ],
}


@pytest.mark.requirement("AZ-13", "AZ-14", "T1")
@pytest.mark.parametrize("name", RESOURCES)
def test_a_request_names_the_api_byte_for_byte_and_nothing_else(program: Ide, name: str) -> None:
    program.approve()
    browser = Client()
    browser.force_login(program.user)
    parameters = {
        "response_type": "code",
        "client_id": program.client.client_id,
        "redirect_uri": REDIRECT_URI,
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
        "resource": RESOURCES[name](),
    }
    asked = urlencode({k: v for k, v in parameters.items() if v is not None}, doseq=True)

    answer = browser.get(f"/authorize?{asked}").headers["Location"]

    assert parse_qs(urlsplit(answer).query)["error"] == ["invalid_target"]
    assert not Grant.objects.exists()


@pytest.mark.requirement("AZ-13", "AZ-14", "T1")
@pytest.mark.parametrize("name", [name for name in RESOURCES if name != "none"])
def test_a_code_or_refresh_token_of_the_api_is_for_nothing_else(program: Ide, name: str) -> None:
    assert program.redeem(program.code(), resource=RESOURCES[name]()).error == "invalid_target"
    pair = program.sign_in()
    assert program.refresh(pair["refresh_token"], resource=RESOURCES[name]()).error == "invalid_target"
    assert program.refresh(pair["refresh_token"], resource=None).status == 200


@pytest.mark.requirement("AZ-13", "T1")
def test_codes_and_refresh_tokens_do_not_change_their_resource(program: Ide, ide: Ide) -> None:
    assert ide.redeem(ide.code(), resource=program.resource).error == "invalid_target"
    assert program.redeem(program.code(), resource=ide.resource).error == "invalid_target"
    mcp, api = ide.sign_in(), program.sign_in()
    assert ide.refresh(mcp["refresh_token"], resource=program.resource).error == "invalid_target"
    assert program.refresh(api["refresh_token"], resource=ide.resource).error == "invalid_target"


@pytest.mark.requirement("RS-9")
def test_a_token_without_the_scope_is_told_which_one_it_needs(program: Ide) -> None:
    token = program.sign_in(scope="offline_access")["access_token"]

    answer = Asker(token).get("servers")

    assert (answer.status_code, answer.json()["code"]) == (403, "scope_insufficient")
    assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]
    assert 'scope="mcp"' in answer.headers["WWW-Authenticate"]


@pytest.mark.requirement("T2")
def test_the_token_goes_to_no_server(gateway: LiveGateway, program: Ide, cast: Cast) -> None:
    program.resource = f"{gateway.origin}{API}"
    token = program.sign_in()["access_token"]
    AuthConfig.objects.filter(server=cast.server).update(method=AuthConfig.Method.NONE)
    with Upstream() as upstream:
        point_at(cast.server, upstream)
        LiveAsker(gateway, token).call(cast.server, "add", SUM)

    assert upstream.requests
    assert not [asked for asked in upstream.requests if token[4:].encode() in asked.raw]


# --- the end


def a_call_under_way(
    stage: Stage, url: str, headers: dict[str, str]
) -> tuple[list[requests.Response], threading.Thread, Asked]:
    """A call that has arrived at the upstream, and where its answer will be once the thread has ended."""
    answers: list[requests.Response] = []
    body = {"tool": "add", "arguments": SUM}
    speaking(stage.server, Server.Eras.MODERN)
    thread = threading.Thread(target=lambda: answers.append(requests.post(url, json=body, headers=headers, timeout=30)))
    thread.start()
    return answers, thread, stage.upstream.request()


WAYS = [revoke_approval, give_back, disable_client, delete_client, disable_person, redeem_stolen_token]


@pytest.mark.requirement("T9", "T10", "T8", "AZ-17")
@pytest.mark.parametrize("end", WAYS)
def test_the_very_next_request_is_refused_and_a_call_under_way_ends(
    gateway: LiveGateway, program: Ide, cast: Cast, end: Callable[[Ide, dict[str, str]], None]
) -> None:
    program.resource, program.post = f"{gateway.origin}{API}", post_to(gateway.port)
    pair = program.sign_in()
    url = f"{gateway.origin}{API}/servers/default/calculator/calls"
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    with staged(gateway.port, cast.server, "") as stage:
        answers, thread, asked = a_call_under_way(stage, url, headers)
        end(program, pair)
        assert asked.left_by_gateway()
        thread.join(30)
    assert [answer.json()["code"] for answer in answers] == ["unknown_server"]
    assert requests.get(f"{gateway.origin}{API}/me", headers=headers, timeout=10).status_code == 401


@pytest.mark.requirement("F-205")
def test_a_call_that_waits_for_its_answer_gets_it_after_a_refresh(
    gateway: LiveGateway, program: Ide, cast: Cast
) -> None:
    program.resource, program.post = f"{gateway.origin}{API}", post_to(gateway.port)
    pair = program.sign_in()
    headers = {"Authorization": f"Bearer {pair['access_token']}"}
    url = f"{gateway.origin}{API}/servers/default/calculator/calls"
    with staged(gateway.port, cast.server, "") as stage:
        answers, thread, asked = a_call_under_way(stage, url, headers)
        program.refresh(pair["refresh_token"])
        assert requests.get(f"{gateway.origin}{API}/me", headers=headers, timeout=10).status_code == 401
        asked.answer_result()
        thread.join(30)
    assert [answer.status_code for answer in answers] == [200], answers[0].text


ELSEWHERE = {
    "approval": (
        "from authflows.inbound.oauth import approvals\n"
        "from authflows.models import Approval\n"
        "approvals.revoke(Approval.objects.get(), actor='elsewhere')"
    ),
    "oauth_client": (
        "from authflows.models import OAuthClient\n"
        "client = OAuthClient.objects.get()\n"
        "client.enabled = False\n"
        "client.save()"
    ),
    "user": (
        "from django.contrib.auth import get_user_model\n"
        "person = get_user_model().objects.get(username='member')\n"
        "person.is_active = False\n"
        "person.save()"
    ),
}


@pytest.mark.requirement("T9", "T10")
@pytest.mark.parametrize("kind", ELSEWHERE)
def test_what_ends_in_another_process_ends_here(program: Ide, kind: str) -> None:
    token = program.sign_in()["access_token"]
    feed, told = Feed(), threading.Event()
    feed.start()
    assert status_of(token) == 200
    principal = authenticate(f"Bearer {token}".encode(), now=0, path=API)
    assert isinstance(principal, Principal)
    assert principal.sign_in is not None
    assert still_signed_in(principal.sign_in)
    end = changes.listen(lambda told_kind, _: told.set() if told_kind == kind else None)
    try:
        run_elsewhere(ELSEWHERE[kind])
        assert told.wait(30)
    finally:
        feed.stop()
        end()
    assert status_of(token) == 401
    assert isinstance(still_signed_in(principal.sign_in), Unauthenticated)


@pytest.mark.requirement("T9")
def test_revoking_one_approval_leaves_the_other_resource_alone(program: Ide, ide: Ide) -> None:
    ide.client = program.client
    api, mcp = program.sign_in(), ide.sign_in()
    path = ide.resource.removeprefix(settings.PUBLIC_URL)
    header = f"Bearer {mcp['access_token']}".encode()

    approvals.revoke(Approval.objects.get(server__isnull=True), actor="member")
    assert status_of(api["access_token"]) == 401
    assert program.refresh(api["refresh_token"]).error == "invalid_grant"
    assert authenticate(header, now=0, path=path)

    api = program.sign_in()
    approvals.revoke(Approval.objects.get(server__isnull=False), actor="member")
    assert not authenticate(header, now=0, path=path)
    assert status_of(api["access_token"]) == 200


@pytest.mark.requirement("F-205", "T57")
def test_approval_and_client_say_when_the_api_was_last_used(program: Ide) -> None:
    token = program.sign_in()["access_token"]
    OAuthClient.objects.update(last_used_at=None)
    assert status_of(token) == 200

    write_records()

    approval = Approval.objects.get()
    assert approval.last_used_at is not None
    assert OAuthClient.objects.get().last_used_at == approval.last_used_at


@pytest.mark.requirement("T1", "AZ-21")
def test_a_token_hangs_on_the_approval_of_its_own_resource(program: Ide, ide: Ide) -> None:
    ide.client = program.client
    api, mcp = program.sign_in(), ide.sign_in()
    path = ide.resource.removeprefix(settings.PUBLIC_URL)
    header = f"Bearer {mcp['access_token']}".encode()

    Approval.objects.filter(server__isnull=True).delete()
    assert status_of(api["access_token"]) == 401
    assert program.refresh(api["refresh_token"]).error == "invalid_grant"
    assert authenticate(header, now=0, path=path)

    program.approve()
    Approval.objects.filter(server__isnull=False).delete()
    assert not authenticate(header, now=0, path=path)
    assert ide.refresh(mcp["refresh_token"]).error == "invalid_grant"
