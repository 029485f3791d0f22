"""The access decision as a table: every reason, and the order in which they are looked at."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers import registry
from servers.access import Allowed, Denied, Grant, Principal, Reason, Rules, decide
from servers.models import AccessRule, Membership, Role, ServerGroup
from tests.conftest import Cast

SERVER, OTHER_SERVER = UUID(int=1), UUID(int=2)
TENANT, OTHER_TENANT = UUID(int=11), UUID(int=12)
NOW = 1_000_000.0
PERSON, TEAM = 7, 70
principal = Principal(
    user_id=PERSON,
    label="person",
    active=True,
    tenants=frozenset({TENANT}),
    teams=frozenset({TEAM}),
    credential="api_key:1",
)
USER, MANAGER = Grant(Role.USER), Grant(Role.MANAGER)
PAST, FUTURE = NOW - 1, NOW + 1
NOBODY = Rules()


def person(*grants: Grant) -> Rules:
    return Rules(people={PERSON: grants, 8: (MANAGER,)})


def team(*grants: Grant) -> Rules:
    return Rules(teams={TEAM: grants, 71: (MANAGER,)})


def ask(
    rules: Rules, *, who: Principal = principal, role: Role = Role.USER, enabled: bool = True, tenant: UUID = TENANT
) -> Allowed | Denied:
    return decide(who, server_id=SERVER, tenant_id=tenant, enabled=enabled, rules=rules, now=NOW, role=role)


@pytest.mark.requirement("F-501")
@pytest.mark.parametrize(
    ("rules", "use", "manage"),
    [
        (NOBODY, Denied(Reason.NO_RULE), Denied(Reason.NO_RULE)),
        (Rules(people={8: (USER,)}, teams={71: (USER,)}), Denied(Reason.NO_RULE), Denied(Reason.NO_RULE)),
        (person(USER), Allowed(Role.USER), Denied(Reason.NOT_MANAGER)),
        (person(MANAGER), Allowed(Role.MANAGER), Allowed(Role.MANAGER)),
        (team(USER), Allowed(Role.USER), Denied(Reason.NOT_MANAGER)),
        (team(MANAGER), Allowed(Role.MANAGER), Allowed(Role.MANAGER)),
        (person(USER, MANAGER), Allowed(Role.MANAGER), Allowed(Role.MANAGER)),
        (Rules(people={PERSON: (USER,)}, teams={TEAM: (MANAGER,)}), Allowed(Role.MANAGER), Allowed(Role.MANAGER)),
        (person(Grant(Role.USER, PAST)), Denied(Reason.RULE_EXPIRED), Denied(Reason.RULE_EXPIRED)),
        (person(Grant(Role.USER, NOW)), Denied(Reason.RULE_EXPIRED), Denied(Reason.RULE_EXPIRED)),
        (person(Grant(Role.USER, FUTURE)), Allowed(Role.USER), Denied(Reason.NOT_MANAGER)),
        (person(Grant(Role.MANAGER, PAST), USER), Allowed(Role.USER), Denied(Reason.NOT_MANAGER)),
        (person(USER, Grant(Role.MANAGER, PAST)), Allowed(Role.USER), Denied(Reason.NOT_MANAGER)),
        (person(Grant(Role.USER, PAST), MANAGER), Allowed(Role.MANAGER), Allowed(Role.MANAGER)),
        (
            Rules(people={PERSON: (Grant(Role.MANAGER, PAST),)}, teams={TEAM: (USER,)}),
            Allowed(Role.USER),
            Denied(Reason.NOT_MANAGER),
        ),
    ],
)
def test_the_best_live_rule_of_the_person_and_their_teams_decides(
    rules: Rules, use: Allowed | Denied, manage: Allowed | Denied
) -> None:
    assert ask(rules) == use
    assert ask(rules, role=Role.MANAGER) == manage


@pytest.mark.requirement("F-501")
def test_a_disabled_server_refuses_use_and_lets_its_managers_manage() -> None:
    assert ask(person(USER), enabled=False) == Denied(Reason.SERVER_DISABLED)
    assert ask(person(MANAGER), enabled=False) == Denied(Reason.SERVER_DISABLED)
    assert ask(person(MANAGER), enabled=False, role=Role.MANAGER) == Allowed(Role.MANAGER)


@pytest.mark.requirement("F-107", "F-206", "F-501")
def test_the_first_check_that_fails_gives_the_reason() -> None:
    """Everything is wrong at first; mending one thing after the other shows the order."""
    who = replace(principal, active=False, tenants=frozenset({OTHER_TENANT}), limited_to=frozenset({OTHER_SERVER}))
    expired = person(Grant(Role.USER, PAST))
    assert ask(NOBODY, who=who, enabled=False) == Denied(Reason.INACTIVE)
    who = replace(who, active=True)
    assert ask(NOBODY, who=who, enabled=False) == Denied(Reason.OTHER_TENANT)
    who = replace(who, tenants=frozenset({TENANT}))
    assert ask(NOBODY, who=who, enabled=False) == Denied(Reason.KEY_LIMITED)
    who = replace(who, limited_to=frozenset({OTHER_SERVER, SERVER}))
    assert ask(NOBODY, who=who, enabled=False) == Denied(Reason.NO_RULE)
    assert ask(expired, who=who, enabled=False) == Denied(Reason.RULE_EXPIRED)
    assert ask(person(USER), who=who, enabled=False, role=Role.MANAGER) == Denied(Reason.NOT_MANAGER)
    assert ask(person(USER), who=who, enabled=False) == Denied(Reason.SERVER_DISABLED)
    assert ask(person(USER), who=who) == Allowed(Role.USER)


@pytest.mark.requirement("F-206")
def test_a_key_that_is_limited_to_no_server_opens_none() -> None:
    assert ask(person(MANAGER), who=replace(principal, limited_to=frozenset())) == Denied(Reason.KEY_LIMITED)


def test_a_decision_is_true_exactly_when_it_allows() -> None:
    assert bool(Allowed(Role.USER)) is True
    assert bool(Denied(Reason.NO_RULE)) is False


GRANTS = st.lists(
    st.builds(Grant, st.sampled_from(Role), st.one_of(st.none(), st.sampled_from([PAST, NOW, FUTURE]))), max_size=4
).map(tuple)


@pytest.mark.requirement("F-501")
@given(own=GRANTS, teams=GRANTS, enabled=st.booleans())
def test_a_manager_may_do_all_that_a_user_may(own: tuple[Grant, ...], teams: tuple[Grant, ...], enabled: bool) -> None:
    rules = Rules(people={PERSON: own}, teams={TEAM: teams})
    live = [grant.role for grant in own + teams if grant.expires_at is None or grant.expires_at > NOW]
    use, manage = ask(rules, enabled=enabled), ask(rules, enabled=enabled, role=Role.MANAGER)
    assert bool(manage) == (Role.MANAGER in live)
    assert bool(use) == (bool(live) and enabled)


def principal_of(user: object) -> Principal:
    from authflows.inbound.principals import principal_for

    return principal_for(user, credential="test")


@pytest.mark.requirement("F-501", "F-107")
def test_the_cast_may_do_what_its_rules_say(cast: Cast) -> None:
    facts = registry.facts_of(cast.server)

    def may(user: object, role: Role = Role.USER) -> Allowed | Denied:
        return decide(
            principal_of(user),
            server_id=facts.id,
            tenant_id=facts.tenant_id,
            enabled=facts.enabled,
            rules=facts.rules,
            now=NOW,
            role=role,
        )

    assert may(cast.manager, Role.MANAGER) == Allowed(Role.MANAGER)
    assert may(cast.member) == Allowed(Role.USER)
    assert may(cast.member, Role.MANAGER) == Denied(Reason.NOT_MANAGER)
    assert may(cast.outsider) == Denied(Reason.NO_RULE)
    # A rule does not carry anybody over a tenant's border, and being a superuser is not a rule.
    assert AccessRule.objects.filter(user=cast.stranger, server=cast.server).exists()
    assert may(cast.stranger, Role.MANAGER) == Denied(Reason.OTHER_TENANT)
    assert may(cast.admin) == Denied(Reason.NO_RULE)


@pytest.mark.requirement("F-102", "F-501")
def test_the_rules_of_a_group_hold_for_its_servers_only(cast: Cast) -> None:
    group = ServerGroup.objects.create(tenant=cast.tenant, name="Tools", slug="tools")
    AccessRule.objects.create(group=group, user=cast.outsider, role=Role.USER)
    assert cast.outsider.pk not in registry.rules_of(cast.server).people
    cast.server.group = group
    cast.server.save()
    assert registry.rules_of(cast.server).people[cast.outsider.pk] == (Grant(Role.USER),)


@pytest.mark.requirement("F-107", "F-207")
def test_a_virtual_account_is_in_its_own_tenant_only(cast: Cast) -> None:
    from authflows.models import VirtualAccount

    user = type(cast.member).objects.create_user("robot")
    assert Membership.objects.filter(user=user, tenant=cast.tenant).exists()
    VirtualAccount.objects.create(tenant=cast.other_tenant, name="robot", user=user)
    assert principal_of(user).tenants == {cast.other_tenant.pk}
