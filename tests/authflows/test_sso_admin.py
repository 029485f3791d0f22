"""Identity providers in the admin: made, checked, tested, mapped, deleted; and identities of people."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.test import Client

from authflows.inbound.identity import sso_settings
from authflows.inbound.identity.provider_secrets import client_secret_of
from authflows.models import Identity, IdentityProvider, TeamMapping
from servers.models import AuditEvent, Membership, StoredSecret
from tests.authflows.test_sso import ORIGIN
from tests.conftest import PASSWORD, Cast, allow_private
from tests.servers.test_admin_access import page, signed_in
from tests.support.odd_provider import OddProvider

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-209")]
ADD = "authflows_identityprovider_add"
CHANGE = "authflows_identityprovider_change"


@pytest.fixture
def odd() -> Iterator[OddProvider]:
    with OddProvider() as provider:
        provider.claims = {"preferred_username": "ada", "email": "ada@example.com", "email_verified": True}
        yield provider


@pytest.fixture
def tenant_admin(cast: Cast) -> Any:
    tina = get_user_model().objects.create_user("tina", "tina@example.com", PASSWORD)
    Membership.objects.filter(user=tina, tenant=cast.tenant).update(role=Membership.Role.ADMIN)
    return tina


def values(odd: OddProvider, **more: Any) -> dict[str, Any]:
    """What the form posts."""
    mappings = {
        f"{name}-{part}": 0
        for name in ("team_mappings", "account_mappings")
        for part in ("TOTAL_FORMS", "INITIAL_FORMS")
    }
    return {
        "preset": "oidc", "name": "Acme SSO", "slug": "acme", "issuer": odd.issuer, "enabled": "on", "sign_in": "on",
        "client_id": "gatehouse", "secret": "", "extra_scopes": "", "creation": "nobody", "allowed_domains": "",
        "allowed_groups": "", "username_claim": "", "groups_claim": "", "audiences": "", "jwks_url": "",
        "algorithms": "", **mappings, **more,
    }  # fmt: skip


def make(cast: Cast, odd: OddProvider, **more: Any) -> IdentityProvider:
    allow_private(odd.issuer)
    row = {"tenant": cast.tenant, "name": "Acme SSO", "slug": "acme", "issuer": odd.issuer, "client_id": "gatehouse"}
    return IdentityProvider.objects.create(**{**row, **more})


def text_of(response: Any) -> str:
    return html.unescape(response.content.decode())


def walked(client: Client, odd: OddProvider, provider: IdentityProvider, **answer: str) -> Any:
    """The whole of Test sign-in: there and back."""
    there = client.get(page("authflows_identityprovider_test", provider.pk))
    assert there.status_code == 302, there.content.decode()
    asked = parse_qs(urlsplit(there["Location"]).query)
    odd.nonce = asked["nonce"][0]
    query = urlencode({"state": asked["state"][0], **(answer or {"code": "c"})})
    return client.get(f"/sso/{provider.slug}/callback?{query}")


def at_origin(person: Any) -> Client:
    client = Client(headers={"host": urlsplit(ORIGIN).netloc})
    client.force_login(person)
    return client


def test_a_provider_is_made_with_the_defaults_of_its_kind_and_its_secret_goes_to_the_store(
    cast: Cast, odd: OddProvider, tenant_admin: Any
) -> None:
    allow_private(odd.issuer)
    client = signed_in(tenant_admin)
    assert f"{settings.PUBLIC_URL}/sso/<slug>/callback" in text_of(client.get(page(ADD)))
    response = client.post(page(ADD), values(odd, secret="canary-secret"))
    assert response.status_code == 302, text_of(response)
    row = IdentityProvider.objects.get()
    assert (row.username_claim, row.groups_claim, row.vouches_for_all) == ("preferred_username", "groups", False)
    assert row.client_secret == "secret://default:sign-in-acme:client-secret"
    assert client_secret_of(row) == "canary-secret"
    shown = text_of(client.get(page(CHANGE, row.pk)))
    assert "canary-secret" not in shown
    assert f"{settings.PUBLIC_URL}/sso/acme/callback" in shown
    assert "canary-secret" not in str(list(AuditEvent.objects.values()))
    assert AuditEvent.objects.filter(action="identity_provider:create", actor="tina").count() == 1
    client.post(page(CHANGE, row.pk), values(odd, name="Other name"))
    row.refresh_from_db()
    assert (row.name, client_secret_of(row)) == ("Other name", "canary-secret")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"preset": "okta", "issuer": ""}, "Enter the issuer, for example"),
        ({"preset": "microsoft", "issuer": "https://login.microsoftonline.com/common/v2.0"}, "every organisation"),
        ({"issuer": "https://sso.example.com/.well-known/openid-configuration"}, "the issuer is what stands before"),
        ({"issuer": "sso.example.com"}, "beginning with https://"),
        ({"client_id": ""}, "needs the client id"),
        ({"creation": "domains"}, "at least one domain"),
        ({"creation": "groups"}, "at least one group"),
        ({"creation": "domains", "allowed_domains": "not a domain"}, "Write a domain like example.com"),
        ({"preset": "github", "issuer": "", "creation": "anybody"}, "Everybody in the world"),
        ({"preset": "github", "issuer": "", "accept_tokens": "on"}, "GitHub makes no JWTs"),
        ({"algorithms": "HS256"}, "Use ES256"),
        ({"secret": "secret://default:none:none"}, "There is no secret"),
        ({"secret": "canary secret://x"}, "The reference is malformed"),
    ],
)
def test_what_cannot_work_is_said_at_its_field(
    cast: Cast, odd: OddProvider, more: dict[str, str], sentence: str
) -> None:
    allow_private(odd.issuer)
    response = signed_in(cast.admin).post(page(ADD), values(odd, **{"tenant": cast.tenant.pk, **more}))
    assert response.status_code == 200
    assert sentence in text_of(response)
    assert "canary" not in text_of(response)
    assert not IdentityProvider.objects.exists()


def test_an_issuer_that_does_not_answer_as_itself_is_not_saved_unless_switched_off(
    cast: Cast, odd: OddProvider
) -> None:
    allow_private(odd.issuer)
    client = signed_in(cast.admin)
    response = client.post(page(ADD), values(odd, tenant=cast.tenant.pk, issuer=f"{odd.issuer}/"))
    assert "a slash at the end counts" in text_of(response)
    assert "untick Enabled" in text_of(response)
    form = values(odd, tenant=cast.tenant.pk, issuer=f"{odd.issuer}/")
    del form["enabled"]
    assert client.post(page(ADD), form).status_code == 302
    row = IdentityProvider.objects.get()
    assert "a slash at the end counts" in text_of(client.post(page(CHANGE, row.pk), {**form, "enabled": "on"}))


@pytest.mark.requirement("T26")
def test_a_private_issuer_needs_its_address_allowed_first(cast: Cast, odd: OddProvider) -> None:
    response = signed_in(cast.admin).post(page(ADD), values(odd, tenant=cast.tenant.pk))
    assert "is a private address" in text_of(response)
    assert odd.asked == []


def test_check_shows_the_endpoints_or_the_failing_step(cast: Cast, odd: OddProvider) -> None:
    provider = make(cast, odd)
    client = signed_in(cast.admin)
    shown = text_of(client.get(page("authflows_identityprovider_check", provider.pk)))
    for found in (f"{odd.issuer}/authorize", f"{odd.issuer}/token", f"2 (EC, RSA) at {odd.issuer}/jwks"):
        assert found in shown
    odd.replies["/jwks"] = lambda: (500, {}, b"")
    shown = text_of(client.get(page("authflows_identityprovider_check", provider.pk)))
    assert "answers with status 500" in shown
    assert ">Failed<" in shown


def test_a_test_shows_claims_and_what_would_happen_and_does_nothing(cast: Cast, odd: OddProvider) -> None:
    provider = make(cast, odd, creation="anybody")
    TeamMapping.objects.create(provider=provider, value="engineering", team=Group.objects.create(name="platform"))
    odd.claims |= {"groups": ["engineering"], "note": "<script>alert(1)</script>"}
    client = at_origin(cast.admin)
    response = walked(client, odd, provider)
    shown = response.content.decode()
    assert "A new person would be made: ada" in shown
    for found in ("2001", "ada@example.com", "engineering", "platform"):
        assert found in shown
    assert "<script>alert" not in shown
    assert not Identity.objects.exists()
    assert not get_user_model().objects.filter(username="ada").exists()
    assert client.session["_auth_user_id"] == str(cast.admin.pk)


def test_a_test_says_who_is_meant_or_how_to_let_them_in(cast: Cast, odd: OddProvider) -> None:
    provider = make(cast, odd)
    client = at_origin(cast.admin)
    response = walked(client, odd, provider)
    assert "nobody has made an account" in text_of(response)
    assert "/admin/authflows/identity/add/?provider=acme&uid=2001" in text_of(response)
    Identity.objects.create(user=cast.member, provider="acme", uid="2001")
    assert "member would be signed in" in text_of(walked(client, odd, provider))
    shown = text_of(walked(client, odd, provider, error="access_denied", error_description="Not <b>today</b>"))
    assert "Not <b>today</b>" in shown
    assert "called off" in shown


def test_a_provider_that_is_off_can_be_tested_by_its_admins_and_by_nobody_else(cast: Cast, odd: OddProvider) -> None:
    provider = make(cast, odd, enabled=False)
    assert walked(at_origin(cast.admin), odd, provider).status_code == 200
    member = at_origin(cast.member)
    response = member.get(page("authflows_identityprovider_test", provider.pk))
    assert response["Location"].startswith("/admin/login/")
    assert member.get("/sso/acme/callback?code=c&state=s").status_code == 404


@pytest.mark.requirement("F-107")
def test_a_tenant_admin_sees_only_providers_of_the_tenant_that_open_its_own_accounts(
    cast: Cast, odd: OddProvider, tenant_admin: Any
) -> None:
    own = make(cast, odd)
    platform = make(cast, odd, slug="platform", vouches_for_all=True)
    other = make(cast, odd, slug="other", tenant=cast.other_tenant)
    client = signed_in(tenant_admin)
    assert client.get(page(CHANGE, own.pk)).status_code == 200
    for hidden in (platform, other):
        for name in (CHANGE, "authflows_identityprovider_check", "authflows_identityprovider_test"):
            assert client.get(page(name, hidden.pk)).status_code in (302, 403, 404)
        assert client.post(page(CHANGE, hidden.pk), values(odd, issuer="https://evil.example")).status_code != 200
    client.post(page(CHANGE, own.pk), values(odd, vouches_for_all="on"))
    own.refresh_from_db()
    assert not own.vouches_for_all


@pytest.mark.requirement("F-107")
def test_a_tenant_admin_gives_identities_only_to_people_of_the_tenant_alone(
    cast: Cast, odd: OddProvider, tenant_admin: Any
) -> None:
    make(cast, odd)
    client = signed_in(tenant_admin)
    add = page("authflows_identity_add")
    for person in (cast.admin, cast.stranger):
        response = client.post(add, {"user": person.pk, "provider": "acme", "uid": "2001"})
        assert response.status_code == 200
    response = client.post(add, {"user": cast.member.pk, "provider": "acme", "uid": "2001"})
    assert response.status_code == 302, text_of(response)
    assert Identity.objects.get().user == cast.member
    again = client.post(add, {"user": cast.manager.pk, "provider": "acme", "uid": "2001"})
    assert "signs somebody in already" in text_of(again)
    event = AuditEvent.objects.get(action="identity:add")
    assert (event.actor, event.detail) == ("tina", {"provider": "acme", "identity": "2001"})


def test_an_identity_stands_on_the_persons_page_and_can_be_taken_away(cast: Cast, odd: OddProvider) -> None:
    make(cast, odd)
    identity = Identity.objects.create(user=cast.member, provider="acme", uid="2001")
    client = signed_in(cast.admin)
    assert "2001" in text_of(client.get(page("auth_user_change", cast.member.pk)))
    response = client.post(page("authflows_identity_delete", identity.pk), {"post": "yes"})
    assert response.status_code == 302
    assert not Identity.objects.exists()
    assert AuditEvent.objects.filter(action="identity:remove", actor="admin").count() == 1


def test_deleting_a_provider_names_whose_sign_in_ends_and_ends_it(cast: Cast, odd: OddProvider) -> None:
    client = signed_in(cast.admin)
    allow_private(odd.issuer)
    client.post(page(ADD), values(odd, tenant=cast.tenant.pk, secret="canary-secret"))
    provider = IdentityProvider.objects.get()
    Identity.objects.create(user=cast.member, provider="acme", uid="2001")
    url = page("authflows_identityprovider_delete", provider.pk)
    assert "member signs in with it (2001)" in text_of(client.get(url))
    assert client.post(url, {"post": "yes"}).status_code == 302
    assert not IdentityProvider.objects.exists()
    assert not Identity.objects.exists()
    assert not StoredSecret.objects.exists()
    assert AuditEvent.objects.filter(action="identity_provider:delete").count() == 1


def test_groups_are_mapped_on_the_providers_page(cast: Cast, odd: OddProvider) -> None:
    provider = make(cast, odd)
    form = values(odd) | {
        "team_mappings-TOTAL_FORMS": 1,
        "team_mappings-0-provider": str(provider.pk),
        "team_mappings-0-value": "engineering",
        "team_mappings-0-team": cast.readers.pk,
    }
    assert signed_in(cast.admin).post(page(CHANGE, provider.pk), form).status_code == 302
    assert TeamMapping.objects.get().team == cast.readers
    fields = [e.detail["fields"] for e in AuditEvent.objects.filter(action="identity_provider:change")]
    assert ["team mappings"] in fields


# --- the operator's settings


DECLARED: dict[str, Any] = {
    "preset": "keycloak", "slug": "sso", "name": "Acme", "issuer": "https://kc.example.com/realms/acme",
    "client_id": "gatehouse", "client_secret": "canary-operator-secret", "creation": "domains",
    "allowed_domains": ["example.com"], "allowed_groups": [], "groups_claim": "", "username_claim": "",
    "extra_scopes": "",
}  # fmt: skip


def test_a_declared_provider_is_a_row_that_the_admin_only_shows(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "SSO", DECLARED)
    for _ in range(2):
        sso_settings.sync()
    row = IdentityProvider.objects.get()
    assert (row.managed, row.enabled, row.issuer, row.vouches_for_all) == (True, True, DECLARED["issuer"], True)
    assert (row.client_secret, client_secret_of(row)) == ("", "canary-operator-secret")
    assert AuditEvent.objects.filter(action__startswith="identity_provider:").count() == 1
    client = signed_in(cast.admin)
    shown = text_of(client.get(page(CHANGE, row.pk)))
    assert "canary" not in shown
    assert 'name="issuer"' not in shown
    client.post(page(CHANGE, row.pk), {"issuer": "https://evil.example", "team_mappings-TOTAL_FORMS": 0})
    assert client.get(page("authflows_identityprovider_delete", row.pk)).status_code == 403
    row.refresh_from_db()
    assert row.issuer == DECLARED["issuer"]


def test_a_declaration_that_changes_is_followed_and_one_that_goes_switches_off(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "SSO", DECLARED)
    sso_settings.sync()
    monkeypatch.setattr(settings, "SSO", {**DECLARED, "client_id": "other"})
    sso_settings.sync()
    assert IdentityProvider.objects.get().client_id == "other"
    monkeypatch.setattr(settings, "SSO", None)
    sso_settings.sync()
    row = IdentityProvider.objects.get()
    assert (row.managed, row.enabled) == (False, False)


def test_a_declaration_never_takes_over_a_provider_of_the_admin(
    cast: Cast, odd: OddProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(cast, odd, slug="sso")
    monkeypatch.setattr(settings, "SSO", DECLARED)
    sso_settings.sync()
    assert IdentityProvider.objects.get().issuer == odd.issuer
