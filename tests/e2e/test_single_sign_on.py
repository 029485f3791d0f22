"""Single sign-on in a real browser: pages of ours, of the provider, and back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from authflows.models import Identity, IdentityProvider, TeamMapping
from servers.secrets.store import set_secret
from tests.conftest import PASSWORD, Cast, allow_private
from tests.e2e.conftest import Window
from tests.e2e.test_portal_pages import CONTRAST, STRUCTURE
from tests.support.gateway import LiveGateway
from tests.support.oidc_provider import CLIENT_ID, CLIENT_SECRET, OidcProvider, Options
from tests.support.oidc_provider import PASSWORD as THEIR_PASSWORD

pytestmark = [
    pytest.mark.browser,
    pytest.mark.node,
    pytest.mark.django_db(transaction=True),
    pytest.mark.requirement("F-209"),
]


@pytest.fixture
def acme(gateway: LiveGateway, cast: Cast) -> Iterator[OidcProvider]:
    """The organisation's provider, with its row."""
    provider = OidcProvider(Options(redirect_uris=[f"{gateway.origin}/sso/acme/callback"]))
    allow_private(provider.issuer)
    secret = set_secret(tenant=cast.tenant, group="sso", key="acme", value=CLIENT_SECRET, actor="test")
    row = IdentityProvider.objects.create(
        tenant=cast.tenant,
        name="Acme SSO",
        slug="acme",
        issuer=provider.issuer,
        client_id=CLIENT_ID,
        client_secret=secret.fqn,
        extra_scopes="groups",
        creation=IdentityProvider.Creation.DOMAINS,
        allowed_domains=["example.com"],
    )
    TeamMapping.objects.create(provider=row, value="engineering", team=cast.readers)
    yield provider
    provider.stop()


def at_the_provider(page: Page, account: str) -> None:
    """Sign in on the provider's own pages."""
    page.get_by_label("Account name").fill(account)
    page.get_by_label("Password").fill(THEIR_PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_role("button", name="Allow").click()


@pytest.mark.parametrize("look", ["light", "dark"])
def test_somebody_signs_in_with_the_organisations_account_and_sees_their_servers(
    gateway: LiveGateway, acme: OidcProvider, look: str, request: pytest.FixtureRequest
) -> None:
    window: Window = request.getfixturevalue("window" if look == "light" else "dark_window")
    # The provider's pages have no icon, and the person is refused on purpose.
    window.expected_status |= {400, 403, 404}
    page = window.page
    suffix = "" if look == "light" else "-dark"

    def look_at(name: str) -> None:
        window.shoot(f"{name}{suffix}")
        assert page.evaluate(CONTRAST) == [], name
        assert page.evaluate(STRUCTURE) == [], name

    page.goto(f"{gateway.origin}/portal/keys/")
    way_in = page.get_by_role("link", name="Sign in with Acme SSO")
    expect(way_in).to_be_visible()
    expect(page.get_by_label("Username")).to_be_hidden()
    look_at("portal-sso-sign-in")
    page.get_by_text("Sign in with a password").click()
    expect(page.get_by_label("Username")).to_be_visible()
    look_at("portal-sso-password")
    way_in.click()
    at_the_provider(page, "ada")
    expect(page).to_have_url(f"{gateway.origin}/portal/keys/")
    page.get_by_role("link", name="Servers").click()
    expect(page.get_by_role("link", name="Calculator")).to_be_visible()

    page.goto(f"{gateway.origin}/portal/access/identities/")
    look_at("portal-identities")
    page.get_by_role("button", name="Sign out").click()
    page.context.clear_cookies()
    page.goto(f"{gateway.origin}/sign-in/")
    page.get_by_role("link", name="Sign in with Acme SSO").click()
    at_the_provider(page, "bob")
    expect(page.get_by_role("heading", name="You have no account here")).to_be_visible()
    expect(page.get_by_text("1002")).to_be_visible()
    look_at("portal-sso-no-account")
    page.goto(f"{gateway.origin}/sso/acme/callback?code=x&state=y")
    expect(page.get_by_role("link", name="Try again")).to_be_visible()
    look_at("portal-sso-lost")


def test_an_admin_sets_a_provider_up_and_tests_it(
    gateway: LiveGateway, acme: OidcProvider, cast: Cast, window: Window
) -> None:
    page = window.page
    window.expected_status |= {404}
    page.goto(f"{gateway.origin}/admin/authflows/identityprovider/")
    page.get_by_text("Sign in with a password").click()
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()

    page.get_by_role("link", name="Add identity provider").first.click()
    page.get_by_label("Preset").select_option("keycloak")
    expect(page.get_by_text("In the realm add a client")).to_be_visible()
    expect(page.get_by_text("In the Okta admin console")).to_be_hidden()
    expect(page.get_by_label("Allowed domains")).to_be_hidden()
    page.get_by_label("Who may be created").select_option("domains")
    expect(page.get_by_label("Allowed domains")).to_be_visible()
    page.get_by_label("Preset").select_option("google")
    expect(page.get_by_label("Issuer")).to_have_value("https://accounts.google.com")
    page.get_by_label("Name", exact=False).first.press_sequentially("Google here")
    expect(page.get_by_text(f"{gateway.origin}/sso/google-here/callback")).to_be_visible()
    window.shoot("admin-identity-provider-add")

    page.goto(f"{gateway.origin}/admin/authflows/identityprovider/")
    page.get_by_role("link", name="Acme SSO").click()
    page.get_by_role("link", name="Check").click()
    expect(page.get_by_text("The provider can be asked")).to_be_visible()
    window.shoot("admin-identity-provider-check")
    page.get_by_role("link", name="Test sign-in").click()
    at_the_provider(page, "ada")
    expect(page.get_by_text("A new person would be made: ada")).to_be_visible()
    window.shoot("admin-identity-provider-test")
    assert not Identity.objects.exists()
