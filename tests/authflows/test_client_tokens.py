"""Access tokens of OAuth clients at the door: for whom, for which URL, until when."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone
from oauth2_provider.models import AccessToken, RefreshToken

from authflows.inbound.bearer import Refusal, Unauthenticated, authenticate, still_signed_in
from authflows.inbound.oauth import approvals
from authflows.models import Approval, OAuthClient, VirtualAccount
from proxy.pipeline import Knock, Prepared, prepare_again, prepare_call
from servers import changes
from servers.access import Principal
from servers.changes import Feed, NotCached
from servers.models import AccessRule, Role, Server
from tests.conftest import Cast
from tests.support.ide import Ide, make_client
from tests.support.other_process import run_elsewhere

pytestmark = pytest.mark.django_db
NOW = timezone.now().timestamp()
PATH = "/default/mcp/calculator/server"
REFUSED = Unauthenticated(Refusal.UNKNOWN)
Queries = Callable[[int], Any]


@pytest.fixture
def ide(cast: Cast) -> Ide:
    return Ide(make_client(), cast.member, cast.server, cast.server.mcp_url)


def bearer(token: str) -> bytes:
    return f"Bearer {token}".encode()


def at_the_door(token: str, *, path: str | None = PATH, now: float = NOW) -> Principal | Unauthenticated:
    return authenticate(bearer(token), now=now, path=path)


def knock(token: str, *, endpoint: str = "server") -> Knock:
    return Knock("default", "calculator", endpoint, bearer(token), False, b"")


@pytest.mark.requirement("RS-11", "AZ-13", "F-205")
def test_a_token_is_the_person_who_approved_limited_to_one_server(ide: Ide, cast: Cast) -> None:
    token = ide.sign_in()["access_token"]
    approval, row = Approval.objects.get(), AccessToken.objects.get()
    assert at_the_door(token) == Principal(
        user_id=cast.member.pk,
        label="member",
        active=True,
        tenants=frozenset({cast.tenant.pk}),
        teams=frozenset({cast.readers.pk}),
        credential=f"approval:{approval.pk}",
        credential_expires_at=row.expires.timestamp(),
        limited_to=frozenset({cast.server.pk}),
        audience=PATH,
        sign_in=row.refresh_token.token_family,
    )


@pytest.mark.requirement("T1", "RS-11", "RS-5")
@pytest.mark.parametrize(
    "path",
    [
        None,
        "",
        "/",
        "/default",
        PATH + "/",
        PATH + "/more",
        PATH.upper(),
        "/default/mcp/calculator/mcp",
        "/default/mcp/calculator/key",
        "/default/mcp/other/server",
        "/other/mcp/calculator/server",
    ],
)
def test_a_token_opens_no_path_but_its_own(ide: Ide, path: str | None) -> None:
    token = ide.sign_in()["access_token"]
    for _ in range(2):
        assert at_the_door(token, path=path) == Unauthenticated(Refusal.ELSEWHERE)
    assert at_the_door(token)


@pytest.mark.requirement("T1", "RS-11", "AZ-14")
@pytest.mark.parametrize(
    "resource",
    [
        [],
        [settings.PUBLIC_URL],
        [f"{settings.PUBLIC_URL}/default"],
        ["https://elsewhere.example/default/mcp/calculator/server"],
        [f"{settings.PUBLIC_URL}{PATH}", f"{settings.PUBLIC_URL}/default/mcp/other/server"],
        [f"{settings.PUBLIC_URL}/default/mcp/missing/server"],
    ],
)
def test_a_token_without_exactly_one_resource_of_ours_opens_nothing(ide: Ide, resource: list[str]) -> None:
    token = ide.sign_in()["access_token"]
    AccessToken.objects.update(resource=resource)
    for path in (PATH, "/default/mcp/missing/server", None):
        assert at_the_door(token, path=path) == REFUSED


@pytest.mark.requirement("RS-11")
def test_a_token_of_another_public_url_opens_nothing(ide: Ide, settings: Any) -> None:
    token = ide.sign_in()["access_token"]
    settings.PUBLIC_URL = "https://gateway.example"
    assert at_the_door(token) == REFUSED


@pytest.mark.requirement("RS-14", "T5")
def test_only_an_access_token_opens_an_mcp_url(ide: Ide, django_assert_num_queries: Queries) -> None:
    code = ide.code()
    pair = ide.redeem(code).content
    digest = AccessToken.objects.get().token_checksum
    with django_assert_num_queries(0):
        for text in (pair["refresh_token"], code, digest, f"gho_{digest[:43]}x", pair["access_token"][:-1]):
            assert at_the_door(text) == Unauthenticated(Refusal.MALFORMED)
    assert at_the_door("gho_" + "A" * 43) == REFUSED


@pytest.mark.requirement("AZ-16", "RS-5", "RS-7")
@pytest.mark.django_db(transaction=True)
def test_an_expired_token_is_refused_though_it_is_in_memory(ide: Ide) -> None:
    token = ide.sign_in()["access_token"]
    end = AccessToken.objects.get().expires.timestamp()
    assert end - timezone.now().timestamp() <= 15 * 60
    assert at_the_door(token, now=end - 1)
    assert at_the_door(token, now=end) == Unauthenticated(Refusal.EXPIRED)


@pytest.mark.requirement("RS-9")
def test_a_token_without_the_scope_is_told_apart(ide: Ide) -> None:
    token = ide.sign_in()["access_token"]
    AccessToken.objects.update(scope="offline_access")
    assert at_the_door(token) == Unauthenticated(Refusal.SCOPE)


@pytest.mark.requirement("RS-10")
def test_more_scopes_than_the_one_do_no_harm(ide: Ide) -> None:
    assert at_the_door(ide.sign_in(scope="offline_access mcp")["access_token"])


@pytest.mark.requirement("AZ-16")
@pytest.mark.django_db(transaction=True)
def test_a_warm_call_asks_the_database_nothing(ide: Ide, django_assert_num_queries: Queries) -> None:
    token = ide.sign_in()["access_token"]
    with pytest.raises(NotCached):
        prepare_call(knock(token), now=NOW, may_load=False)
    # For the token, its approval, the person's teams, the server, its rules and its credential.
    with django_assert_num_queries(6):
        assert prepare_call(knock(token), now=NOW, may_load=True)
    with django_assert_num_queries(0):
        assert prepare_call(knock(token), now=NOW, may_load=False)
        assert not prepare_call(knock(token, endpoint="mcp"), now=NOW, may_load=False)


def disable_client(cast: Cast) -> None:
    client = OAuthClient.objects.get()
    client.enabled = False
    client.save()


def delete_client(cast: Cast) -> None:
    OAuthClient.objects.get().delete()


def disable_person(cast: Cast) -> None:
    cast.member.is_active = False
    cast.member.save()


def delete_person(cast: Cast) -> None:
    cast.member.delete()


def revoke_approval(cast: Cast) -> None:
    approvals.revoke(Approval.objects.get(), actor="member")


def delete_approval(cast: Cast) -> None:
    Approval.objects.get().delete()


def delete_token(cast: Cast) -> None:
    AccessToken.objects.get().delete()


def delete_refresh_token(cast: Cast) -> None:
    RefreshToken.objects.get().delete()


def shorten_token(cast: Cast) -> None:
    token = AccessToken.objects.get()
    token.expires = timezone.now() - timedelta(hours=1)
    token.save()


def delete_server(cast: Cast) -> None:
    cast.server.delete()


WAYS = [
    disable_client,
    delete_client,
    disable_person,
    delete_person,
    revoke_approval,
    delete_approval,
    delete_token,
    delete_refresh_token,
    shorten_token,
    delete_server,
]


@pytest.mark.requirement("T9", "T10", "RS-7")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("end", WAYS)
def test_what_a_token_hangs_on_ends_it_at_once(ide: Ide, cast: Cast, end: Callable[[Cast], None]) -> None:
    token = ide.sign_in()["access_token"]
    assert at_the_door(token)
    assert authenticate(bearer(token), now=NOW, path=PATH, may_load=False), "it should come from memory"
    end(cast)
    assert not at_the_door(token)


@pytest.mark.requirement("T9")
@pytest.mark.django_db(transaction=True)
def test_changes_that_concern_nobody_leave_tokens_in_memory(ide: Ide, cast: Cast) -> None:
    token = ide.sign_in()["access_token"]
    assert at_the_door(token)
    ide.client.refresh_from_db()
    ide.client.name = "renamed"
    ide.client.save()
    colleague = Ide(ide.client, cast.manager, cast.server, cast.server.mcp_url)
    colleague.refresh(colleague.sign_in()["refresh_token"])
    approvals.revoke(Approval.objects.get(user=cast.manager), actor="manager")
    assert authenticate(bearer(token), now=NOW, path=PATH, may_load=False)


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
    "sign_in": (
        "from authflows.inbound.oauth import tokens\n"
        "from oauth2_provider.models import RefreshToken\n"
        "tokens.end_sign_in(RefreshToken.objects.get().token_family)"
    ),
}


@pytest.mark.requirement("T9")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ELSEWHERE)
def test_what_ends_in_another_process_ends_here(ide: Ide, kind: str) -> None:
    token = ide.sign_in()["access_token"]
    feed, told = Feed(), threading.Event()
    feed.start()
    principal = at_the_door(token)
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
    assert at_the_door(token) == REFUSED
    assert still_signed_in(principal.sign_in) == REFUSED


@pytest.mark.requirement("F-205")
@pytest.mark.django_db(transaction=True)
def test_a_call_under_way_outlives_its_token_but_not_its_sign_in(
    ide: Ide, cast: Cast, django_assert_num_queries: Queries
) -> None:
    pair = ide.sign_in()
    before = prepare_call(knock(pair["access_token"]), now=NOW, may_load=True)
    assert isinstance(before, Prepared)
    pair = ide.refresh(pair["refresh_token"]).content
    assert not prepare_call(before_knock := knock("gho_" + "A" * 43), now=NOW, may_load=True)
    for now in (NOW, NOW + 24 * 3600):
        assert prepare_again(before, before_knock, now=now, may_load=True)
    with django_assert_num_queries(0):
        assert prepare_again(before, before_knock, now=NOW, may_load=False)
    AccessRule.objects.get(team=cast.readers).delete()
    assert not prepare_again(before, before_knock, now=NOW, may_load=True)
    AccessRule.objects.create(server=cast.server, user=cast.member, role=Role.USER)
    assert prepare_again(before, before_knock, now=NOW, may_load=True)
    ide.revoke(pair["access_token"])
    assert prepare_again(before, before_knock, now=NOW, may_load=True) == REFUSED


@pytest.mark.requirement("T1", "T9")
@pytest.mark.django_db(transaction=True)
def test_a_new_server_under_an_old_name_is_not_opened_by_old_tokens(ide: Ide, cast: Cast) -> None:
    token = ide.sign_in()["access_token"]
    assert at_the_door(token)
    cast.server.slug = "moved"
    cast.server.save()
    new = Server.objects.create(tenant=cast.tenant, slug="calculator", name="New", url="http://127.0.0.1:9/mcp")
    AccessRule.objects.create(server=new, team=cast.readers, role=Role.USER)
    assert not prepare_call(knock(token), now=NOW, may_load=True)
    changes.forget_everything()
    assert prepare_call(knock(token), now=NOW, may_load=True) == REFUSED


@pytest.mark.requirement("T10")
@pytest.mark.django_db(transaction=True)
def test_an_account_that_became_virtual_is_treated_as_one(ide: Ide, cast: Cast) -> None:
    token = ide.sign_in()["access_token"]
    VirtualAccount.objects.create(tenant=cast.tenant, name="robot", user=cast.member, enabled=False)
    assert at_the_door(token) == Unauthenticated(Refusal.INACTIVE)
