"""Calls with a JWT of the organisation's identity provider, from the socket to the upstream."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from authflows.inbound.identity.people_from_claims import person_for
from authflows.models import IdentityProvider, TeamMapping
from servers.models import Call, Server
from tests.conftest import Cast
from tests.proxy.test_disconnects import the_record
from tests.support.calls import Caller, message, point_at, tool_call
from tests.support.gateway import LiveGateway
from tests.support.issuer import Issuer, Signer, malformed, signer, trust
from tests.support.raw_http import Response
from tests.support.records import write_records
from tests.support.upstream import Upstream

ALICE = {"preferred_username": "alice", "groups": ["staff"]}


@pytest.fixture
def upstream(cast: Cast) -> Iterator[Upstream]:
    with Upstream() as server:
        point_at(cast.server, server)
        yield server


@pytest.fixture
def issuer(cast: Cast) -> Iterator[Issuer]:
    with Issuer() as running:
        # Who is in `staff` there is a reader here, and so a user of the server.
        TeamMapping.objects.create(provider=trust(running, cast.tenant), value="staff", team=cast.readers)
        yield running


def with_token(gateway: LiveGateway, cast: Cast, token: str, *, server: Server | None = None) -> Caller:
    return Caller(gateway.mcp_url(server or cast.server), token)


def shown(response: Response) -> tuple[int, list[tuple[str, str]], bytes]:
    return response.status, response.headers, response.body


@pytest.mark.requirement("F-208", "T2", "T57")
def test_a_jwt_opens_the_door_and_stays_there(
    gateway: LiveGateway, cast: Cast, issuer: Issuer, upstream: Upstream
) -> None:
    token = issuer.mint(now=time.time(), **ALICE)
    assert with_token(gateway, cast, token).post(tool_call()).status == 200
    [asked] = upstream.requests
    assert token.encode() not in asked.raw
    assert "authorization" not in asked.names()
    alice = person_for(IdentityProvider.objects.get(), {"sub": "1f3a"})
    record = the_record(principal="alice", user_id=alice.pk, outcome="ok", status=200)
    assert record.credential.startswith(f"identity_provider:{IdentityProvider.objects.get().pk}:")


@pytest.mark.requirement("T5", "RS-5", "RS-13", "F-208")
def test_every_jwt_that_does_not_do_gets_the_answer_of_an_unknown_key(
    gateway: LiveGateway, cast: Cast, issuer: Issuer, upstream: Upstream
) -> None:
    now = time.time()
    url = gateway.mcp_url(cast.server)
    stranger = signer("stranger")
    bad = {
        **malformed(issuer, now=now),
        "unknown issuer": issuer.mint(now=now, iss="https://else.example"),
        "unknown key": issuer.mint(now=now, by=stranger),
        "another key": issuer.mint(now=now, by=Signer("k1", "RS256", stranger.private)),
        "expired": issuer.mint(now=now, exp=now - 1000),
        "not yet": issuer.mint(now=now, nbf=now + 1000),
        "for ever": issuer.mint(now=now, exp=now + 10**8),
        "no end": issuer.mint(now=now, exp=None),
        "nobody": issuer.mint(now=now, sub=None),
        "other audience": issuer.mint(now=now, aud="else"),
        "other server": issuer.mint(now=now, aud=f"{gateway.origin}/default/mcp/other/server"),
    }
    expected = shown(Caller(url, "ghk_abcdefgh_" + "A" * 43).post(message("tools/list")))
    assert expected[0] == 401
    different = {
        name: answer
        for name, token in bad.items()
        if "\n" not in token and (answer := shown(Caller(url, token).post(message("tools/list")))) != expected
    }
    assert different == {}
    assert upstream.requests == []
    assert Caller(url, issuer.mint(now=now, **ALICE)).post(message("tools/list")).status == 200
    write_records()
    outcomes = set(Call.objects.filter(status=401).values_list("outcome", flat=True))
    assert {"token_issuer_unknown", "token_signature", "token_audience", "token_claims"} <= outcomes


@pytest.mark.requirement("F-208", "RS-11", "RS-14")
def test_a_jwt_for_one_mcp_url_opens_no_other(
    gateway: LiveGateway, cast: Cast, issuer: Issuer, upstream: Upstream
) -> None:
    token = issuer.mint(now=time.time(), aud=gateway.mcp_url(cast.server), **ALICE)
    assert with_token(gateway, cast, token).post(message("tools/list")).status == 200
    assert Caller(gateway.mcp_url(cast.server, "mcp"), token).post(message("tools/list")).status == 401


@pytest.mark.requirement("F-208", "SE-3")
def test_a_session_goes_on_with_the_next_token(
    gateway: LiveGateway, cast: Cast, issuer: Issuer, upstream: Upstream
) -> None:
    now = time.time()
    session = with_token(gateway, cast, issuer.mint(now=now, **ALICE)).open_session()
    later = with_token(gateway, cast, issuer.mint(now=now, jti="renewed", **ALICE))
    assert later.post(message("tools/list"), [("Mcp-Session-Id", session)]).status == 200
    somebody_else = with_token(gateway, cast, issuer.mint(now=now, sub="2b", groups=["staff"]))
    assert somebody_else.post(message("tools/list"), [("Mcp-Session-Id", session)]).status == 404


@pytest.mark.requirement("F-208", "T9", "RS-7")
def test_a_provider_that_is_switched_off_opens_the_door_no_more(
    gateway: LiveGateway, cast: Cast, issuer: Issuer, upstream: Upstream
) -> None:
    caller = with_token(gateway, cast, issuer.mint(now=time.time(), **ALICE))
    assert caller.post(message("tools/list")).status == 200
    provider = IdentityProvider.objects.get()
    provider.enabled = False
    provider.save()
    assert caller.post(message("tools/list")).status == 401


@pytest.mark.requirement("F-208", "RS-12", "RS-13")
def test_a_person_without_a_right_is_refused_as_with_any_credential(
    gateway: LiveGateway, cast: Cast, issuer: Issuer, upstream: Upstream
) -> None:
    answer = with_token(gateway, cast, issuer.mint(now=time.time())).post(message("tools/list"))
    assert answer.status == 403
    assert answer.header("www-authenticate") is None
    assert upstream.requests == []
