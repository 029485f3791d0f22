"""Who a provider's claims are here, who is made, and which teams follow their groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from social_django.models import UserSocialAuth

from authflows.inbound.identity.people_from_claims import (
    Denial,
    Denied,
    groups_of,
    may_create,
    person_for,
    subject_of,
    sync_teams,
    verified_email,
)
from authflows.inbound.virtual_accounts import create_virtual_account
from authflows.models import IdentityProvider, TeamMapping
from servers.models import AuditEvent, Membership
from tests.conftest import Cast

Queries = Callable[[int], Any]
Creation = IdentityProvider.Creation
Preset = IdentityProvider.Preset
ALICE = {"sub": "1f3a", "preferred_username": "alice", "email": "alice@acme.example", "email_verified": True}


@pytest.fixture
def provider(cast: Cast) -> IdentityProvider:
    return IdentityProvider.objects.create(
        tenant=cast.tenant, name="Acme", slug="acme", issuer="https://id.acme.example", creation=Creation.ANYBODY
    )


def of(**fields: Any) -> IdentityProvider:
    return IdentityProvider(name="Acme", slug="acme", **fields)


@pytest.mark.requirement("F-208", "F-209")
def test_a_new_person_belongs_to_the_providers_tenant_and_has_no_password(
    cast: Cast, provider: IdentityProvider
) -> None:
    provider.tenant = cast.other_tenant
    provider.save()
    alice = person_for(provider, {**ALICE, "given_name": "Alice", "family_name": "Archer"})
    assert (alice.username, alice.email, alice.get_full_name()) == ("alice", "alice@acme.example", "Alice Archer")
    assert not alice.has_usable_password()
    assert not alice.is_superuser
    assert [m.tenant for m in Membership.objects.filter(user=alice)] == [cast.other_tenant]
    event = AuditEvent.objects.get(action="person:change")
    assert (event.actor, event.subject, event.detail) == ("identity provider acme", "alice", {"event": "create"})


@pytest.mark.requirement("F-208", "F-209")
def test_the_same_subject_is_the_same_person_whatever_else_changes(provider: IdentityProvider) -> None:
    alice = person_for(provider, ALICE)
    again = person_for(provider, {"sub": "1f3a", "preferred_username": "alice.married", "email": "new@acme.example"})
    assert again == alice
    assert UserSocialAuth.objects.get(user=alice).uid == "1f3a"


@pytest.mark.requirement("F-209", "T5")
@pytest.mark.parametrize("name", ["admin", "ADMIN", "member", "admin@example.com"])
def test_neither_a_user_name_nor_an_address_opens_an_account_that_exists(
    cast: Cast, provider: IdentityProvider, name: str
) -> None:
    found = person_for(provider, {**ALICE, "preferred_username": name, "email": "admin@example.com"})
    assert found not in (cast.admin, cast.member)
    assert found.username.lower() not in ("admin", "member")
    assert not found.is_superuser


@pytest.mark.requirement("F-209", "T5")
def test_the_same_subject_at_two_providers_is_two_people(cast: Cast, provider: IdentityProvider) -> None:
    other = IdentityProvider.objects.create(tenant=cast.tenant, name="B", slug="b", creation=Creation.ANYBODY)
    assert person_for(provider, ALICE) != person_for(other, ALICE)


@pytest.mark.requirement("F-207", "T5")
def test_a_made_up_name_does_not_look_like_a_virtual_account(cast: Cast, provider: IdentityProvider) -> None:
    account = create_virtual_account(cast.tenant, name="robot", description="", actor="admin")
    found = person_for(provider, {**ALICE, "preferred_username": account.user.username})
    assert ":" not in found.username
    assert found != account.user


@pytest.mark.parametrize("name", ["", "   ", None, 7, ["alice"], ":::", "\ud800", "x" * 500])
def test_a_name_that_cannot_be_used_does_not_keep_a_person_out(provider: IdentityProvider, name: object) -> None:
    found = person_for(provider, {"sub": "s", "preferred_username": name})
    found.full_clean(exclude=("password",))


@pytest.mark.parametrize("subject", [None, "", 7, ["a"], {"a": 1}, "x" * 256, "a\0b", "\ud800"])
def test_claims_without_a_usable_subject_name_nobody(provider: IdentityProvider, subject: object) -> None:
    assert person_for(provider, {**ALICE, "sub": subject}) == Denied(Denial.NO_SUBJECT)
    assert person_for(provider, {"email": "alice@acme.example"}) == Denied(Denial.NO_SUBJECT)


@pytest.mark.parametrize(("preset", "claim"), [(Preset.MICROSOFT, "oid"), (Preset.OKTA, "uid")])
def test_a_person_is_the_same_in_access_tokens_whose_sub_says_something_else(preset: Preset, claim: str) -> None:
    access_token = {"sub": "another for each application, or a login", claim: "00u1"}
    assert subject_of(of(preset=preset), access_token) == "00u1"
    assert subject_of(of(preset=preset), {"sub": "00u1"}) == "00u1"
    assert subject_of(of(preset=preset), {"sub": "00u1", claim: 7}) is None
    assert subject_of(of(preset=Preset.OIDC), access_token) == access_token["sub"]


@pytest.mark.requirement("F-209")
@pytest.mark.parametrize(
    ("creation", "claims", "reason"),
    [
        (Creation.NOBODY, ALICE, Denial.NOBODY_IS_CREATED),
        (Creation.DOMAINS, {**ALICE, "email_verified": False}, Denial.EMAIL_UNVERIFIED),
        (Creation.DOMAINS, {**ALICE, "email_verified": "false"}, Denial.EMAIL_UNVERIFIED),
        (Creation.DOMAINS, {"sub": "1", "email": "alice@acme.example"}, Denial.EMAIL_UNVERIFIED),
        (Creation.DOMAINS, {"sub": "1"}, Denial.EMAIL_UNVERIFIED),
        (Creation.DOMAINS, {**ALICE, "email": "alice@acme.example.evil.example"}, Denial.OTHER_DOMAIN),
        (Creation.DOMAINS, {**ALICE, "email": "alice@sub.acme.example"}, Denial.OTHER_DOMAIN),
        (Creation.DOMAINS, {**ALICE, "email": '"alice@acme.example"@evil.example'}, Denial.OTHER_DOMAIN),
        (Creation.DOMAINS, {**ALICE, "email": "alice@evil.example@acme.example"}, Denial.EMAIL_UNVERIFIED),
        (Creation.GROUPS, {**ALICE, "groups": ["visitors"]}, Denial.NOT_IN_A_GROUP),
        (Creation.GROUPS, {**ALICE, "groups": "staff,visitors"}, Denial.NOT_IN_A_GROUP),
        (Creation.GROUPS, {**ALICE, "groups": {"staff": True}}, Denial.NOT_IN_A_GROUP),
        (Creation.GROUPS, ALICE, Denial.NOT_IN_A_GROUP),
        ("something new", ALICE, Denial.NOBODY_IS_CREATED),
    ],
)
def test_somebody_outside_of_the_rule_is_not_made(
    provider: IdentityProvider, creation: str, claims: dict[str, Any], reason: Denial
) -> None:
    provider.creation = creation
    provider.allowed_domains, provider.allowed_groups = ["acme.example"], ["staff"]
    before = get_user_model().objects.count()
    assert person_for(provider, claims) == Denied(reason)
    assert get_user_model().objects.count() == before


@pytest.mark.requirement("F-209")
@pytest.mark.parametrize(
    ("creation", "claims"),
    [
        (Creation.DOMAINS, {**ALICE, "email": "Alice@ACME.Example"}),
        (Creation.DOMAINS, {**ALICE, "email_verified": "true"}),
        (Creation.GROUPS, {**ALICE, "groups": ["visitors", "staff"]}),
        (Creation.GROUPS, {**ALICE, "groups": "staff"}),
        (Creation.ANYBODY, {"sub": "1"}),
    ],
)
def test_somebody_within_the_rule_may_be_made(creation: str, claims: dict[str, Any]) -> None:
    assert may_create(of(creation=creation, allowed_domains=["@acme.example"], allowed_groups=["staff"]), claims)


def test_a_rule_only_says_who_is_made_and_people_who_exist_stay(provider: IdentityProvider) -> None:
    alice = person_for(provider, ALICE)
    provider.creation = Creation.NOBODY
    assert person_for(provider, ALICE) == alice


def test_a_personal_google_account_with_an_address_of_the_domain_is_not_of_the_organisation() -> None:
    google = of(preset=Preset.GOOGLE, creation=Creation.DOMAINS, allowed_domains=["acme.example", "gmail.com"])
    assert may_create(google, ALICE) == Denied(Denial.OTHER_DOMAIN)
    assert may_create(google, {**ALICE, "hd": "evil.example"}) == Denied(Denial.OTHER_DOMAIN)
    assert may_create(google, {**ALICE, "hd": "acme.example"})
    assert may_create(google, {**ALICE, "email": "alice@gmail.com"})


def test_an_address_in_entra_counts_only_with_a_verified_domain() -> None:
    claims = {"sub": "1", "email": "alice@acme.example"}
    assert verified_email(of(preset=Preset.MICROSOFT), claims) is None
    assert verified_email(of(preset=Preset.MICROSOFT), {**claims, "xms_edov": True}) == "alice@acme.example"
    assert verified_email(of(preset=Preset.OIDC), {**claims, "xms_edov": True}) is None


@pytest.mark.parametrize(
    ("path", "claims", "groups"),
    [
        ("groups", {"groups": ["a", 7, None, "b"]}, {"a", "b"}),
        ("realm_access.roles", {"realm_access": {"roles": ["a"]}}, {"a"}),
        ("https://acme.example/groups", {"https://acme.example/groups": ["a"]}, {"a"}),
        ("groups.names", {"groups": ["a"]}, set()),
        ("groups", {}, set()),
        ("groups", {"groups": 7}, set()),
    ],
)
def test_groups_are_read_where_the_provider_puts_them(path: str, claims: dict[str, Any], groups: set[str]) -> None:
    assert groups_of(of(groups_claim=path), claims) == groups


@pytest.mark.requirement("F-209")
def test_teams_follow_the_groups_and_other_teams_stay(
    cast: Cast, provider: IdentityProvider, django_assert_num_queries: Queries
) -> None:
    writers = Group.objects.create(name="writers")
    TeamMapping.objects.create(provider=provider, value="dev", team=writers)
    TeamMapping.objects.create(provider=provider, value="ops", team=writers)
    alice = person_for(provider, ALICE)
    alice.groups.add(cast.readers)

    assert sync_teams(alice, provider, {"groups": ["dev", "ops", "else"]})
    assert set(alice.groups.all()) == {cast.readers, writers}
    event = AuditEvent.objects.order_by("sequence").last()
    assert event is not None
    assert event.detail == {"event": "change", "teams_added": ["writers"], "teams_removed": []}

    with django_assert_num_queries(2):
        assert not sync_teams(alice, provider, {"groups": ["ops"]})
    assert sync_teams(alice, provider, {})
    assert set(alice.groups.all()) == {cast.readers}


def test_teams_stay_when_the_claims_do_not_tell_the_groups(cast: Cast, provider: IdentityProvider) -> None:
    TeamMapping.objects.create(provider=provider, value="dev", team=cast.readers)
    alice = person_for(provider, ALICE)
    sync_teams(alice, provider, {"groups": ["dev"]})
    assert not sync_teams(alice, provider, {"_claim_names": {"groups": "src1"}, "_claim_sources": {}})
    assert not sync_teams(alice, provider, {"hasgroups": True})
    provider.groups_claim = ""
    assert not sync_teams(alice, provider, {})
    assert cast.readers in alice.groups.all()


@pytest.mark.requirement("F-107")
def test_a_tenants_provider_opens_neither_superusers_nor_people_of_other_tenants(
    cast: Cast, provider: IdentityProvider
) -> None:
    for user in (cast.admin, cast.stranger, cast.member):
        UserSocialAuth.objects.create(user=user, provider="acme", uid=user.username)
    assert person_for(provider, {"sub": "admin"}) == Denied(Denial.OUT_OF_REACH)
    assert person_for(provider, {"sub": "stranger"}) == Denied(Denial.OUT_OF_REACH)
    assert person_for(provider, {"sub": "member"}) == cast.member
    provider.vouches_for_all = True
    assert person_for(provider, {"sub": "admin"}) == cast.admin
    assert person_for(provider, {"sub": "stranger"}) == cast.stranger


@pytest.mark.requirement("F-207", "T5")
def test_no_provider_signs_in_as_a_virtual_account(cast: Cast, provider: IdentityProvider) -> None:
    account = create_virtual_account(cast.tenant, name="robot", description="", actor="admin")
    UserSocialAuth.objects.create(user=account.user, provider="acme", uid="robot")
    provider.vouches_for_all = True
    assert person_for(provider, {"sub": "robot"}) == Denied(Denial.OUT_OF_REACH)
