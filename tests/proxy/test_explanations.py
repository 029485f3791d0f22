"""Explanations against the gateway itself: what one says is refused, the other refuses, and for the same reason."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from authflows.explain import explain
from authflows.explaining.steps import OPERATOR, Explanation
from authflows.inbound.api_keys import revoke_key
from authflows.inbound.oauth import approvals
from authflows.models import ApiKey, Approval, Connection, OwnKey
from servers import changes
from servers.items import ItemKey, ItemKind
from servers.models import AccessRule, Call, Role, Server, StoredSecret, Tenant, VirtualMember
from tests.conftest import Cast
from tests.proxy.wire import wait_until
from tests.support import rights
from tests.support.calls import Caller, caller_for
from tests.support.gateway import LiveGateway
from tests.support.ide import Ide, make_client, post_to
from tests.support.records import write_records
from tests.support.rights import CREDENTIALS, PATHS, RULES, Place

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requirement("F-503")]


def _answer(caller: Caller, kind: str, name: str) -> str:
    """How the gateway ends a call for this item: the outcome in its record."""
    before = _recorded()
    method, key = {
        "tool": ("tools/call", "name"),
        "prompt": ("prompts/get", "name"),
        "resource": ("resources/read", "uri"),
    }[kind]
    caller.modern(method, {key: name})
    # The record is queued after the answer has gone out.
    wait_until(lambda: _recorded() > before, "the record of the call")
    return Call.objects.order_by("-id")[0].outcome


def _recorded() -> int:
    write_records()
    return Call.objects.count()


def _explained(person: Any, server: Server, *, item: ItemKey | None, client: str) -> Explanation:
    row = Server.objects.select_related("tenant").get(pk=server.pk)
    return explain(person, row, item=item, client=client, reader=OPERATOR)


def _agree(caller: Caller, person: Any, server: Server, kind: str, name: str, *, client: str = "test") -> Explanation:
    """The gateway's answer and the explanation say the same."""
    changes.forget_everything()
    outcome = _answer(caller, kind, name)
    told = _explained(person, server, item=(ItemKind(kind), name), client=client)
    stopped = told.stopped_at
    assert told.allowed is (outcome == "ok"), (outcome, told)
    assert (stopped.code if stopped else "ok") == outcome, told
    return told


def _caller(gateway: LiveGateway, cast: Cast, place: Place, **options: Any) -> Caller:
    return caller_for(gateway, place.server, cast.member, **options)


# Items


@pytest.mark.parametrize("path", PATHS)
def test_what_is_explained_about_an_item_is_what_its_call_comes_to(gateway: LiveGateway, cast: Cast, path: str) -> None:
    with CREDENTIALS["none"](cast):
        rights.fill_catalogue(cast.server)
        place = PATHS[path](cast)
        caller, rule = _caller(gateway, cast, place), rights.user_rule(cast)
        for one in RULES:
            rights.hold(cast.server, rule, one)
            for kind, key in (*rights.KEYS[:8], ("resource", "file:///private/x"), ("resource", "shelf://secret")):
                if kind == "resource_template":
                    continue
                told = _agree(caller, cast.member, place.server, kind, place.shown(kind, key))
                if (kind, key) in rights.KEYS:
                    assert told.allowed is ((kind, key) not in one.hides), one.name


def test_a_rule_of_a_virtual_server_is_about_the_names_that_it_shows(gateway: LiveGateway, cast: Cast) -> None:
    with CREDENTIALS["none"](cast):
        rights.fill_catalogue(cast.server)
        place = PATHS["virtual"](cast)
        caller = _caller(gateway, cast, place)
        rule = AccessRule.objects.get(server=place.server, team=cast.readers)
        rule.items, rule.item_names = "only", ["tool:math__reads"]
        rule.save()
        assert _agree(caller, cast.member, place.server, "tool", "math__reads").allowed
        assert not _agree(caller, cast.member, place.server, "tool", "math__wipes").allowed
        assert not _agree(caller, cast.member, place.server, "tool", "reads").allowed


# Everything before the item


def _inactive(cast: Cast, server: Server) -> None:
    cast.member.is_active = False
    cast.member.save()


def _other_tenant(cast: Cast, server: Server) -> None:
    cast.member.memberships.update(tenant=Tenant.objects.create(slug="third", name="Third"))
    changes.record("user", cast.member.pk)


def _no_rule(cast: Cast, server: Server) -> None:
    AccessRule.objects.filter(server=server, role=Role.USER).delete()


def _expired_rule(cast: Cast, server: Server) -> None:
    for rule in AccessRule.objects.filter(server=server, role=Role.USER):
        rule.expires_at = timezone.now() - timedelta(minutes=1)
        rule.save()


def _switched_off(cast: Cast, server: Server) -> None:
    row = Server.objects.get(pk=server.pk)
    row.enabled = False
    row.save()


def _expired_key(cast: Cast, server: Server) -> None:
    ApiKey.objects.update(expires_at=timezone.now() - timedelta(minutes=1))


def _revoked_key(cast: Cast, server: Server) -> None:
    revoke_key(ApiKey.objects.get(name="test"), actor="tests")


OBSTACLES: dict[str, Callable[[Cast, Server], None]] = {
    "nothing": lambda cast, server: None,
    "inactive": _inactive,
    "other tenant": _other_tenant,
    "no rule": _no_rule,
    "expired rule": _expired_rule,
    "switched off": _switched_off,
    "expired key": _expired_key,
    "revoked key": _revoked_key,
}
OUTCOMES = {
    "nothing": "",
    "inactive": "principal_inactive",
    "other tenant": "other_tenant",
    "no rule": "no_rule",
    "expired rule": "rule_expired",
    "switched off": "server_disabled",
    "expired key": "credential_expired",
    "revoked key": "credential_unknown",
}


@pytest.mark.parametrize("obstacle", OBSTACLES)
@pytest.mark.parametrize("path", PATHS)
def test_what_stands_before_the_item_is_named(gateway: LiveGateway, cast: Cast, path: str, obstacle: str) -> None:
    with CREDENTIALS["none"](cast):
        rights.fill_catalogue(cast.server)
        place = PATHS[path](cast)
        caller = _caller(gateway, cast, place)
        OBSTACLES[obstacle](cast, place.server)
        told = _agree(caller, cast.member, place.server, "tool", place.shown("tool", "reads"))
    assert (told.stopped_at.code if told.stopped_at else "") == OUTCOMES[obstacle]


def test_a_key_for_other_servers_is_named(gateway: LiveGateway, cast: Cast) -> None:
    with CREDENTIALS["none"](cast):
        rights.fill_catalogue(cast.server)
        other = PATHS["virtual"](cast).server
        for limit, reason in (([other], "key_limited_to_other_servers"), ([cast.server], "")):
            ApiKey.objects.all().delete()
            caller = caller_for(gateway, cast.server, cast.member, limited_to=limit)
            told = _agree(caller, cast.member, cast.server, "tool", "reads")
            assert (told.stopped_at.code if told.stopped_at else "") == reason


def test_a_key_for_a_virtual_server_reaches_its_members(gateway: LiveGateway, cast: Cast) -> None:
    with CREDENTIALS["none"](cast):
        rights.fill_catalogue(cast.server)
        place = PATHS["virtual"](cast)
        caller = caller_for(gateway, place.server, cast.member, limited_to=[place.server])
        assert _agree(caller, cast.member, place.server, "tool", "math__reads").allowed


@pytest.mark.parametrize("hindrance", ["no rule", "switched off"])
def test_a_member_that_is_not_theirs_is_named(gateway: LiveGateway, cast: Cast, hindrance: str) -> None:
    with CREDENTIALS["none"](cast):
        rights.fill_catalogue(cast.server)
        place = PATHS["virtual"](cast)
        caller = _caller(gateway, cast, place)
        OBSTACLES[hindrance](cast, cast.server)
        changes.forget_everything()
        assert _answer(caller, "tool", "math__reads") != "ok"
        told = _explained(cast.member, place.server, item=(ItemKind.TOOL, "math__reads"), client="test")
    assert told.stopped_at is not None
    assert (told.stopped_at.look, told.stopped_at.code) == ("member", OUTCOMES[hindrance])
    assert "Calculator" in told.stopped_at.found[0]


# Credentials


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", CREDENTIALS)
def test_the_credential_that_is_explained_is_the_one_that_a_call_has(
    gateway: LiveGateway, cast: Cast, method: str, path: str
) -> None:
    with CREDENTIALS[method](cast):
        rights.fill_catalogue(cast.server)
        place = PATHS[path](cast)
        caller, name = _caller(gateway, cast, place), place.shown("tool", "reads")
        assert _agree(caller, cast.member, place.server, "tool", name).allowed
        lacking = _take_away(cast, method)
        told = _agree(caller, cast.member, place.server, "tool", name)
        assert (told.stopped_at.code if told.stopped_at else "") == lacking


def _take_away(cast: Cast, method: str) -> str:
    """Take what the call went upstream with; the outcome from then on."""
    if method == "shared header":
        StoredSecret.objects.get().delete()
        return "credential_unavailable"
    if method == "own key":
        OwnKey.objects.get().delete()
        return "not_connected"
    if method == "connection":
        Connection.objects.update(state=Connection.State.NEEDS_RECONNECT, last_error="invalid_grant")
        return "not_connected"
    return ""


def test_a_credential_of_the_virtual_server_stands_for_the_members_own(gateway: LiveGateway, cast: Cast) -> None:
    with CREDENTIALS["own key"](cast):
        rights.fill_catalogue(cast.server)
        place = PATHS["virtual"](cast)
        caller = _caller(gateway, cast, place)
        OwnKey.objects.all().delete()
        member = VirtualMember.objects.get()
        member.credential = [{"name": "Authorization", "value": "Bearer mine"}]
        row = Server.objects.get(pk=cast.server.pk)
        member.credential_origin = row.url.removesuffix("/mcp")
        member.save()
        told = _agree(caller, cast.member, place.server, "tool", "math__reads")
        assert told.allowed


# Clients


@pytest.mark.parametrize("ends", ["", "revoked", "disabled"])
def test_a_client_that_is_let_in_no_more_is_named(gateway: LiveGateway, cast: Cast, ends: str) -> None:
    with CREDENTIALS["none"](cast):
        rights.fill_catalogue(cast.server)
        url = gateway.mcp_url(cast.server)
        client = make_client()
        pair = Ide(client, cast.member, cast.server, url, post_to(gateway.port)).sign_in()
        if ends == "revoked":
            approvals.revoke(Approval.objects.get(), actor="tests")
        elif ends == "disabled":
            client.enabled = False
            client.save()
        told = _agree(Caller(url, pair["access_token"]), cast.member, cast.server, "tool", "reads", client=client.name)
        assert told.allowed is not bool(ends)
