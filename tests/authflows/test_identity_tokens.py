"""JWTs of the organisation's identity providers: whose they are, and every way for one not to open the door."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import connections
from hypothesis import given
from hypothesis import strategies as st
from social_django.models import UserSocialAuth

from authflows.inbound.api_keys import create_key
from authflows.inbound.bearer import Refusal, Unauthenticated, authenticate
from authflows.inbound.identity.identity_tokens import LEEWAY_SECONDS, LONGEST_LIFE_SECONDS, looks_like_jwt
from authflows.inbound.virtual_accounts import create_virtual_account
from authflows.models import AccountMapping, IdentityProvider, TeamMapping
from servers import changes
from servers.access import Principal
from servers.models import AuditEvent, Change
from tests.conftest import Cast, allow_private
from tests.support.issuer import Issuer, Signer, malformed, segment, signer, trust
from tests.support.other_process import run_elsewhere

NOW = 1_700_000_000.0
Queries = Callable[[int], Any]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer() as running:
        yield running


@pytest.fixture
def provider(cast: Cast, issuer: Issuer) -> IdentityProvider:
    return trust(issuer, cast.tenant)


def knock(
    token: str, *, now: float = NOW, path: str | None = None, may_load: bool = True
) -> Principal | Unauthenticated:
    return authenticate(f"Bearer {token}".encode(), now=now, path=path, may_load=may_load)


def let_in(token: str, *, now: float = NOW, path: str | None = None, may_load: bool = True) -> Principal:
    found = knock(token, now=now, path=path, may_load=may_load)
    assert isinstance(found, Principal), found
    return found


def person(subject: str = "1f3a", *, slug: str = "acme") -> Any:
    return UserSocialAuth.objects.get(provider=slug, uid=subject).user


# --- Who it is ----------------------------------------------------------------------------------------


@pytest.mark.requirement("F-208")
def test_a_jwt_is_a_person_who_is_made_on_first_use(cast: Cast, issuer: Issuer, provider: IdentityProvider) -> None:
    principal = let_in(issuer.mint(now=NOW, preferred_username="alice"))
    alice = person()
    assert principal == Principal(
        user_id=alice.pk,
        label="alice",
        active=True,
        tenants=frozenset({cast.tenant.pk}),
        teams=frozenset(),
        credential=principal.credential,
        credential_expires_at=NOW + 300 + LEEWAY_SECONDS,
    )
    assert not alice.has_usable_password()


@pytest.mark.requirement("F-208")
def test_somebody_who_signed_in_with_the_provider_is_the_same_person(
    cast: Cast, issuer: Issuer, provider: IdentityProvider
) -> None:
    UserSocialAuth.objects.create(user=cast.member, provider="acme", uid="1f3a")
    principal = let_in(issuer.mint(now=NOW, preferred_username="somebody.else"))
    assert (principal.user_id, principal.label) == (cast.member.pk, "member")
    assert principal.teams == {cast.readers.pk}


@pytest.mark.requirement("F-208", "SE-3")
def test_the_next_token_of_the_same_person_is_the_same_credential(issuer: Issuer, provider: IdentityProvider) -> None:
    first = let_in(issuer.mint(now=NOW, jti="1"))
    second = let_in(issuer.mint(now=NOW + 200, jti="2"), now=NOW + 200)
    other = let_in(issuer.mint(now=NOW, sub="2b"))
    assert first.credential == second.credential != other.credential
    assert first.credential.startswith(f"identity_provider:{provider.pk}:")
    assert len(first.credential) <= 80, "a call record has room for 80 characters"
    assert "1f3a" not in first.credential


@pytest.mark.requirement("F-208")
def test_the_steady_state_asks_neither_the_database_nor_the_provider(
    issuer: Issuer, provider: IdentityProvider, django_assert_num_queries: Queries
) -> None:
    token = issuer.mint(now=NOW)
    let_in(token)
    let_in(token)
    fetched = len(issuer.requests)
    with django_assert_num_queries(0):
        let_in(token, may_load=False)
    assert len(issuer.requests) == fetched == 2, "once the metadata, once the keys"
    # A new token of a known person costs who they are, their tenants and their teams; and no fetch.
    with django_assert_num_queries(3):
        let_in(issuer.mint(now=NOW, jti="next"))
    assert len(issuer.requests) == fetched


@pytest.mark.requirement("F-208")
def test_teams_follow_the_groups_of_the_token_and_are_written_only_when_they_change(
    cast: Cast, issuer: Issuer, provider: IdentityProvider
) -> None:
    TeamMapping.objects.create(provider=provider, value="dev", team=cast.readers)
    assert let_in(issuer.mint(now=NOW, groups=["dev", "else"])).teams == {cast.readers.pk}
    written = (Change.objects.count(), AuditEvent.objects.count())
    assert let_in(issuer.mint(now=NOW, groups=["dev"], jti="2")).teams == {cast.readers.pk}
    assert (Change.objects.count(), AuditEvent.objects.count()) == written
    assert let_in(issuer.mint(now=NOW, groups=[], jti="3")).teams == frozenset()


@pytest.mark.requirement("F-207", "F-208")
@pytest.mark.parametrize(("claim", "claims"), [("azp", {"azp": "batch"}), ("act.name", {"act": {"name": "batch"}})])
def test_a_mapped_claim_is_a_virtual_account(
    cast: Cast, issuer: Issuer, provider: IdentityProvider, claim: str, claims: dict[str, Any]
) -> None:
    account = create_virtual_account(cast.tenant, name="night-shift", description="", actor="admin")
    AccountMapping.objects.create(provider=provider, claim=claim, value="batch", virtual_account=account)
    people = get_user_model().objects.count()
    principal = let_in(issuer.mint(now=NOW, **claims))
    assert (principal.user_id, principal.label) == (account.user_id, "virtual account night-shift")
    assert get_user_model().objects.count() == people

    account.enabled = False
    account.save()
    assert knock(issuer.mint(now=NOW, **claims)) == Unauthenticated(Refusal.INACTIVE)
    assert let_in(issuer.mint(now=NOW, azp="batch2")).user_id == person().pk


@pytest.mark.requirement("F-107", "F-207")
def test_a_mapping_does_not_lead_into_another_tenant(cast: Cast, issuer: Issuer, provider: IdentityProvider) -> None:
    account = create_virtual_account(cast.other_tenant, name="theirs", description="", actor="admin")
    AccountMapping.objects.create(provider=provider, value="1f3a", virtual_account=account)
    assert knock(issuer.mint(now=NOW)) == Unauthenticated(Refusal.NOT_ADMITTED)


@pytest.mark.requirement("F-107", "T5")
def test_a_tenants_provider_cannot_name_a_superuser(cast: Cast, issuer: Issuer, provider: IdentityProvider) -> None:
    UserSocialAuth.objects.create(user=cast.admin, provider="acme", uid="1f3a")
    assert knock(issuer.mint(now=NOW)) == Unauthenticated(Refusal.NOT_ADMITTED)


@pytest.mark.requirement("F-208")
def test_nobody_is_made_where_an_admin_adds_people_first(issuer: Issuer, provider: IdentityProvider) -> None:
    provider.creation = IdentityProvider.Creation.NOBODY
    provider.save()
    before = get_user_model().objects.count()
    assert knock(issuer.mint(now=NOW)) == Unauthenticated(Refusal.NOT_ADMITTED)
    assert get_user_model().objects.count() == before


@pytest.mark.requirement("F-208")
def test_first_tokens_that_arrive_together_make_one_person(issuer: Issuer, provider: IdentityProvider) -> None:
    tokens = [issuer.mint(now=NOW, preferred_username="alice", jti=str(number)) for number in range(6)]

    def one(token: str) -> Principal:
        try:
            return let_in(token)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(max_workers=6) as pool:
        found = list(pool.map(one, tokens))
    assert {principal.user_id for principal in found} == {person().pk}
    assert get_user_model().objects.filter(username__startswith="alice").count() == 1
    assert (issuer.fetches(), issuer.fetches("/.well-known/openid-configuration")) == (1, 1)


@pytest.mark.requirement("F-208", "T5")
def test_several_providers_are_told_apart_by_the_issuer(cast: Cast, issuer: Issuer, provider: IdentityProvider) -> None:
    with Issuer() as second:
        trust(second, cast.other_tenant, slug="second", audiences=["other"])
        second.signers = [Signer("k1", "RS256", signer("second").private)]
        ours, theirs = let_in(issuer.mint(now=NOW)), let_in(second.mint(now=NOW, aud="other"))
        assert ours.user_id == person().pk
        assert theirs.user_id == person(slug="second").pk
        assert theirs.tenants == {cast.other_tenant.pk}
        # What one signs does not count as the other's, though it says so; nor does one's audience for the other.
        assert knock(second.mint(now=NOW, iss=issuer.url)) == Unauthenticated(Refusal.SIGNATURE)
        assert knock(issuer.mint(now=NOW, iss=second.url, aud="other")) == Unauthenticated(Refusal.SIGNATURE)
        assert knock(second.mint(now=NOW)) == Unauthenticated(Refusal.AUDIENCE)


# --- For whom it is -----------------------------------------------------------------------------------


def url_of(cast: Cast, endpoint: str = "server") -> str:
    return f"{settings.PUBLIC_URL}/default/mcp/{cast.server.slug}/{endpoint}"


@pytest.mark.requirement("F-208", "RS-14")
def test_a_jwt_for_one_mcp_url_opens_that_one_only(cast: Cast, issuer: Issuer, provider: IdentityProvider) -> None:
    path = f"/default/mcp/{cast.server.slug}/server"
    for audience in (url_of(cast), ["https://else.example", url_of(cast)]):
        token = issuer.mint(now=NOW, aud=audience)
        assert let_in(token, path=path).audience == path
        elsewhere = Unauthenticated(Refusal.ELSEWHERE)
        assert knock(token, path="/default/mcp/other/server") == elsewhere
        assert knock(token, path=path.upper()) == elsewhere
    both = issuer.mint(now=NOW, aud=[url_of(cast), "gatehouse"])
    assert let_in(both, path="/default/mcp/other/server").audience is None


@pytest.mark.requirement("F-208", "RS-14", "T5")
@pytest.mark.parametrize(
    "audience",
    [
        None,
        "",
        "else",
        "Gatehouse",
        "gatehouse ",
        [],
        [["gatehouse"]],
        ["gatehouse", 7],
        {"gatehouse": True},
        7,
        True,
        settings.PUBLIC_URL,
        f"{settings.PUBLIC_URL}/",
        f"{settings.PUBLIC_URL}/default/mcp/calculator/server/",
        f"{settings.PUBLIC_URL}/default/mcp/calculator/key",
        f"{settings.PUBLIC_URL}/default/mcp/calculator/server?a=b",
        "https://evil.example/default/mcp/calculator/server",
        [f"{settings.PUBLIC_URL}/default/mcp/{name}/server" for name in ("calculator", "other")],
    ],
)
def test_a_jwt_for_somebody_else_is_refused(issuer: Issuer, provider: IdentityProvider, audience: object) -> None:
    token = issuer.mint(now=NOW, aud=audience)
    assert knock(token, path="/default/mcp/calculator/server") == Unauthenticated(Refusal.AUDIENCE)


@pytest.mark.requirement("T5")
def test_without_configured_audiences_only_mcp_urls_count(cast: Cast, issuer: Issuer) -> None:
    trust(issuer, cast.tenant, audiences=[])
    assert knock(issuer.mint(now=NOW)) == Unauthenticated(Refusal.AUDIENCE)
    assert let_in(issuer.mint(now=NOW, aud=url_of(cast)), path="/default/mcp/calculator/server")


# --- When it is good ----------------------------------------------------------------------------------


@pytest.mark.requirement("F-208", "RS-14", "T5")
@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": NOW - 61}, Refusal.EXPIRED),
        ({"exp": 0}, Refusal.EXPIRED),
        ({"exp": -1}, Refusal.EXPIRED),
        ({"exp": None}, Refusal.CLAIMS),
        ({"exp": str(NOW + 300)}, Refusal.CLAIMS),
        ({"exp": True}, Refusal.CLAIMS),
        ({"exp": [NOW + 300]}, Refusal.CLAIMS),
        ({"exp": 10**400}, Refusal.CLAIMS),
        ({"exp": (NOW + 300) * 1000}, Refusal.CLAIMS),
        ({"exp": NOW + LONGEST_LIFE_SECONDS + 61}, Refusal.CLAIMS),
        ({"nbf": NOW + 61}, Refusal.CLAIMS),
        ({"nbf": "soon"}, Refusal.CLAIMS),
        ({"iat": NOW + 61}, Refusal.CLAIMS),
        ({"iat": []}, Refusal.CLAIMS),
        ({"sub": None}, Refusal.CLAIMS),
        ({"sub": ""}, Refusal.CLAIMS),
        ({"sub": 7}, Refusal.CLAIMS),
        ({"sub": "x" * 256}, Refusal.CLAIMS),
        ({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}, Refusal.CLAIMS),
        ({"cnf": {"jkt": "a"}}, Refusal.CLAIMS),
    ],
    ids=str,
)
def test_a_jwt_with_claims_that_do_not_do_is_refused(
    issuer: Issuer, provider: IdentityProvider, claims: dict[str, Any], reason: Refusal
) -> None:
    before = get_user_model().objects.count()
    assert knock(issuer.mint(now=NOW, **claims)) == Unauthenticated(reason)
    assert get_user_model().objects.count() == before


@pytest.mark.requirement("F-208")
@pytest.mark.parametrize(
    "claims",
    [
        {"exp": NOW - 59},
        {"exp": NOW + LONGEST_LIFE_SECONDS + 59},
        {"exp": NOW + 0.5},
        {"nbf": NOW + 59},
        {"iat": NOW + 59},
        {"iat": None},
        {"nbf": NOW - 10_000},
    ],
    ids=str,
)
def test_a_minute_of_clock_skew_is_tolerated(
    issuer: Issuer, provider: IdentityProvider, claims: dict[str, Any]
) -> None:
    assert let_in(issuer.mint(now=NOW, **claims))


@pytest.mark.requirement("F-208", "RS-7")
def test_a_jwt_that_ends_is_refused_though_it_is_in_memory(issuer: Issuer, provider: IdentityProvider) -> None:
    token = issuer.mint(now=NOW)
    let_in(token)
    let_in(token)
    end = NOW + 300 + LEEWAY_SECONDS
    assert let_in(token, now=end - 1, may_load=False)
    assert knock(token, now=end, may_load=False) == Unauthenticated(Refusal.EXPIRED)


# --- What is no JWT for us ----------------------------------------------------------------------------


@pytest.mark.requirement("T5", "RS-5", "RS-14", "F-208")
def test_what_is_no_jwt_for_us_is_refused_without_asking_anybody(
    issuer: Issuer, provider: IdentityProvider, django_assert_num_queries: Queries
) -> None:
    table = malformed(issuer, now=NOW)
    refused = Unauthenticated(Refusal.MALFORMED)
    with django_assert_num_queries(0):
        found = {name: (knock(token), knock(token, may_load=False)) for name, token in table.items()}
    assert found == dict.fromkeys(table, (refused, refused))
    assert issuer.requests == []
    assert let_in(issuer.mint(now=NOW)), "the one that the others are made from is good"


@pytest.mark.requirement("T5", "RS-14", "F-208")
def test_what_only_looks_like_a_jwt_of_the_provider_is_refused(issuer: Issuer, provider: IdentityProvider) -> None:
    good = issuer.mint(now=NOW)
    first, second, third = good.split(".")
    stranger = signer("k2")
    elliptic = signer("e1", "ES256")
    own = stranger.jwk()
    issuer.signers.append(elliptic)
    table = {
        "signature cut": good[:-4],
        "signature longer": f"{good}AAAA",
        "signature of another token": f"{first}.{second}.{issuer.mint(now=NOW, sub='2').split('.')[2]}",
        "claims of another token": f"{first}.{issuer.mint(now=NOW, sub='2').split('.')[1]}.{third}",
        "last letter not canonical": good[:-1] + chr(ord(good[-1]) + 1),
        "stranger's key, our kid": issuer.mint(now=NOW, by=Signer("k1", "RS256", stranger.private)),
        "stranger's key, no kid": issuer.mint(now=NOW, by=stranger, header={"kid": None}),
        "stranger's key, own kid": issuer.mint(now=NOW, by=stranger),
        "kid is a path": issuer.mint(now=NOW, header={"kid": "../../dev/null"}),
        "kid is SQL": issuer.mint(now=NOW, header={"kid": "' OR 1=1 --"}),
        "key in the header": issuer.mint(now=NOW, by=stranger, header={"jwk": own}),
        "key in the header, our kid": issuer.mint(now=NOW, by=stranger, header={"jwk": own, "kid": "k1"}),
        "jku": issuer.mint(now=NOW, by=stranger, header={"jku": f"{issuer.origin}/evil"}),
        "x5u": issuer.mint(now=NOW, by=stranger, header={"x5u": f"{issuer.origin}/evil", "kid": "k1"}),
        "x5c": issuer.mint(now=NOW, by=stranger, header={"x5c": ["AAAA"], "kid": "k1"}),
        "algorithm that is not on": issuer.mint(now=NOW, algorithm="RS512"),
        "algorithm of another kind of key": f"{segment({'alg': 'ES256', 'kid': 'k1'})}.{second}.{third}",
        "key of another kind": issuer.mint(now=NOW, by=Signer("k1", "ES256", elliptic.private)),
        "signed as something else": issuer.mint(now=NOW, header={"alg": "PS256"}),
    }
    found = {name: knock(token) for name, token in table.items()}
    assert found == dict.fromkeys(table, Unauthenticated(Refusal.SIGNATURE))
    assert issuer.fetches("/evil") == 0
    assert let_in(good)


@pytest.mark.requirement("T5", "F-208")
def test_nothing_is_fetched_for_an_issuer_that_nobody_configured(
    cast: Cast, issuer: Issuer, provider: IdentityProvider, django_assert_num_queries: Queries
) -> None:
    with Issuer() as stranger:
        allow_private(stranger.url)
        trust(stranger, cast.tenant, slug="off", enabled=False)
        let_in(issuer.mint(now=NOW))
        spellings = [f"{issuer.url}/", issuer.url.upper(), f" {issuer.url}", issuer.url.removeprefix("http://")]
        spellings += [stranger.url, "https://else.example", "http://169.254.169.254", "file:///etc/passwd", "acme"]
        with django_assert_num_queries(0):
            for name in spellings:
                assert knock(stranger.mint(now=NOW, iss=name)) == Unauthenticated(Refusal.ISSUER), name
                assert knock(issuer.mint(now=NOW, iss=name)) == Unauthenticated(Refusal.ISSUER), name
        assert stranger.requests == []


@pytest.mark.requirement("T5")
@pytest.mark.parametrize("off", [{"enabled": False}, {"accept_tokens": False}, {"preset": "github"}])
def test_a_provider_that_is_off_for_tokens_opens_nothing(cast: Cast, issuer: Issuer, off: dict[str, Any]) -> None:
    trust(issuer, cast.tenant, **off)
    assert knock(issuer.mint(now=NOW)) == Unauthenticated(Refusal.ISSUER)
    assert issuer.requests == []


@pytest.mark.requirement("T5")
@given(st.text(max_size=60), st.text(max_size=60), st.text(max_size=30))
def test_no_text_at_all_breaks_the_look_at_the_shape(first: str, second: str, third: str) -> None:
    assert not looks_like_jwt(f"{first}.{second}.{third}")
    assert not looks_like_jwt(f"eyJ{first}.eyJ{second}.{third}")
    assert not looks_like_jwt(f"{segment(first)}.{segment(second)}.{segment(third)}")


@pytest.mark.requirement("RS-14")
def test_our_keys_do_not_look_like_jwts(cast: Cast) -> None:
    _, key = create_key(owner=cast.member, name="k", actor="member")
    assert not looks_like_jwt(key)


@pytest.mark.parametrize("kind", [None, "JWT", "jwt", "at+jwt", "application/at+jwt"])
def test_the_types_of_access_tokens_are_accepted(issuer: Issuer, provider: IdentityProvider, kind: str | None) -> None:
    assert let_in(issuer.mint(now=NOW, header={"typ": kind}))


# --- When something changes ---------------------------------------------------------------------------


def _disable(provider: IdentityProvider) -> None:
    provider.enabled = False
    provider.save()


def _rename_issuer(provider: IdentityProvider) -> None:
    provider.issuer = "https://else.example"
    provider.save()


@pytest.mark.requirement("F-208", "T9", "RS-7")
@pytest.mark.parametrize(
    "change", [_disable, _rename_issuer, lambda provider: provider.delete()], ids=["off", "issuer", "deleted"]
)
def test_a_change_of_the_provider_ends_what_is_in_memory(
    issuer: Issuer, provider: IdentityProvider, change: Callable[[IdentityProvider], None]
) -> None:
    token = issuer.mint(now=NOW)
    let_in(token)
    let_in(token)
    let_in(token, may_load=False)
    change(provider)
    assert knock(token) == Unauthenticated(Refusal.ISSUER)


@pytest.mark.requirement("F-208", "T9")
def test_a_narrower_provider_narrows_tokens_in_memory(issuer: Issuer, provider: IdentityProvider) -> None:
    token = issuer.mint(now=NOW)
    let_in(token)
    provider.algorithms = ["ES256"]
    provider.save()
    assert knock(token) == Unauthenticated(Refusal.SIGNATURE)
    provider.algorithms, provider.audiences = [], ["else"]
    provider.save()
    assert knock(token) == Unauthenticated(Refusal.AUDIENCE)


@pytest.mark.requirement("F-207", "F-208", "T9")
def test_a_mapping_that_is_removed_no_longer_counts(cast: Cast, issuer: Issuer, provider: IdentityProvider) -> None:
    account = create_virtual_account(cast.tenant, name="robot", description="", actor="admin")
    mapping = AccountMapping.objects.create(provider=provider, value="1f3a", virtual_account=account)
    token = issuer.mint(now=NOW)
    assert let_in(token).user_id == account.user_id
    mapping.value = "else"
    mapping.save()
    assert let_in(token).user_id == person().pk
    mapping.value = "1f3a"
    mapping.save()
    assert let_in(token).user_id == account.user_id
    mapping.delete()
    assert let_in(token).user_id == person().pk


@pytest.mark.requirement("F-208", "T9", "T10")
def test_a_disabled_person_is_refused_at_once(issuer: Issuer, provider: IdentityProvider) -> None:
    token = issuer.mint(now=NOW)
    let_in(token)
    let_in(token)
    alice = person()
    alice.is_active = False
    alice.save()
    assert knock(token) == Unauthenticated(Refusal.INACTIVE)
    assert knock(issuer.mint(now=NOW, jti="next")) == Unauthenticated(Refusal.INACTIVE)


@pytest.mark.requirement("F-208", "T9")
def test_an_identity_that_moves_to_another_person_takes_its_tokens_along(
    cast: Cast, issuer: Issuer, provider: IdentityProvider
) -> None:
    token = issuer.mint(now=NOW)
    let_in(token)
    let_in(token)
    identity = UserSocialAuth.objects.get(provider="acme")
    identity.user = cast.member
    identity.save()
    assert let_in(token).user_id == cast.member.pk
    identity.delete()
    assert let_in(token).user_id not in (cast.member.pk,)


@pytest.mark.requirement("F-208", "T9")
def test_a_provider_that_another_process_disabled_is_refused_here(issuer: Issuer, provider: IdentityProvider) -> None:
    token = issuer.mint(now=NOW)
    changes.feed.poll()
    let_in(token)
    let_in(token)
    run_elsewhere(
        "from authflows.models import IdentityProvider\n"
        "row = IdentityProvider.objects.get(slug='acme')\n"
        "row.enabled = False\n"
        "row.save()"
    )
    changes.feed.poll()
    assert knock(token) == Unauthenticated(Refusal.ISSUER)


def test_the_time_of_tests_is_not_the_time_of_the_clock() -> None:
    assert abs(time.time() - NOW) > LONGEST_LIFE_SECONDS, "a check that reads the clock would go unnoticed"
