"""Asking for access and answering: the decision, and what stands in the database and in the audit trail after it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.utils import timezone

from servers import access, access_requests, audit, registry
from servers.access import Allowed
from servers.access_requests import Effect, Grant, HasAccess, NotRequestable, NotWaiting, RequestRefused, Standing
from servers.models import AccessRequest, AccessRule, AuditEvent, Items, Membership, Role, Server, ServerGroup
from servers.scope import scope_of
from servers.virtual.actors import principal_of
from tests.conftest import Cast

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-504")]

NOW = datetime(2026, 3, 1, tzinfo=UTC)
WEEK = NOW + timedelta(days=7)
MONTH = NOW + timedelta(days=30)
BEFORE = NOW - timedelta(days=1)


@pytest.fixture
def open_server(cast: Cast) -> Server:
    cast.server.requestable = True
    cast.server.save()
    return cast.server


def ask(person: Any, server: Server, *, days: int | None = 7, reason: str = "Quarterly report") -> AccessRequest:
    return access_requests.ask(principal_of(person), server.pk, reason=reason, days=days)


def may_use(person: Any, server: Server) -> bool:
    decision = access.decide(
        principal_of(person),
        server_id=server.pk,
        tenant_id=server.tenant_id,
        enabled=server.enabled,
        rules=registry.rules_of(server),
        now=timezone.now().timestamp(),
    )
    return isinstance(decision, Allowed)


def events(action: audit.Action) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(action=str(action)).order_by("sequence"))


# The decision


@pytest.mark.parametrize(
    ("standing", "until", "expected"),
    [
        (None, WEEK, Grant(Effect.ADD, Role.USER, WEEK)),
        (None, None, Grant(Effect.ADD, Role.USER, None)),
        (Standing(Role.USER, WEEK), MONTH, Grant(Effect.EXTEND, Role.USER, MONTH)),
        (Standing(Role.USER, WEEK), None, Grant(Effect.EXTEND, Role.USER, None)),
        (Standing(Role.USER, MONTH), WEEK, Grant(Effect.NONE, Role.USER, MONTH)),
        (Standing(Role.USER, None), WEEK, Grant(Effect.NONE, Role.USER, None)),
        (Standing(Role.USER, BEFORE), WEEK, Grant(Effect.RENEW, Role.USER, WEEK)),
        (Standing(Role.MANAGER, None), WEEK, Grant(Effect.NONE, Role.MANAGER, None)),
        (Standing(Role.MANAGER, WEEK), None, Grant(Effect.NONE, Role.MANAGER, WEEK)),
        (Standing(Role.MANAGER, BEFORE), WEEK, Grant(Effect.RENEW, Role.USER, WEEK)),
    ],
    ids=[
        "nothing, a week",
        "nothing, no end",
        "a week, longer",
        "a week, no end",
        "a month, shorter",
        "no end, shorter",
        "expired",
        "manager",
        "manager with an end",
        "manager that expired",
    ],
)
def test_a_yes_adds_or_extends_and_never_lowers(
    standing: Standing | None, until: datetime | None, expected: Grant
) -> None:
    assert access_requests.granted(standing, until=until, now=NOW) == expected


@pytest.mark.parametrize(
    ("days", "text"), [(1, "1 day"), (7, "7 days"), (365, "1 year"), (None, "no end"), (3, "3 days")]
)
def test_durations_read_as_people_say_them(days: int | None, text: str) -> None:
    assert access_requests.duration_text(days) == text


# Asking


def test_what_was_asked_for_waits_and_stands_in_the_trail_without_its_reason(cast: Cast, open_server: Server) -> None:
    made = ask(cast.outsider, open_server, reason="canary-reason")
    assert (made.state, made.days, made.reason) == ("pending", 7, "canary-reason")
    (event,) = events(audit.Action.ACCESS_ASK)
    assert (event.actor, event.tenant, event.detail["days"]) == ("outsider", cast.tenant, 7)
    assert "canary" not in str(event.detail) + event.subject
    assert not may_use(cast.outsider, open_server)


def test_asking_twice_is_asking_once(cast: Cast, open_server: Server) -> None:
    assert ask(cast.outsider, open_server) == ask(cast.outsider, open_server, days=30)
    assert len(events(audit.Action.ACCESS_ASK)) == 1


@pytest.mark.requirement("T8")
def test_only_a_requestable_server_of_the_own_tenant_can_be_asked_for_and_all_others_look_alike(cast: Cast) -> None:
    elsewhere = Server.objects.create(
        tenant=cast.other_tenant, slug="there", name="There", url="http://127.0.0.1:9/mcp", requestable=True
    )
    said = set()
    for person, server in ((cast.outsider, cast.server), (cast.outsider, elsewhere), (cast.stranger, cast.server)):
        with pytest.raises(NotRequestable) as caught:
            ask(person, server)
        said.add(caught.value.public_message)
    with pytest.raises(NotRequestable) as caught:
        access_requests.ask(principal_of(cast.outsider), AccessRequest().pk, reason="", days=1)
    assert said == {caught.value.public_message}
    assert not AccessRequest.objects.exists()


def test_nobody_asks_for_what_they_have(cast: Cast, open_server: Server) -> None:
    for enabled in (True, False):
        Server.objects.update(enabled=enabled)
        with pytest.raises(HasAccess):
            ask(cast.member, open_server)


def test_a_right_that_expired_can_be_asked_for_again(cast: Cast, open_server: Server) -> None:
    AccessRule.objects.create(server=open_server, user=cast.outsider, expires_at=timezone.now() - timedelta(days=1))
    assert ask(cast.outsider, open_server).state == "pending"


def test_asking_and_withdrawing_all_day_comes_to_an_end(
    cast: Cast, open_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access_requests, "MOST_A_DAY", 2)
    for _ in range(2):
        access_requests.withdraw(ask(cast.outsider, open_server).pk, person=cast.outsider)
    with pytest.raises(access_requests.TooManyRequests):
        ask(cast.outsider, open_server)


def test_people_withdraw_their_own_requests_only(cast: Cast, open_server: Server) -> None:
    made = ask(cast.outsider, open_server)
    assert access_requests.withdraw(made.pk, person=cast.member) is None
    withdrawn = access_requests.withdraw(made.pk, person=cast.outsider)
    assert withdrawn is not None
    assert withdrawn.state == "withdrawn"
    access_requests.withdraw(made.pk, person=cast.outsider)
    assert len(events(audit.Action.ACCESS_WITHDRAW)) == 1


# Answering


def test_a_yes_opens_the_server_until_its_end(cast: Cast, open_server: Server) -> None:
    made = ask(cast.outsider, open_server)
    grant = access_requests.approve(made.pk, days=7, person=cast.manager, answer="Welcome")
    made.refresh_from_db()
    assert (made.state, made.answered_by, made.answer) == ("approved", cast.manager, "Welcome")
    assert may_use(cast.outsider, open_server)
    rule = AccessRule.objects.get(server=open_server, user=cast.outsider)
    assert (rule.role, rule.expires_at) == (Role.USER, grant.ends)
    rule.expires_at = timezone.now() - timedelta(seconds=1)
    rule.save()
    assert not may_use(cast.outsider, open_server)
    (event,) = events(audit.Action.ACCESS_APPROVE)
    assert event.actor == "manager"
    assert event.detail["person"] == "outsider"
    assert [one.detail["why"] for one in events(audit.Action.COLLABORATOR_ADD)] == ["access request"]
    assert not list(audit.verify())


def test_a_renewed_right_opens_what_it_opened(cast: Cast, open_server: Server) -> None:
    yesterday = timezone.now() - timedelta(days=1)
    AccessRule.objects.create(
        server=open_server, user=cast.outsider, expires_at=yesterday, items=Items.ONLY, item_names=["tool:add"]
    )
    access_requests.approve(ask(cast.outsider, open_server).pk, days=None, person=cast.manager)
    rule = AccessRule.objects.get(server=open_server, user=cast.outsider)
    assert (rule.items, rule.item_names, rule.expires_at) == (Items.ONLY, ["tool:add"], None)


def test_what_was_given_meanwhile_is_not_taken_away_by_a_yes(cast: Cast, open_server: Server) -> None:
    made = ask(cast.outsider, open_server)
    AccessRule.objects.create(server=open_server, user=cast.outsider, role=Role.MANAGER)
    assert access_requests.approve(made.pk, days=1, person=cast.manager).effect is Effect.NONE
    rule = AccessRule.objects.get(server=open_server, user=cast.outsider)
    assert (rule.role, rule.expires_at) == (Role.MANAGER, None)
    assert not events(audit.Action.COLLABORATOR_ADD) + events(audit.Action.COLLABORATOR_CHANGE)


def test_a_no_opens_nothing_and_leaves_its_sentence(cast: Cast, open_server: Server) -> None:
    made = ask(cast.outsider, open_server)
    access_requests.refuse(made.pk, person=cast.manager, answer="  Use the public one. ")
    made.refresh_from_db()
    assert (made.state, made.answer) == ("refused", "Use the public one.")
    assert not may_use(cast.outsider, open_server)
    assert ask(cast.outsider, open_server).pk != made.pk


def test_a_request_is_answered_once(cast: Cast, open_server: Server) -> None:
    made = ask(cast.outsider, open_server)
    access_requests.refuse(made.pk, person=cast.manager, answer="")
    with pytest.raises(NotWaiting, match="refused already"):
        access_requests.approve(made.pk, days=1, person=cast.admin)
    assert not may_use(cast.outsider, open_server)


@pytest.mark.parametrize("person", ["member", "outsider", "stranger"])
def test_only_who_manages_the_server_answers(cast: Cast, open_server: Server, person: str) -> None:
    made = ask(cast.outsider, open_server)
    with pytest.raises(PermissionDenied):
        access_requests.approve(made.pk, days=1, person=getattr(cast, person))
    with pytest.raises(PermissionDenied):
        access_requests.refuse(made.pk, person=getattr(cast, person), answer="")
    made.refresh_from_db()
    assert made.state == "pending"


def test_who_left_is_not_given_access(cast: Cast, open_server: Server) -> None:
    made = ask(cast.outsider, open_server)
    Membership.objects.filter(user=cast.outsider).delete()
    with pytest.raises(RequestRefused, match="no longer belongs"):
        access_requests.approve(made.pk, days=1, person=cast.manager)
    cast.outsider.is_active = False
    cast.outsider.save()
    with pytest.raises(RequestRefused, match="switched off"):
        access_requests.approve(made.pk, days=1, person=cast.manager)
    assert not AccessRule.objects.filter(user=cast.outsider).exists()


def test_managers_see_the_requests_of_their_servers(cast: Cast, open_server: Server) -> None:
    group = ServerGroup.objects.create(tenant=cast.tenant, slug="office", name="Office")
    other = Server.objects.create(
        tenant=cast.tenant, slug="b", name="B", url="http://127.0.0.1:9/mcp", requestable=True, group=group
    )
    AccessRule.objects.create(group=group, user=cast.member, role=Role.MANAGER)
    first, second = ask(cast.outsider, open_server), ask(cast.outsider, other)
    seen = {
        name: set(access_requests.requests_for(scope_of(getattr(cast, name))))
        for name in ("admin", "manager", "member", "outsider", "stranger")
    }
    assert seen == {
        "admin": {first, second},
        "manager": {first},
        "member": {second},
        "outsider": set(),
        "stranger": set(),
    }
