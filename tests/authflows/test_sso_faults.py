"""Single sign-on with providers that are odd, hostile, down or different: what is believed, and what people see."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from social_django.models import Association, Nonce

from authflows.inbound.api_keys import create_key
from authflows.inbound.bearer import authenticate
from authflows.models import Identity, IdentityProvider, TeamMapping
from servers.audit import Action
from servers.models import AuditEvent, Membership, PrivateDestination
from servers.secrets.store import set_secret
from tests.authflows.test_sso import ORIGIN, assert_refused, leave
from tests.conftest import PASSWORD, Cast, allow_private
from tests.support.odd_provider import OddProvider, as_json
from tests.support.oidc_provider import keys

pytestmark = pytest.mark.django_db
ADA = {"preferred_username": "ada", "email": "ada@example.com", "email_verified": True, "name": "Ada Example"}


@pytest.fixture
def odd() -> Iterator[OddProvider]:
    with OddProvider() as provider:
        provider.claims = dict(ADA)
        yield provider


@pytest.fixture
def row(cast: Cast, odd: OddProvider) -> IdentityProvider:
    allow_private(odd.issuer)
    return IdentityProvider.objects.create(
        tenant=cast.tenant, name="Acme SSO", slug="acme", issuer=odd.issuer, client_id="gatehouse", creation="anybody"
    )


@pytest.fixture
def browser() -> Client:
    return Client(headers={"host": urlsplit(ORIGIN).netloc})


def answer(browser: Client, odd: OddProvider, **parameters: str | None) -> Any:
    """Leave, and come back with a code; `parameters` replace, add, or (None) take away."""
    asked = parse_qs(urlsplit(leave(browser)).query)
    odd.nonce = asked.get("nonce", [""])[0]
    sent = {"code": "a-code", "state": asked["state"][0], **parameters}
    query = urlencode({name: value for name, value in sent.items() if value is not None})
    return browser.get(f"/sso/acme/callback?{query}")


def signed_in(response: Any) -> Any:
    """The person who is signed in now."""
    assert response.status_code == 302, response.content.decode()
    return get_user_model().objects.get(pk=response.client.session["_auth_user_id"])


def change(row: IdentityProvider, **values: Any) -> None:
    for name, value in values.items():
        setattr(row, name, value)
    row.save()


# --- the answer itself


@pytest.mark.requirement("AZ-25")
def test_the_issuer_in_the_answer_must_be_the_one_that_was_asked(
    browser: Client, odd: OddProvider, row: IdentityProvider
) -> None:
    odd.metadata["authorization_response_iss_parameter_supported"] = True
    assert signed_in(answer(browser, odd, iss=odd.issuer)).username == "ada"
    browser.post("/sign-out/")
    for iss in ("https://other.example", f"{odd.issuer}/", None):
        before = odd.paths().count("/token")
        assert_refused(answer(browser, odd, iss=iss), 502, "Signing in with Acme SSO does not work")
        assert odd.paths().count("/token") == before


@pytest.mark.requirement("AZ-25")
def test_another_issuer_counts_as_wrong_even_where_none_is_announced(
    browser: Client, odd: OddProvider, row: IdentityProvider
) -> None:
    assert_refused(answer(browser, odd, iss="https://other.example"), 502, "Signing in with Acme SSO does not work")


@pytest.mark.requirement("AZ-25", "T25")
def test_an_error_from_another_issuer_shows_none_of_its_text(
    browser: Client, odd: OddProvider, row: IdentityProvider
) -> None:
    response = answer(browser, odd, code=None, error="x", error_description="CALL 555", iss="https://other.example")
    assert "CALL 555" not in assert_refused(response, 502, "Signing in with Acme SSO does not work")


@pytest.mark.requirement("T25")
def test_an_error_that_nobody_asked_for_shows_none_of_its_text(browser: Client, row: IdentityProvider) -> None:
    response = browser.get("/sso/acme/callback?error=access_denied&error_description=CALL+555&state=made-up")
    assert "CALL 555" not in assert_refused(response, 400, "This sign-in cannot go on")


@pytest.mark.requirement("T25")
def test_what_the_provider_says_is_escaped_short_and_called_its_words(
    browser: Client, odd: OddProvider, row: IdentityProvider
) -> None:
    said = "<script>alert(1)</script>\u202e\n" + "x" * 500
    response = answer(browser, odd, code=None, error="server_denied", error_description=said)
    text = response.content.decode()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "Acme SSO says:" in text
    assert "x" * 200 not in text
    assert "\u202e" not in text
    assert "default-src 'self'" in response.headers["Content-Security-Policy"]


@pytest.mark.requirement("F-209")
def test_calling_it_off_leads_to_another_try_that_keeps_the_way(
    browser: Client, odd: OddProvider, row: IdentityProvider
) -> None:
    state = parse_qs(urlsplit(leave(browser, "/sso/acme/start?next=/portal/keys/")).query)["state"][0]
    response = browser.get(f"/sso/acme/callback?error=access_denied&state={state}")
    text = assert_refused(response, 403, "You are not signed in")
    assert f'href="{ORIGIN}/sso/acme/start?next=%2Fportal%2Fkeys%2F"' in text
    assert not AuditEvent.objects.filter(action=Action.SIGN_IN_FAILED).exists()


# --- the ID token


@pytest.mark.requirement("AZ-25")
@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "somebody-else"},
        {"aud": ["gatehouse", "other"], "azp": "other"},
        {"iss": "https://other.example"},
        {"exp": 1_000_000_000},
        {"iat": 1_000_000_000},
        {"sub": None},
        {"exp": None},
    ],
    ids=str,
)
def test_an_id_token_that_is_not_for_us_and_now_is_refused(
    browser: Client, odd: OddProvider, row: IdentityProvider, claims: dict[str, Any]
) -> None:
    odd.claims |= claims
    response = answer(browser, odd)
    assert response.status_code in (400, 502)
    assert not Identity.objects.exists()
    assert "_auth_user_id" not in browser.session


@pytest.mark.requirement("AZ-25")
@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_an_id_token_without_a_signature_of_the_provider_is_refused(
    browser: Client, odd: OddProvider, row: IdentityProvider, algorithm: str
) -> None:
    odd.algorithm = algorithm
    assert_refused(answer(browser, odd), 502, "Signing in with Acme SSO does not work")


@pytest.mark.requirement("AZ-25")
def test_an_id_token_of_other_keys_is_refused(browser: Client, odd: OddProvider, row: IdentityProvider) -> None:
    odd.signed_by = keys("second")
    assert_refused(answer(browser, odd), 502, "Signing in with Acme SSO does not work")


@pytest.mark.requirement("AZ-25")
def test_only_algorithms_of_the_row_are_believed(browser: Client, odd: OddProvider, row: IdentityProvider) -> None:
    odd.algorithm = "ES256"
    assert signed_in(answer(browser, odd)).username == "ada"
    browser.post("/sign-out/")
    change(row, algorithms=["RS256"])
    assert_refused(answer(browser, odd), 502, "Signing in with Acme SSO does not work")


def test_a_clock_that_is_a_minute_off_is_forgiven(browser: Client, odd: OddProvider, row: IdentityProvider) -> None:
    now = int(time.time())
    odd.claims |= {"iat": now + 50, "nbf": now + 50, "exp": now + 350}
    assert signed_in(answer(browser, odd)).username == "ada"


@pytest.mark.requirement("AZ-25")
def test_claims_about_another_subject_are_not_mixed_in(
    browser: Client, odd: OddProvider, row: IdentityProvider
) -> None:
    odd.userinfo = {"sub": "9999", "preferred_username": "admin"}
    assert_refused(answer(browser, odd), 502, "Signing in with Acme SSO does not work")
    odd.userinfo = {"preferred_username": "admin"}
    assert_refused(answer(browser, odd), 502, "Signing in with Acme SSO does not work")


def test_the_signed_claims_win_over_those_of_the_claims_endpoint(
    browser: Client, odd: OddProvider, row: IdentityProvider
) -> None:
    odd.userinfo = {"sub": "2001", "preferred_username": "other", "email": "other@example.com"}
    user = signed_in(answer(browser, odd))
    assert (user.username, user.email) == ("ada", "ada@example.com")


def test_the_client_secret_goes_to_the_token_endpoint_and_nowhere_else(
    browser: Client, odd: OddProvider, row: IdentityProvider
) -> None:
    odd.metadata["token_endpoint_auth_methods_supported"] = ["client_secret_post", "client_secret_basic"]
    odd.userinfo = {"sub": "2001"}
    secret = set_secret(tenant=row.tenant, group="sso", key="s", value="canary&secret", actor="test")
    change(row, client_secret=secret.fqn)
    signed_in(answer(browser, odd))
    seen = [path for _, path, form, headers in odd.asked if "canary" in f"{form}{headers}"]
    assert seen == ["/token"]


# --- the provider's own description and addresses (T26)


@pytest.mark.requirement("T26")
def test_a_private_issuer_is_asked_only_when_an_admin_allowed_its_address(
    browser: Client, odd: OddProvider, row: IdentityProvider
) -> None:
    PrivateDestination.objects.get().delete()
    response = browser.get("/sso/acme/start")
    assert_refused(response, 502, "Signing in with Acme SSO does not work")
    assert odd.asked == []


@pytest.mark.requirement("T26")
@pytest.mark.parametrize("name", ["token_endpoint", "jwks_uri", "userinfo_endpoint"])
def test_an_endpoint_inside_our_network_is_not_asked(
    browser: Client, odd: OddProvider, row: IdentityProvider, name: str
) -> None:
    with OddProvider() as inside:
        inside.nonce = ""
        odd.metadata[name] = f"{inside.issuer}/inside"
        assert_refused(answer(browser, odd), 502, "Signing in with Acme SSO does not work")
        assert inside.asked == []


@pytest.mark.requirement("T26")
def test_no_redirect_of_the_provider_is_followed(browser: Client, odd: OddProvider, row: IdentityProvider) -> None:
    with OddProvider() as elsewhere:
        allow_private(elsewhere.issuer)
        odd.replies["/token"] = lambda: (307, {"Location": f"{elsewhere.issuer}/token"}, b"")
        assert_refused(answer(browser, odd), 502, "Signing in with Acme SSO does not work")
        assert elsewhere.asked == []


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "https://other.example"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": None},
        {"authorization_endpoint": "https://sso.example.com/" + "x" * 300},
        {"token_endpoint": 7},
        {"code_challenge_methods_supported": ["plain"]},
    ],
    ids=str,
)
@pytest.mark.requirement("AZ-25")
def test_a_description_that_does_not_fit_ends_before_the_browser_leaves(
    browser: Client, odd: OddProvider, row: IdentityProvider, metadata: dict[str, Any]
) -> None:
    odd.metadata |= metadata
    assert_refused(browser.get("/sso/acme/start"), 502, "Signing in with Acme SSO does not work")


@pytest.mark.parametrize(
    "reply",
    [
        (200, {}, b"<html>not JSON</html>"),
        (200, {}, b"[]"),
        (200, {}, b"{" + b" " * 2_000_000 + b"}"),
        (302, {"Location": "/elsewhere"}, b""),
        (404, {}, b"no"),
    ],
    ids=["text", "list", "huge", "redirect", "missing"],
)
def test_a_provider_that_answers_nonsense_gives_one_page(
    browser: Client, odd: OddProvider, row: IdentityProvider, reply: Any
) -> None:
    odd.replies["/.well-known/openid-configuration"] = lambda: reply
    assert_refused(browser.get("/sso/acme/start"), 502, "Signing in with Acme SSO does not work")


def test_a_provider_that_is_down_gives_one_page(browser: Client, odd: OddProvider, row: IdentityProvider) -> None:
    with OddProvider() as gone:
        pass
    allow_private(gone.issuer)
    change(row, issuer=gone.issuer)
    text = assert_refused(browser.get("/sso/acme/start"), 502, "Acme SSO does not answer")
    assert "Try again" in text


@pytest.mark.parametrize(
    ("reply", "status", "title"),
    [
        (as_json({"error": "invalid_grant"}, 400), 400, "This sign-in took too long"),
        (as_json({"error": "invalid_client"}, 401), 502, "Signing in with Acme SSO does not work"),
        (as_json({"error": "temporarily_unavailable"}, 503), 502, "Acme SSO does not answer"),
        (as_json({"access_token": "x"}), 502, "Signing in with Acme SSO does not work"),
        (as_json(["x"]), 502, "Signing in with Acme SSO does not work"),
        (as_json({"access_token": "x", "id_token": "a.b.c"}), 502, "Signing in with Acme SSO does not work"),
    ],
)
def test_each_answer_of_the_token_endpoint_ends_on_a_page(
    browser: Client, odd: OddProvider, row: IdentityProvider, reply: Any, status: int, title: str
) -> None:
    odd.replies["/token"] = lambda: reply
    assert_refused(answer(browser, odd), status, title)


@pytest.mark.parametrize("jwks", [{}, {"keys": "x"}, {"keys": [{"kty": "RSA", "n": 5, "kid": "first-rs256"}]}])
def test_keys_that_are_no_keys_end_on_a_page(
    browser: Client, odd: OddProvider, row: IdentityProvider, jwks: Any
) -> None:
    odd.replies["/jwks"] = lambda: as_json(jwks)
    assert_refused(answer(browser, odd), 502, "Signing in with Acme SSO does not work")


# --- who is let in


@pytest.mark.requirement("F-209")
def test_nobody_is_recognised_by_user_name_or_address(
    browser: Client, odd: OddProvider, row: IdentityProvider, cast: Cast
) -> None:
    odd.claims |= {"preferred_username": "Admin", "email": "admin@example.com"}
    user = signed_in(answer(browser, odd))
    assert user.pk != cast.admin.pk
    assert user.username.lower() != "admin"
    assert not user.is_superuser


@pytest.mark.requirement("F-209")
@pytest.mark.parametrize(
    ("values", "claims", "allowed"),
    [
        ({"creation": "nobody"}, {}, False),
        ({"creation": "domains", "allowed_domains": ["example.com"]}, {}, True),
        ({"creation": "domains", "allowed_domains": ["example.com"]}, {"email_verified": False}, False),
        ({"creation": "domains", "allowed_domains": ["example.com"]}, {"email": None}, False),
        ({"creation": "domains", "allowed_domains": ["example.com"]}, {"email": "ada@evil-example.com"}, False),
        ({"creation": "groups", "allowed_groups": ["staff"]}, {"groups": ["staff", "x"]}, True),
        ({"creation": "groups", "allowed_groups": ["staff"]}, {"groups": ["Staff"]}, False),
        ({"creation": "groups", "allowed_groups": ["staff"]}, {}, False),
        (
            {"creation": "groups", "allowed_groups": ["staff"], "groups_claim": "realm_access.roles"},
            {"realm_access": {"roles": ["staff"]}},
            True,
        ),
        ({"creation": "anybody"}, {"email": None, "preferred_username": None}, True),
    ],
)
def test_who_gets_an_account(
    browser: Client, odd: OddProvider, row: IdentityProvider, values: Any, claims: Any, allowed: bool
) -> None:
    change(row, **values)
    odd.claims |= claims
    response = answer(browser, odd)
    if allowed:
        assert signed_in(response).memberships.get().tenant_id == row.tenant_id
        return
    text = assert_refused(response, 403, "You have no account here")
    assert "Ask an admin" in text
    assert "2001" in text
    assert not Identity.objects.exists()


@pytest.mark.requirement("F-209")
@pytest.mark.parametrize(("hosted", "allowed"), [({"hd": "example.com"}, True), ({}, False), ({"hd": "x.com"}, False)])
def test_an_address_at_google_counts_only_with_the_organisation_behind_it(
    browser: Client, odd: OddProvider, row: IdentityProvider, hosted: dict[str, str], allowed: bool
) -> None:
    change(row, preset="google", creation="domains", allowed_domains=["example.com"], username_claim="email")
    odd.claims |= hosted
    response = answer(browser, odd)
    assert response.status_code == (302 if allowed else 403)


@pytest.mark.requirement("F-209")
def test_a_person_of_entra_is_told_by_their_object_id(browser: Client, odd: OddProvider, row: IdentityProvider) -> None:
    change(row, preset="microsoft")
    odd.claims |= {"oid": "0b1e"}
    user = signed_in(answer(browser, odd))
    assert Identity.objects.get(user=user).uid == "0b1e"


@pytest.mark.requirement("F-209", "T9")
def test_groups_that_were_left_out_keep_nobodys_old_teams(
    browser: Client, odd: OddProvider, row: IdentityProvider
) -> None:
    change(row, preset="microsoft")
    TeamMapping.objects.create(provider=row, value="g1", team=Group.objects.create(name="platform"))
    odd.claims |= {"_claim_names": {"groups": "src1"}, "_claim_sources": {"src1": {"endpoint": "https://graph.x"}}}
    assert_refused(answer(browser, odd), 403, "You are in too many groups")


@pytest.mark.requirement("T10")
def test_a_disabled_person_gets_one_clear_page(browser: Client, odd: OddProvider, row: IdentityProvider) -> None:
    user = signed_in(answer(browser, odd))
    browser.post("/sign-out/")
    user.is_active = False
    user.save()
    assert_refused(answer(browser, odd), 403, "Your account is disabled")
    event = AuditEvent.objects.get(action=Action.SIGN_IN_FAILED)
    assert (event.actor, event.detail["reason"]) == ("ada", "account_disabled")


@pytest.mark.requirement("F-209", "F-107")
@pytest.mark.parametrize("who", ["admin", "stranger"])
def test_a_provider_of_one_tenant_opens_no_account_that_reaches_further(
    browser: Client, odd: OddProvider, row: IdentityProvider, cast: Cast, who: str
) -> None:
    person = getattr(cast, who)
    Identity.objects.create(user=person, provider="acme", uid="2001")
    assert_refused(answer(browser, odd), 403, "Not this way")
    change(row, vouches_for_all=True)
    assert signed_in(answer(browser, odd)).pk == person.pk


@pytest.mark.requirement("F-209", "T9")
def test_teams_follow_the_groups_at_each_sign_in(
    browser: Client, odd: OddProvider, row: IdentityProvider, cast: Cast
) -> None:
    platform, other = Group.objects.create(name="platform"), Group.objects.create(name="by hand")
    TeamMapping.objects.create(provider=row, value="/engineering", team=platform)
    TeamMapping.objects.create(provider=row, value="readers", team=cast.readers)
    odd.claims["groups"] = ["/engineering", "unknown"]
    user = signed_in(answer(browser, odd))
    user.groups.add(other)
    assert set(user.groups.values_list("name", flat=True)) == {"platform", "by hand"}
    browser.post("/sign-out/")
    odd.claims["groups"] = "readers"
    signed_in(answer(browser, odd))
    assert set(user.groups.values_list("name", flat=True)) == {"readers", "by hand"}
    event = AuditEvent.objects.filter(action=Action.PERSON_CHANGE, detail__teams_added=["readers"]).get()
    assert event.detail["teams_removed"] == ["platform"]


@pytest.mark.requirement("T9")
def test_a_team_that_was_lost_at_the_provider_opens_no_server_any_more(
    browser: Client, odd: OddProvider, row: IdentityProvider, cast: Cast
) -> None:
    TeamMapping.objects.create(provider=row, value="readers", team=cast.readers)
    odd.claims["groups"] = ["readers"]
    user = signed_in(answer(browser, odd))
    _, token = create_key(owner=user, name="mine", actor="ada")
    header = f"Bearer {token}".encode()

    def teams() -> frozenset[int]:
        return authenticate(header, now=time.time()).teams  # type: ignore[union-attr]

    assert cast.readers.pk in teams()
    browser.post("/sign-out/")
    odd.claims["groups"] = []
    signed_in(answer(browser, odd))
    assert cast.readers.pk not in teams()


# --- GitHub


@pytest.fixture
def github(row: IdentityProvider, odd: OddProvider) -> IdentityProvider:
    change(row, preset="github", name="GitHub", extra_scopes="read:org", creation="groups", allowed_groups=["acme"])
    odd.github = {
        "user": {"id": 583231, "login": "octocat", "name": "Octo", "email": "shown@example.org"},
        "emails": [
            {"email": "second@example.com", "primary": False, "verified": True},
            {"email": "octocat@example.com", "primary": True, "verified": True},
        ],
        "orgs": [{"login": "acme"}],
        "teams": [{"slug": "platform", "organization": {"login": "acme"}}],
    }
    return row


@pytest.mark.requirement("F-209", "AZ-25")
def test_somebody_signs_in_with_github_by_number_and_verified_address(
    browser: Client, odd: OddProvider, github: IdentityProvider
) -> None:
    team = Group.objects.create(name="platform")
    TeamMapping.objects.create(provider=github, value="acme/platform", team=team)
    url = leave(browser)
    asked = parse_qs(urlsplit(url).query)
    assert url.startswith(f"{odd.issuer}/login/oauth/authorize?")
    assert set(asked["scope"][0].split(",")) == {"read:user", "user:email", "read:org"}
    assert asked["code_challenge_method"] == ["S256"]
    user = signed_in(answer(browser, odd))
    assert (user.username, user.email) == ("octocat", "octocat@example.com")
    assert list(user.groups.all()) == [team]
    assert Identity.objects.get(user=user).uid == "583231"
    exchange = next(form for _, path, form, _ in odd.asked if path == "/login/oauth/access_token")
    assert "code_verifier" in exchange


@pytest.mark.requirement("F-209")
@pytest.mark.parametrize(
    "emails", [[], [{"email": "octocat@example.com", "primary": True, "verified": False}]], ids=["none", "unverified"]
)
def test_an_address_that_github_has_not_verified_is_none(
    browser: Client, odd: OddProvider, github: IdentityProvider, emails: Any
) -> None:
    odd.github["emails"] = emails
    change(github, creation="domains", allowed_domains=["example.com", "example.org"])
    assert_refused(answer(browser, odd), 403, "You have no account here")


def test_a_stranger_at_github_gets_no_account(browser: Client, odd: OddProvider, github: IdentityProvider) -> None:
    odd.github |= {"orgs": [{"login": "other"}], "teams": []}
    assert_refused(answer(browser, odd), 403, "You have no account here")


# --- the pages around it


def test_a_provider_that_is_unknown_or_off_gives_a_page(browser: Client, row: IdentityProvider) -> None:
    change(row, enabled=False)
    for slug in ("acme", "nothing"):
        for page in ("start", "callback?code=x&state=y"):
            response = browser.get(f"/sso/{slug}/{page}")
            assert response.status_code == 404
            assert "No such way to sign in" in response.content.decode()
    assert "Acme SSO" not in browser.get("/sign-in/").content.decode()


def test_the_password_is_there_beside_the_providers(browser: Client, row: IdentityProvider, cast: Cast) -> None:
    text = browser.get("/sign-in/?next=/portal/keys/").content.decode()
    assert f'href="{ORIGIN}/sso/acme/start?next=%2Fportal%2Fkeys%2F"' in text
    response = browser.post("/sign-in/", {"username": "admin", "password": PASSWORD})
    assert response["Location"] == "/portal/"


def test_only_a_get_begins_or_ends_a_trip(browser: Client, row: IdentityProvider) -> None:
    for page in ("start", "callback"):
        assert browser.post(f"/sso/acme/{page}").status_code == 405
        assert browser.head(f"/sso/acme/{page}").status_code == 405


def test_somebody_who_is_signed_in_already_is_not_sent_round(
    browser: Client, odd: OddProvider, row: IdentityProvider, cast: Cast
) -> None:
    browser.force_login(cast.member)
    response = browser.get("/sso/acme/start?next=/portal/keys/")
    assert response["Location"] == "/portal/keys/"
    assert odd.asked == []


def test_answers_from_one_address_have_a_limit(
    browser: Client, row: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: now)
    for _ in range(60):
        assert browser.get("/sso/acme/callback?code=x&state=y").status_code == 400
    response = browser.get("/sso/acme/callback?code=x&state=y")
    assert response.status_code == 429
    assert int(response["Retry-After"]) >= 1


def test_a_person_of_another_tenant_stays_there(
    browser: Client, odd: OddProvider, row: IdentityProvider, cast: Cast
) -> None:
    change(row, tenant=cast.other_tenant)
    user = signed_in(answer(browser, odd))
    assert list(Membership.objects.filter(user=user).values_list("tenant__slug", flat=True)) == ["other"]


def test_trips_that_nobody_came_back_from_are_pruned(browser: Client, odd: OddProvider, row: IdentityProvider) -> None:
    leave(browser)
    call_command("prune")
    assert (Nonce.objects.count(), Association.objects.count()) == (1, 1)
    Nonce.objects.update(timestamp=int(time.time()) - 90_000)
    Association.objects.update(issued=int(time.time()) - 90_000)
    call_command("prune")
    assert (Nonce.objects.count(), Association.objects.count()) == (0, 0)
