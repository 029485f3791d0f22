"""The form of an OAuth2 server in a real browser: fields, Discover, what will happen, what ends with a change."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from authflows.models import Connection
from servers.models import AuthConfig
from servers.oauth_settings import OAuthSettings
from tests.authflows.test_admin_upstream import connect
from tests.conftest import PASSWORD, Cast, allow_private
from tests.e2e.conftest import Window
from tests.e2e.test_portal_pages import CONTRAST
from tests.support.described_server import DescribedServer, as_json
from tests.support.gateway import LiveGateway

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.requirement("F-104", "F-303", "F-313", "F-315"),
]


@pytest.fixture
def described() -> Iterator[DescribedServer]:
    with DescribedServer() as running:
        running.protected_by(running.issues(), scopes_supported=["read", "write"])
        running.documents["/register"] = as_json({"client_id": "c-1", "client_secret": "s"}, 201)
        yield running


@pytest.mark.parametrize("look", ["light", "dark"])
def test_an_admin_discovers_saves_and_is_asked_before_connections_of_others_end(
    gateway: LiveGateway, cast: Cast, described: DescribedServer, look: str, request: pytest.FixtureRequest
) -> None:
    window: Window = request.getfixturevalue("window" if look == "light" else "dark_window")
    page, suffix = window.page, "" if look == "light" else "-dark"

    def look_at(name: str) -> None:
        window.shoot(f"{name}{suffix}")
        assert page.evaluate(CONTRAST) == [], name

    allow_private(described.url)
    page.goto(f"{gateway.origin}/admin/servers/server/{cast.server.pk}/change/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()

    expect(page.get_by_label("App ID")).to_be_hidden()
    expect(page.get_by_role("heading", name="Provider's quirks")).to_be_hidden()
    page.get_by_label("Authentication type").select_option("passthrough")
    expect(page.get_by_text("the caller's own credential goes on to this server")).to_be_visible()
    look_at("admin-server-passthrough")
    page.get_by_label("Authentication type").select_option("own_header")
    expect(page.get_by_label("Headers with placeholders")).to_be_visible()
    look_at("admin-server-own-header")
    page.get_by_label("Authentication type").select_option("oauth2")
    expect(page.get_by_label("App ID")).to_be_visible()
    expect(page.get_by_text(f"{gateway.origin}/api/svc/v1/llm-gateway/mcp-servers/oauth2/callback")).to_be_visible()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()

    page.get_by_label("Endpoint URL").fill(described.url)
    page.get_by_role("button", name="Discover").click()
    expect(page.get_by_text("Look it over and save")).to_be_visible()
    expect(page.get_by_label("Token endpoint")).to_have_value(f"{described.origin}/token")
    expect(page.get_by_label("Scopes")).to_have_value("read write")
    expect(page.get_by_label("App ID")).to_be_hidden()
    expect(page.get_by_text("Each person is asked once")).to_be_visible()
    page.get_by_role("heading", name="Provider's quirks").click()
    page.get_by_label("Leave out PKCE").check()
    expect(page.locator(".gh-plan").get_by_text("A code that somebody catches")).to_be_visible()
    look_at("admin-server-oauth2")
    page.get_by_label("Leave out PKCE").uncheck()
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    found = OAuthSettings.read(AuthConfig.objects.get(server=cast.server).settings)
    assert (found.registration, found.discovered, found.pkce) == ("dynamic", True, True)

    cast.server.refresh_from_db()
    connect(cast.member, cast.server)
    page.goto(f"{gateway.origin}/admin/authflows/connection/")
    expect(page.get_by_text("ada@example.com")).to_be_visible()
    look_at("admin-connections")
    page.get_by_role("link", name="member").click()
    look_at("admin-connection")
    page.goto(f"{gateway.origin}/admin/servers/server/{cast.server.pk}/change/")
    page.locator("#id_issuer").fill("https://other.example")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("This change ends credentials of other people")).to_be_visible()
    expect(page.get_by_text("member: connected as ada@example.com")).to_be_visible()
    look_at("admin-server-ending")
    assert Connection.objects.exists()
    page.get_by_label("Type calculator to confirm").fill("calculator")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was changed successfully")).to_be_visible()
    assert not Connection.objects.exists()
