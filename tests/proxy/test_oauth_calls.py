"""Calls with tokens of OAuth clients: which URL they open, and what happens to calls under way when they end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest
from django.utils import timezone
from oauth2_provider.models import AccessToken

from authflows.inbound.oauth import approvals
from authflows.models import Approval, OAuthClient, RefreshReply
from servers.models import AccessRule, Call, Role, Server
from tests.conftest import Cast
from tests.proxy.test_disconnects import the_record
from tests.proxy.test_revocation import works
from tests.proxy.wire import Stage, staged, wait_until
from tests.support.calls import LEGACY, Caller, message, point_at
from tests.support.gateway import LiveGateway
from tests.support.ide import Ide, make_client, post_to
from tests.support.upstream import Upstream

OTHER_PATHS = {
    "the alias": "/default/mcp/calculator/mcp",
    "the endpoint without discovery": "/default/mcp/calculator/key",
    "another server": "/default/mcp/other/server",
    "no server": "/default/mcp/missing/server",
}


@pytest.fixture
def ide(gateway: LiveGateway, cast: Cast) -> Ide:
    return Ide(make_client(), cast.member, cast.server, gateway.mcp_url(cast.server), post_to(gateway.port))


@pytest.fixture
def pair(ide: Ide) -> dict[str, str]:
    return ide.sign_in()


@pytest.fixture
def stage(gateway: LiveGateway, cast: Cast, pair: dict[str, str]) -> Iterator[Stage]:
    """The member's access token, the cast's server, and an upstream that answers nothing by itself."""
    with staged(gateway.port, cast.server, pair["access_token"]) as stage:
        yield stage


@pytest.mark.requirement("RS-11", "F-205")
def test_a_token_opens_the_url_that_it_was_issued_for(stage: Stage, cast: Cast) -> None:
    works(stage)
    credential = f"approval:{Approval.objects.get().pk}"
    the_record(status=200, outcome="ok", principal="member", user_id=cast.member.pk, credential=credential)


@pytest.mark.requirement("T2")
def test_a_token_never_goes_upstream(stage: Stage) -> None:
    _, asked = stage.call()
    token = stage.key.encode()
    assert token not in asked.head + asked.body
    assert token[4:] not in asked.head + asked.body


@pytest.mark.requirement("T1", "RS-5", "RS-6", "RS-11")
@pytest.mark.parametrize("path", OTHER_PATHS.values(), ids=OTHER_PATHS)
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_at_every_other_url_it_is_no_credential(
    stage: Stage, cast: Cast, gateway: LiveGateway, path: str, method: str
) -> None:
    other = Server.objects.create(tenant=cast.tenant, slug="other", name="Other", url=stage.upstream.url)
    AccessRule.objects.create(server=other, team=cast.readers, role=Role.USER)
    for _ in range(2):
        works(stage)  # the second time the answer for the right URL is remembered
    caller = stage.caller().ask(path, key=stage.key, method=method)
    assert caller.read_head() == 401
    challenge = caller.headers["www-authenticate"]
    assert challenge.startswith("Bearer ")
    assert 'error="invalid_token"' in challenge
    if not path.endswith("/key"):
        document = f'resource_metadata="{gateway.origin}/.well-known/oauth-protected-resource{path}"'
        assert document in challenge
        assert 'scope="mcp"' in challenge
    outcomes = wait_until(lambda: list(Call.objects.filter(status=401).values_list("outcome", flat=True)), "a record")
    assert outcomes == ["credential_for_another_resource"]
    assert stage.upstream.nobody_came()
    works(stage)


@pytest.mark.requirement("RS-5", "AZ-16")
def test_an_expired_token_is_challenged_so_that_the_client_refreshes(stage: Stage) -> None:
    works(stage)
    token = AccessToken.objects.get()
    token.expires = timezone.now() - timedelta(seconds=1)
    token.save()
    caller = stage.caller().call(stage.path, key=stage.key)
    assert caller.read_head() == 401
    assert 'error="invalid_token"' in caller.headers["www-authenticate"]


@pytest.mark.requirement("RS-9")
def test_a_token_without_the_scope_is_told_which_one_it_needs(stage: Stage, gateway: LiveGateway) -> None:
    AccessToken.objects.update(scope="offline_access")
    caller = stage.caller().call(stage.path, key=stage.key)
    answer = caller.answer()
    assert caller.status == 403
    assert answer["error"]["code"] == 1403
    challenge = caller.headers["www-authenticate"]
    assert 'error="insufficient_scope"' in challenge
    assert 'scope="mcp"' in challenge
    assert f'resource_metadata="{gateway.origin}/.well-known/' in challenge


@pytest.mark.requirement("RS-8", "T4")
def test_a_token_in_the_url_is_refused(stage: Stage) -> None:
    caller = stage.caller().call(f"{stage.path}?access_token={stage.key}", key=None)
    assert caller.read_head() == 401
    assert 'error="invalid_request"' in caller.headers["www-authenticate"]


@pytest.mark.requirement("F-205", "T8")
@pytest.mark.parametrize("kind", ["POST", "GET"])
def test_a_stream_goes_on_when_its_client_refreshes(stage: Stage, ide: Ide, pair: dict[str, str], kind: str) -> None:
    caller, asked = stage.stream(http_method=kind)
    renewed = ide.refresh(pair["refresh_token"]).content
    assert stage.caller().call(stage.path, key=stage.key).read_head() == 401
    stage.key = renewed["access_token"]
    works(stage)
    # A stream that ends by what follows tells that what came before has been looked at.
    other, _ = stage.stream(http_method="GET")
    AccessToken.objects.get().delete()
    assert stage.caller().call(stage.path, key=stage.key).read_head() == 401
    asked.piece(b"data: 1\n\n")
    assert caller.event() == b"data: 1\n\n"
    ide.revoke(renewed["refresh_token"])
    assert other.chunk() == b""
    assert caller.chunk() == b""
    assert asked.left_by_gateway()


@pytest.mark.requirement("F-205")
def test_a_call_that_waits_for_its_answer_gets_it_after_a_refresh(stage: Stage, ide: Ide, pair: dict[str, str]) -> None:
    caller, asked = stage.call()
    stage.key = ide.refresh(pair["refresh_token"]).content["access_token"]
    works(stage)
    body = asked.answer_result()
    assert caller.read_head() == 200
    assert caller.read_body() == body


@pytest.mark.requirement("F-205", "AZ-16")
def test_a_stream_lasts_longer_than_its_token(stage: Stage) -> None:
    soon = timezone.now() + timedelta(seconds=1)
    token = AccessToken.objects.get()
    token.expires = soon
    token.save()
    caller, asked = stage.stream()

    # Of PUT the gateway says 405 by itself, once it knows the caller.
    def ended() -> bool:
        return stage.caller().ask(stage.path, key=stage.key, method="PUT").read_head() == 401

    wait_until(ended, "the end of the token")
    # The first look at the stream after that end: something changed.
    approval = Approval.objects.get()
    approval.save()
    asked.piece(b"data: {}\n\n")
    assert caller.event() == b"data: {}\n\n"
    approvals.revoke(approval, actor="member")
    assert caller.chunk() == b""


@pytest.mark.requirement("SE-3", "T40")
def test_a_session_outlives_the_token_that_opened_it(ide: Ide, cast: Cast, pair: dict[str, str]) -> None:
    with Upstream() as upstream:
        point_at(cast.server, upstream)
        session = Caller(ide.resource, pair["access_token"]).open_session()
        headers = [("Mcp-Session-Id", session), ("MCP-Protocol-Version", LEGACY)]
        renewed = ide.refresh(pair["refresh_token"]).content["access_token"]
        other = Ide(make_client(), cast.member, cast.server, ide.resource, ide.post).sign_in()["access_token"]
        assert Caller(ide.resource, renewed).post(message("tools/list"), headers).status == 200
        assert Caller(ide.resource, other).post(message("tools/list"), headers).status == 404


def revoke_approval(ide: Ide, pair: dict[str, str]) -> None:
    approvals.revoke(Approval.objects.get(), actor="member")


def give_back(ide: Ide, pair: dict[str, str]) -> None:
    assert ide.revoke(pair["access_token"]).status == 200


def disable_client(ide: Ide, pair: dict[str, str]) -> None:
    ide.client.refresh_from_db()
    ide.client.enabled = False
    ide.client.save()


def delete_client(ide: Ide, pair: dict[str, str]) -> None:
    OAuthClient.objects.get().delete()


def disable_person(ide: Ide, pair: dict[str, str]) -> None:
    ide.user.is_active = False
    ide.user.save()


def delete_server(ide: Ide, pair: dict[str, str]) -> None:
    Server.objects.get().delete()


def redeem_stolen_token(ide: Ide, pair: dict[str, str]) -> None:
    ide.refresh(pair["refresh_token"])
    RefreshReply.objects.all().delete()
    assert ide.refresh(pair["refresh_token"]).error == "invalid_grant"


WAYS = [
    revoke_approval,
    give_back,
    disable_client,
    delete_client,
    disable_person,
    delete_server,
    redeem_stolen_token,
]


@pytest.mark.requirement("T9", "T10", "AZ-17", "RS-7")
@pytest.mark.parametrize("end", WAYS)
def test_the_very_next_request_is_refused_and_open_streams_end(
    stage: Stage, ide: Ide, pair: dict[str, str], end: Callable[[Ide, dict[str, str]], None]
) -> None:
    streams = [stage.stream(http_method="GET"), stage.stream()]
    end(ide, pair)
    refused = stage.caller().call(stage.path, key=stage.key)
    assert refused.read_head() == 401
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]
    for caller, asked in streams:
        assert caller.chunk() == b""
        assert asked.left_by_gateway()


@pytest.mark.requirement("F-205", "T57")
def test_approval_and_client_say_when_they_were_last_used(stage: Stage) -> None:
    OAuthClient.objects.update(last_used_at=None)
    before = timezone.now()
    works(stage)
    approval = wait_until(lambda: Approval.objects.filter(last_used_at__gte=before).first(), "the stamp")
    client = OAuthClient.objects.get()
    assert client.last_used_at == approval.last_used_at
