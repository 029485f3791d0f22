"""Credentials that nobody connects: own keys, the gateway's own tokens, exchanged ones, and what callers bring."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from authflows.models import OwnKey, TeamMapping
from authflows.outbound import held_tokens, own_keys
from servers import changes
from servers.models import AuthConfig, Call, Server
from servers.oauth_settings import OAuthSettings
from servers.own_header import CleanValue, OwnHeaderSettings
from tests.conftest import Cast, allow_private
from tests.proxy.test_connected_calls import asked_to_connect, on, told
from tests.proxy.wire import wait_until
from tests.support.calls import Caller, caller_for, member_of, message, point_at, tool_call
from tests.support.faulty_provider import Asked, FaultyProvider, Reply, as_json
from tests.support.gateway import LiveGateway
from tests.support.ide import Ide, make_client, post_to
from tests.support.issuer import Issuer, trust
from tests.support.records import write_records
from tests.support.upstream import Answer, Upstream, mcp_server

LIST = message("tools/list")
REFUSED = Answer(401, (("WWW-Authenticate", "Bearer"),))


@pytest.fixture
def upstream(cast: Cast) -> Iterator[Upstream]:
    with Upstream() as server:
        point_at(cast.server, server)
        yield server


@pytest.fixture
def provider(cast: Cast) -> Iterator[FaultyProvider]:
    with FaultyProvider() as running:
        allow_private(running.issuer)
        numbers = itertools.count(1)

        def token(asked: Asked) -> Reply:
            return as_json({"access_token": f"machine-{next(numbers)}", "token_type": "Bearer", "expires_in": 300})

        running.replies["/token"] = token
        yield running


@pytest.fixture
def issuer(cast: Cast) -> Iterator[Issuer]:
    with Issuer() as running:
        TeamMapping.objects.create(provider=trust(running, cast.tenant), value="staff", team=cast.readers)
        yield running


def configure(cast: Cast, method: AuthConfig.Method, **settings: Any) -> None:
    config = AuthConfig.objects.get(server=cast.server)
    config.method, config.settings = method, settings
    config.save()
    read_changes()


def read_changes() -> None:
    """Let the gateway's own thread read now what was written; it forgets once more what hangs on that."""
    changes.feed.poll()


def authorizations(upstream: Upstream) -> list[str | None]:
    return [request.header("authorization") for request in upstream.requests]


def alice(issuer: Issuer, **claims: Any) -> str:
    """A JWT of somebody who may use the server."""
    return issuer.mint(now=time.time(), preferred_username="alice", groups=["staff"], **claims)


def sign_in(gateway: LiveGateway, cast: Cast) -> str:
    """An access token of an OAuth client of ours."""
    url = gateway.mcp_url(cast.server)
    return str(Ide(make_client(), cast.member, cast.server, url, post_to(gateway.port)).sign_in()["access_token"])


# Own keys


@pytest.fixture
def key_for(cast: Cast, upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> Callable[..., OwnKey]:
    """Enter a key for the cast's server, which is set up to ask for one."""
    settings = OwnHeaderSettings((("Authorization", "Bearer {{API_KEY}}"),), {}).stored()
    configure(cast, AuthConfig.Method.OWN_HEADER, **settings)

    def enter(person: Any, value: str) -> OwnKey:
        server = Server.objects.select_related("tenant", "auth_config").get(pk=cast.server.pk)
        kept = own_keys.enter(
            user=person, server=server, values={"API_KEY": CleanValue(value)}, actor=person, keep_untested=True
        )
        assert isinstance(kept, own_keys.Kept), kept
        upstream.requests.clear()
        return kept.key

    return enter


@pytest.mark.requirement("F-308", "T2")
def test_each_person_calls_with_a_key_of_their_own(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, key_for: Callable[..., OwnKey]
) -> None:
    key_for(cast.member, "canary-one")
    key_for(cast.manager, "canary-two")
    for person in (cast.member, cast.manager):
        assert caller_for(gateway, cast.server, person).post(LIST).status == 200
    assert authorizations(upstream) == ["Bearer canary-one", "Bearer canary-two"]
    wait_until(lambda: OwnKey.objects.filter(last_used_at__isnull=False).count() == 2, "the stamps")


@pytest.mark.requirement("F-308", "F-314")
def test_who_has_no_key_is_asked_for_one_and_can_call_as_soon_as_there_is_one(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, key_for: Callable[..., OwnKey]
) -> None:
    caller = member_of(gateway, cast)
    assert "to enter your key" in asked_to_connect(caller.post(tool_call()))
    assert upstream.requests == []
    key = key_for(cast.member, "canary-one")
    assert "error" not in caller.post(tool_call()).json()
    own_keys.remove(key, actor="member")
    asked_to_connect(caller.post(tool_call()))


@pytest.mark.requirement("F-308", "F-314")
@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_the_server_refuses_is_sent_once_and_asked_for_again(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, key_for: Callable[..., OwnKey], status: int
) -> None:
    key_for(cast.member, "canary-one")
    caller = member_of(gateway, cast)
    assert caller.post(LIST).status == 200
    upstream.script = lambda _: Answer(status)
    assert "refused your key" in asked_to_connect(caller.post(tool_call()))
    asked_to_connect(caller.post(tool_call()))
    assert len(upstream.requests) == 2
    assert OwnKey.objects.get().refused_at is not None


@pytest.mark.requirement("SE-4", "T40")
def test_the_session_of_one_key_is_unknown_to_the_next(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, key_for: Callable[..., OwnKey]
) -> None:
    key_for(cast.member, "canary-one")
    caller = member_of(gateway, cast)
    session = on(caller.open_session())
    assert caller.post(LIST, session).status == 200
    key_for(cast.member, "canary-two")
    assert caller.post(LIST, session).status == 404
    assert upstream.requests == []


@pytest.mark.requirement("T29")
def test_a_key_is_not_sent_to_another_origin(gateway: LiveGateway, cast: Cast, key_for: Callable[..., OwnKey]) -> None:
    key_for(cast.member, "canary-one")
    caller = member_of(gateway, cast)
    assert caller.post(LIST).status == 200
    with Upstream() as other:
        point_at(Server.objects.get(pk=cast.server.pk), other)
        asked_to_connect(caller.post(tool_call()))
        assert other.requests == []


@pytest.mark.requirement("F-309")
def test_a_key_that_has_expired_is_asked_for_again(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, key_for: Callable[..., OwnKey]
) -> None:
    key = key_for(cast.member, "canary-one")
    caller = member_of(gateway, cast)
    assert caller.post(LIST).status == 200
    key.expires_at = timezone.now() - timedelta(seconds=1)
    key.save()
    assert "has expired" in asked_to_connect(caller.post(tool_call()))


# Client credentials


def as_client(cast: Cast, provider: FaultyProvider, **changes: Any) -> None:
    client_id, _ = provider.add_client("")
    settings = OAuthSettings(
        issuer=provider.issuer,
        token_endpoint=f"{provider.issuer}/token",
        client_id=client_id,
        scopes=("read", "write"),
        token_parameters={"tier": "gold"},
    ).stored()
    configure(cast, AuthConfig.Method.CLIENT_CREDENTIALS, **{**settings, **changes})


@pytest.mark.requirement("CL-30", "F-310", "CL-11")
def test_all_callers_share_one_token_of_the_gateway_and_the_record_says_who_called(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, provider: FaultyProvider
) -> None:
    as_client(cast, provider)
    callers = [caller_for(gateway, cast.server, person) for person in (cast.member, cast.manager)] * 5
    with ThreadPoolExecutor(len(callers)) as pool:
        assert {answer.status for answer in pool.map(lambda caller: caller.post(LIST), callers)} == {200}
    [form] = provider.forms("/token")
    assert form["grant_type"] == "client_credentials"
    assert (form["scope"], form["resource"], form["tier"]) == ("read write", upstream.url, "gold")
    assert set(authorizations(upstream)) == {"Bearer machine-1"}
    write_records()
    assert set(Call.objects.values_list("principal", flat=True)) == {"member", "manager"}


@pytest.mark.requirement("CL-30")
def test_a_token_of_the_gateway_is_renewed_before_its_end_and_with_the_setup(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, provider: FaultyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_client(cast, provider)
    caller = member_of(gateway, cast)
    caller.post(LIST)
    as_client(cast, provider, scopes=["read"])
    caller.post(LIST)
    assert [form["scope"] for form in provider.forms("/token")] == ["read write", "read"]
    provider.replies["/token"] = lambda _: as_json({"access_token": "short", "token_type": "Bearer", "expires_in": 1})
    as_client(cast, provider)
    caller.post(LIST)
    before = len(provider.forms("/token"))
    wait_until(lambda: caller.post(LIST).status == 200 and len(provider.forms("/token")) > before, "another token")


@pytest.mark.requirement("CL-21", "CL-30")
def test_a_token_of_the_gateway_that_is_refused_is_renewed_once_and_then_it_is_the_managers_turn(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, provider: FaultyProvider
) -> None:
    as_client(cast, provider)
    caller = member_of(gateway, cast)
    upstream.script = lambda request: (
        REFUSED if "machine-1" in str(request.header("authorization")) else mcp_server(request)
    )
    assert "error" not in caller.post(tool_call()).json()
    assert authorizations(upstream) == ["Bearer machine-1", "Bearer machine-2"]
    upstream.script = lambda _: REFUSED
    text = told(caller.post(tool_call()))
    assert "manager" in text
    assert "/connect/" not in text
    assert authorizations(upstream)[2:] == ["Bearer machine-2", "Bearer machine-3"]


@pytest.mark.requirement("CL-30", "F-310")
@pytest.mark.parametrize(("error", "status"), [("invalid_client", 401), ("server_error", 500)])
def test_a_provider_without_a_token_is_asked_once_in_a_while(
    gateway: LiveGateway,
    cast: Cast,
    upstream: Upstream,
    provider: FaultyProvider,
    error: str,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(held_tokens, "_FAILURE_SECONDS", 300.0)
    as_client(cast, provider)
    works = provider.replies.pop("/token")
    provider.always("/token", as_json({"error": error}, status))
    caller = member_of(gateway, cast)
    for _ in range(3):
        assert "no token" in told(caller.post(tool_call()))
    assert caller.post(LIST).json()["error"]["code"] == 1502
    assert len(provider.forms("/token")) == 1
    assert upstream.requests == []
    provider.replies["/token"] = works
    monkeypatch.setattr(held_tokens, "_FAILURE_SECONDS", 0.0)
    as_client(cast, provider)
    assert "error" not in caller.post(tool_call()).json()


# Token exchange


def as_exchange(cast: Cast, provider: FaultyProvider, **changes: Any) -> None:
    configure(
        cast,
        AuthConfig.Method.TOKEN_EXCHANGE,
        **{
            "issuer": provider.issuer,
            "token_endpoint": f"{provider.issuer}/token",
            "client_id": "gateway",
            "audience": "api://calculator",
            "scopes": ["calc"],
            **changes,
        },
    )


@pytest.mark.requirement("F-311", "T2")
@pytest.mark.parametrize("variant", ["rfc8693", "entra_obo"])
def test_a_callers_jwt_is_exchanged_once_and_never_goes_upstream(
    gateway: LiveGateway, cast: Cast, issuer: Issuer, upstream: Upstream, provider: FaultyProvider, variant: str
) -> None:
    token = alice(issuer)
    caller = Caller(gateway.mcp_url(cast.server), token)
    assert caller.post(LIST).status == 200  # makes the person, which is a change too
    upstream.requests.clear()
    as_exchange(cast, provider, variant=variant)
    for _ in range(3):
        assert caller.post(tool_call()).status == 200
    [form] = provider.forms("/token")
    if variant == "rfc8693":
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"
        assert (form["subject_token"], form["audience"], form["scope"]) == (token, "api://calculator", "calc")
        assert form["resource"] == upstream.url
    else:
        assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
        assert (form["assertion"], form["requested_token_use"], form["scope"]) == (token, "on_behalf_of", "calc")
    assert set(authorizations(upstream)) == {"Bearer machine-1"}
    assert all(token.encode() not in request.raw for request in upstream.requests)
    bob = issuer.mint(now=time.time(), sub="2", preferred_username="bob", groups=["staff"])
    assert Caller(gateway.mcp_url(cast.server), bob).post(LIST).status == 200
    assert authorizations(upstream)[-1] == "Bearer machine-2"


@pytest.mark.requirement("F-311", "F-314", "T2")
def test_keys_and_sign_ins_of_the_gateway_are_not_exchanged(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, provider: FaultyProvider
) -> None:
    signed_in = sign_in(gateway, cast)
    as_exchange(cast, provider)
    for token in (member_of(gateway, cast).key, signed_in):
        caller = Caller(gateway.mcp_url(cast.server), token)
        text = told(caller.post(tool_call()))
        assert "identity provider" in text
        assert "/connect/" not in text
        assert caller.post(LIST).status == 200  # the opening
    assert provider.asked == []
    assert upstream.requests == []


# Passthrough

BROUGHT = "X-Upstream-Authorization"


def as_passthrough(cast: Cast, upstream: Upstream, **changes: Any) -> None:
    chosen = {"header": BROUGHT, "audience": "api://calculator", "confirmed_origin": upstream.origin}
    configure(cast, AuthConfig.Method.PASSTHROUGH, **{**chosen, **changes})


@pytest.mark.requirement("T3", "F-310", "T2")
def test_what_a_caller_sends_along_goes_upstream_and_what_opened_the_door_does_not(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    as_passthrough(cast, upstream)
    caller = member_of(gateway, cast)
    for value in ("Bearer their-own", "Basic dXNlcjpwYXNz", "Bearer another"):
        assert caller.post(tool_call(), [(BROUGHT, value)]).status == 200
    assert authorizations(upstream) == ["Bearer their-own", "Basic dXNlcjpwYXNz", "Bearer another"]
    for request in upstream.requests:
        assert caller.key.encode() not in request.raw
        assert BROUGHT.lower() not in request.names()
    text = told(caller.post(tool_call()))
    assert BROUGHT in text
    assert len(upstream.requests) == 3


@pytest.mark.requirement("T3", "T2")
def test_nothing_that_this_gateway_gave_out_is_passed_on(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, issuer: Issuer
) -> None:
    signed_in = sign_in(gateway, cast)
    jwt = alice(issuer)
    as_passthrough(cast, upstream)
    keys = [member_of(gateway, cast).key, member_of(gateway, cast).key]
    wrong = [
        (keys[0], f"Bearer {keys[0]}"),
        (keys[0], f"Bearer {keys[1]}"),
        (keys[0], f"Token {keys[1]}"),
        (keys[0], f"Bearer {signed_in}"),
        (jwt, f"Bearer {jwt}"),
        (keys[0], "Bearer one, Bearer two"),
        (keys[0], "no-scheme"),
    ]
    for opened_by, value in wrong:
        response = Caller(gateway.mcp_url(cast.server), opened_by).post(tool_call(), [(BROUGHT, value)])
        assert "does not hold a credential" in told(response)
        assert value.partition(" ")[2] not in response.body.decode() or value == "no-scheme"
    assert upstream.requests == []


@pytest.mark.requirement("T3")
def test_the_callers_jwt_goes_on_only_if_it_says_that_it_is_for_the_server(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, issuer: Issuer
) -> None:
    as_passthrough(cast, upstream, header="Authorization")
    both = alice(issuer, aud=["gatehouse", "api://calculator"])
    for token in (
        alice(issuer),
        alice(issuer, aud=["gatehouse", "api://calculator.evil"]),
        member_of(gateway, cast).key,
    ):
        caller = Caller(gateway.mcp_url(cast.server), token)
        assert "as their audience" in told(caller.post(tool_call(), [(BROUGHT, "Bearer x")]))
    assert upstream.requests == []
    assert Caller(gateway.mcp_url(cast.server), both).post(tool_call()).status == 200
    assert authorizations(upstream) == [f"Bearer {both}"]


@pytest.mark.requirement("T3", "T29")
def test_another_address_switches_it_off_until_it_is_confirmed(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    as_passthrough(cast, upstream)
    caller = member_of(gateway, cast)
    assert caller.post(tool_call(), [(BROUGHT, "Bearer a")]).status == 200
    with Upstream() as other:
        point_at(Server.objects.get(pk=cast.server.pk), other)
        assert "switched off" in told(caller.post(tool_call(), [(BROUGHT, "Bearer a")]))
        assert other.requests == []
        as_passthrough(cast, other)
        assert caller.post(tool_call(), [(BROUGHT, "Bearer a")]).status == 200
        assert authorizations(other) == ["Bearer a"]


@pytest.mark.requirement("T3")
def test_what_was_sent_along_is_sent_once_and_its_refusal_is_the_callers(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    as_passthrough(cast, upstream)
    upstream.script = lambda _: REFUSED
    text = told(member_of(gateway, cast).post(tool_call(), [(BROUGHT, "Bearer a")]))
    assert "that you sent along" in text
    assert len(upstream.requests) == 1


@pytest.mark.requirement("SE-3")
def test_a_session_outlives_what_was_sent_along(gateway: LiveGateway, cast: Cast, upstream: Upstream) -> None:
    as_passthrough(cast, upstream)
    caller = member_of(gateway, cast)
    first = caller.post(message("initialize", {"protocolVersion": "2025-11-25"}), [(BROUGHT, "Bearer a")])
    session = on(str(first.header("Mcp-Session-Id")))
    assert caller.post(LIST, [*session, (BROUGHT, "Bearer b")]).status == 200
    assert authorizations(upstream) == ["Bearer a", "Bearer b"]
