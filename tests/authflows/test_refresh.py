"""Refreshing: pairs replace each other, windows that refresh at once share one, a thief ends it all."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone
from oauth2_provider.models import AccessToken, Grant, RefreshToken

from authflows.inbound.bearer import Refusal, Unauthenticated, authenticate
from authflows.inbound.oauth import approvals
from authflows.models import Approval, OAuthClient, RefreshReply
from servers.access import Principal
from servers.models import AuditEvent
from tests.conftest import Cast
from tests.support.gateway import LiveGateway
from tests.support.ide import Ide, make_client, post_to

pytestmark = pytest.mark.django_db
REFUSED = Unauthenticated(Refusal.UNKNOWN)
Pair = dict[str, Any]


@pytest.fixture
def ide(cast: Cast) -> Ide:
    return Ide(make_client(), cast.member, cast.server, cast.server.mcp_url)


def opens(ide: Ide, pair: Pair) -> Principal | Unauthenticated:
    path = ide.resource.removeprefix(settings.PUBLIC_URL)
    return authenticate(f"Bearer {pair['access_token']}".encode(), now=timezone.now().timestamp(), path=path)


def a_minute_later() -> None:
    RefreshReply.objects.update(expires_at=timezone.now() - timedelta(seconds=1))


def reuses() -> int:
    return AuditEvent.objects.filter(action="oauth_token:reuse").count()


@pytest.mark.requirement("AZ-15", "F-205")
@pytest.mark.django_db(transaction=True)
def test_a_refresh_replaces_both_tokens_and_keeps_who_it_is(ide: Ide) -> None:
    first = ide.sign_in()
    before = opens(ide, first)
    assert isinstance(before, Principal)
    second = ide.refresh(first["refresh_token"]).content
    assert second["scope"] == first["scope"]
    assert {second["access_token"], second["refresh_token"]}.isdisjoint(first.values())
    after = opens(ide, second)
    assert isinstance(after, Principal)
    assert (after.credential, after.sign_in) == (before.credential, before.sign_in)
    assert after.credential == f"approval:{Approval.objects.get().pk}"
    assert opens(ide, first) == REFUSED


@pytest.mark.requirement("AZ-17", "T8", "F-205")
def test_a_repeated_refresh_gets_the_very_same_pair(ide: Ide) -> None:
    first = ide.sign_in()
    second = ide.refresh(first["refresh_token"]).content
    for _ in range(3):
        again = ide.refresh(first["refresh_token"]).content
        assert 0 < again.pop("expires_in") <= settings.ACCESS_TOKEN_SECONDS
        assert again == {name: value for name, value in second.items() if name != "expires_in"}
    assert opens(ide, second)
    assert reuses() == 0


@pytest.mark.requirement("AZ-17", "AZ-15")
@pytest.mark.django_db(transaction=True)
def test_a_window_that_is_one_refresh_behind_catches_up(ide: Ide) -> None:
    first = ide.sign_in()
    second = ide.refresh(first["refresh_token"]).content
    third = ide.refresh(second["refresh_token"]).content
    behind = ide.refresh(first["refresh_token"]).content
    assert behind["access_token"] == second["access_token"]
    assert opens(ide, behind) == REFUSED
    assert ide.refresh(behind["refresh_token"]).content["access_token"] == third["access_token"]
    assert opens(ide, third)


@pytest.mark.requirement("AZ-17", "T8", "F-205")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("windows", [2, 6])
def test_windows_that_refresh_at_the_same_moment_all_stay_signed_in(
    gateway: LiveGateway, cast: Cast, windows: int
) -> None:
    resource = gateway.mcp_url(cast.server)
    ide = Ide(make_client(), cast.member, cast.server, resource, post_to(gateway.port))
    pair = ide.sign_in()
    for _ in range(3):
        together, token = threading.Barrier(windows), pair["refresh_token"]

        def refresh(token: str = token, together: threading.Barrier = together) -> Any:
            together.wait(30)
            return ide.refresh(token)

        with ThreadPoolExecutor(windows) as threads:
            replies = [future.result() for future in [threads.submit(refresh) for _ in range(windows)]]
        assert [reply.status for reply in replies] == [200] * windows
        assert len({(reply.content["access_token"], reply.content["refresh_token"]) for reply in replies}) == 1
        pair = replies[0].content
    assert opens(ide, pair)
    assert AccessToken.objects.count() == 1
    assert RefreshToken.objects.filter(revoked__isnull=True).count() == 1
    assert reuses() == 0


@pytest.mark.requirement("T17")
@pytest.mark.django_db(transaction=True)
def test_of_two_redemptions_at_the_same_moment_none_is_left_with_tokens(gateway: LiveGateway, cast: Cast) -> None:
    ide = Ide(make_client(), cast.member, cast.server, gateway.mcp_url(cast.server), post_to(gateway.port))
    code, together = ide.code(), threading.Barrier(2)

    def redeem() -> Any:
        together.wait(30)
        return ide.redeem(code)

    with ThreadPoolExecutor(2) as threads:
        replies = [future.result() for future in [threads.submit(redeem) for _ in range(2)]]
    replies.sort(key=lambda reply: reply.status)
    assert [reply.status for reply in replies] == [200, 400]
    assert replies[1].error == "invalid_grant"
    assert opens(ide, replies[0].content) == REFUSED


@pytest.mark.requirement("AZ-15", "T8", "F-205", "T9")
@pytest.mark.django_db(transaction=True)
def test_a_replaced_token_that_comes_back_after_a_minute_ends_the_sign_in(ide: Ide) -> None:
    first = ide.sign_in()
    second = ide.refresh(first["refresh_token"]).content
    third = ide.refresh(second["refresh_token"]).content
    assert opens(ide, third)
    a_minute_later()
    assert ide.refresh(first["refresh_token"]).error == "invalid_grant"
    assert opens(ide, third) == REFUSED
    for pair in (first, second, third):
        assert ide.refresh(pair["refresh_token"]).error == "invalid_grant"
    assert reuses() == 1, "told once"


@pytest.mark.requirement("T8")
def test_another_sign_in_of_the_same_person_and_client_goes_on(ide: Ide) -> None:
    other = ide.sign_in()
    first = ide.sign_in()
    ide.refresh(first["refresh_token"])
    a_minute_later()
    assert ide.refresh(first["refresh_token"]).error == "invalid_grant"
    assert opens(ide, other)
    assert ide.refresh(other["refresh_token"]).status == 200


@pytest.mark.requirement("T8")
def test_another_client_cannot_use_or_end_a_sign_in(ide: Ide) -> None:
    stranger = make_client().client_id
    first = ide.sign_in()
    assert ide.refresh(first["refresh_token"], client_id=stranger).error == "invalid_grant"
    second = ide.refresh(first["refresh_token"]).content
    assert ide.refresh(first["refresh_token"], client_id=stranger).error == "invalid_grant"
    a_minute_later()
    assert ide.refresh(first["refresh_token"], client_id=stranger).error == "invalid_grant"
    assert ide.revoke(second["refresh_token"], client_id=stranger).status == 200
    assert opens(ide, second)
    assert reuses() == 0


@pytest.mark.requirement("T55", "AZ-17")
def test_a_kept_answer_opens_only_with_the_token_that_it_answered(ide: Ide) -> None:
    one, two = ide.sign_in(), ide.sign_in()
    kept = ide.refresh(one["refresh_token"]).content
    ide.refresh(two["refresh_token"])
    first, second = RefreshReply.objects.order_by("pk")
    first.sealed_reply, second.sealed_reply = second.sealed_reply, first.sealed_reply
    first.save()
    second.save()
    assert ide.refresh(one["refresh_token"]).error == "invalid_grant"
    assert kept["access_token"] not in str(list(RefreshReply.objects.values()))


def test_kept_answers_are_gone_with_a_later_refresh(ide: Ide) -> None:
    pair = ide.refresh(ide.sign_in()["refresh_token"]).content
    a_minute_later()
    ide.refresh(pair["refresh_token"])
    assert RefreshReply.objects.count() == 1
    assert RefreshReply.objects.get().expires_at > timezone.now()


@pytest.mark.requirement("AZ-15")
@pytest.mark.parametrize(
    ("granted", "asked"),
    [
        ("mcp", None),
        ("mcp", "mcp"),
        ("mcp", "mcp offline_access"),
        ("mcp", "offline_access"),
        ("mcp offline_access", "mcp"),
        ("mcp offline_access", "offline_access mcp"),
    ],
)
def test_a_client_may_repeat_whatever_scope_it_had_asked_for(ide: Ide, granted: str, asked: str | None) -> None:
    pair = ide.sign_in(scope=granted)
    for _ in range(2):
        reply = ide.refresh(pair["refresh_token"], scope=asked)
        assert (reply.status, reply.content["scope"]) == (200, granted)
        pair = reply.content


@pytest.mark.requirement("AZ-15")
def test_a_scope_that_nobody_granted_is_refused(ide: Ide) -> None:
    pair = ide.sign_in()
    assert ide.refresh(pair["refresh_token"], scope="mcp admin").error == "invalid_scope"
    assert ide.refresh(pair["refresh_token"]).status == 200


@pytest.mark.requirement("F-205")
@pytest.mark.parametrize("token", ["", "nothing", "ghr_" + "A" * 43, "gho_" + "A" * 43, "ü" * 50, "x" * 5000])
def test_what_is_no_refresh_token_is_refused(ide: Ide, token: str) -> None:
    reply = ide.refresh(token)
    assert (reply.status, reply.error) == (400, "invalid_grant" if token else "invalid_request")
    assert reply.content["error_description"]


@pytest.mark.requirement("T5")
def test_an_access_token_does_not_refresh(ide: Ide) -> None:
    pair = ide.sign_in()
    assert ide.refresh(pair["access_token"]).error == "invalid_grant"
    assert ide.redeem(pair["refresh_token"]).error == "invalid_grant"
    assert opens(ide, pair)


@pytest.mark.requirement("F-205", "AZ-16")
def test_a_sign_in_that_is_not_used_for_a_month_ends(ide: Ide) -> None:
    pair = ide.sign_in()
    lifetime = timedelta(seconds=settings.REFRESH_TOKEN_SECONDS)
    AccessToken.objects.update(expires=timezone.now() - lifetime + timedelta(minutes=1))
    pair = ide.refresh(pair["refresh_token"]).content
    AccessToken.objects.update(expires=timezone.now() - lifetime)
    assert ide.refresh(pair["refresh_token"]).error == "invalid_grant"


@pytest.mark.requirement("T10", "T9")
@pytest.mark.parametrize("again", [False, True])
def test_a_refresh_needs_person_client_and_approval_as_they_are_now(ide: Ide, again: bool) -> None:
    pair = ide.sign_in()
    if again:
        ide.refresh(pair["refresh_token"])
    people = type(ide.user).objects.filter(pk=ide.user.pk)
    people.update(is_active=False)
    assert ide.refresh(pair["refresh_token"]).error == "invalid_grant"
    people.update(is_active=True)
    OAuthClient.objects.update(enabled=False)
    assert ide.refresh(pair["refresh_token"]).error == "invalid_client"
    OAuthClient.objects.update(enabled=True)
    if not again:
        assert ide.refresh(pair["refresh_token"]).status == 200
    approvals.revoke(Approval.objects.get(), actor="member")
    assert ide.refresh(pair["refresh_token"]).error == "invalid_grant"


@pytest.mark.requirement("T9", "AZ-17")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("given", ["access_token", "refresh_token", "replaced"])
def test_giving_back_any_token_ends_the_sign_in_at_once(ide: Ide, given: str) -> None:
    first = ide.sign_in()
    pair = ide.refresh(first["refresh_token"]).content
    assert opens(ide, pair)
    token = first["refresh_token"] if given == "replaced" else pair[given]
    for hint in (None, "access_token", "nonsense"):
        reply = ide.revoke(token, token_type_hint=hint)
        assert (reply.status, reply.content) == (200, None)
    assert opens(ide, pair) == REFUSED
    for refresh_token in (first["refresh_token"], pair["refresh_token"]):
        assert ide.refresh(refresh_token).error == "invalid_grant"
    assert AuditEvent.objects.filter(action="oauth_token:revoke").count() == 1
    assert reuses() == 0, "the client that gave it back asks once more: no theft"


@pytest.mark.requirement("AZ-17")
def test_giving_back_what_is_no_token_tells_nothing(ide: Ide) -> None:
    pair = ide.sign_in()
    for token in ("nothing", "gho_" + "A" * 43, "ghr_" + "A" * 43, "ü"):
        reply = ide.revoke(token)
        assert (reply.status, reply.content) == (200, None)
        assert reply.headers["Cache-Control"] == "no-store"
    assert ide.revoke("x", token=None).error == "invalid_request"
    assert ide.revoke(pair["refresh_token"], client_id="unknown").error == "invalid_client"
    assert opens(ide, pair)


@pytest.mark.requirement("T9")
@pytest.mark.django_db(transaction=True)
def test_revoking_an_approval_ends_its_codes_and_tokens_and_no_others(ide: Ide, cast: Cast) -> None:
    sign_ins = [ide.sign_in(), ide.sign_in()]
    code = ide.code()
    elsewhere = Ide(make_client(), cast.member, cast.server, cast.server.mcp_url)
    colleague = Ide(ide.client, cast.manager, cast.server, cast.server.mcp_url)
    others = [(other, other.sign_in()) for other in (elsewhere, colleague)]
    approvals.revoke(Approval.objects.get(user=cast.member, client=ide.client), actor="member")
    for pair in sign_ins:
        assert opens(ide, pair) == REFUSED
        assert ide.refresh(pair["refresh_token"]).error == "invalid_grant"
    assert not Grant.objects.exists()
    ide.approve()
    assert ide.redeem(code).error == "invalid_grant"
    assert ide.refresh(sign_ins[0]["refresh_token"]).error == "invalid_grant", "a new approval brings nothing back"
    for other, pair in others:
        assert opens(other, pair)
        assert other.refresh(pair["refresh_token"]).status == 200


@pytest.mark.requirement("F-205")
def test_prune_deletes_what_no_code_or_token_needs_any_more(ide: Ide) -> None:
    ide.code()
    Grant.objects.update(expires=timezone.now() - timedelta(seconds=1))
    over = ide.refresh(ide.sign_in()["refresh_token"]).content
    ide.revoke(over["refresh_token"])
    long_ago = timezone.now() - timedelta(seconds=settings.REFRESH_TOKEN_SECONDS + 1)
    for number, row in enumerate(RefreshToken.objects.all()):
        RefreshToken.objects.filter(pk=row.pk).update(revoked=long_ago - timedelta(seconds=number))
    unused = ide.sign_in()
    AccessToken.objects.update(expires=long_ago)
    used = ide.sign_in()
    newest = ide.refresh(used["refresh_token"]).content
    a_minute_later()
    call_command("prune", verbosity=0)
    assert not Grant.objects.exists()
    assert not RefreshReply.objects.exists()
    assert AccessToken.objects.count() == 1
    assert RefreshToken.objects.count() == 2, "the one in use, and the one that it replaced"
    assert ide.refresh(unused["refresh_token"]).error == "invalid_grant"
    assert opens(ide, newest)
    assert ide.refresh(used["refresh_token"]).error == "invalid_grant"
    assert reuses() == 1, "theft is still told"
