"""The admin pages of OAuth clients in a real browser: made by hand, vouched for, revoked; looked at."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from authflows.models import Approval, OAuthClient, RegistrationPolicy
from tests.conftest import Cast
from tests.e2e.conftest import Window
from tests.e2e.test_portal_pages import fill_the_gateway, sign_in
from tests.support.gateway import LiveGateway

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.requirement("F-210")]


@pytest.mark.parametrize("look", ["light", "dark"])
def test_an_admin_makes_a_client_vouches_for_one_and_revokes_an_approval(
    gateway: LiveGateway, cast: Cast, look: str, request: pytest.FixtureRequest
) -> None:
    window: Window = request.getfixturevalue("window" if look == "light" else "dark_window")
    page, origin = window.page, gateway.origin

    def look_at(name: str) -> None:
        window.shoot(f"admin-{name}" if look == "light" else f"admin-{name}-dark")

    fill_the_gateway(cast)
    sign_in(page, origin, "admin")
    page.goto(f"{origin}/admin/")
    look_at("index")

    page.get_by_role("link", name="OAuth clients", exact=True).first.click()
    look_at("clients")
    page.get_by_role("link", name="Cursor").click()
    page.get_by_label("Verified").check()
    look_at("client")
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url(f"{origin}/admin/authflows/oauthclient/")
    assert OAuthClient.objects.get(name="Cursor").verified

    page.goto(f"{origin}/admin/authflows/oauthclient/add/")
    page.get_by_label("Name").fill("Reporting")
    page.get_by_label("Redirect URIs").fill("http://reports.example/callback")
    page.get_by_label("Confidential").check()
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Plain http is for loopback only")).to_be_visible()
    look_at("client-add")
    page.get_by_label("Redirect URIs").fill("https://reports.example/callback")
    page.get_by_role("button", name="Save", exact=True).click()
    secret = page.get_by_label("Client secret").input_value()
    assert len(secret) > 40
    look_at("client-secret")
    page.get_by_role("link", name="I have copied it").click()
    look_at("client-by-hand")
    assert secret not in page.content()
    page.get_by_role("button", name="Make a new secret").click()
    assert page.get_by_label("Client secret").input_value() != secret

    page.goto(f"{origin}/admin/authflows/approval/")
    look_at("approvals")
    page.get_by_role("link", name="Claude Code").click()
    look_at("approval")
    page.get_by_role("button", name="Revoke this approval").click()
    expect(page.get_by_text("Revoked: Claude Code for member on Calculator.")).to_be_visible()
    assert not Approval.objects.filter(client__name="Claude Code").exists()

    page.goto(f"{origin}/admin/")
    page.get_by_role("link", name="Registration policy", exact=True).first.click()
    page.get_by_label("Private redirect URIs").fill("cursor://anysphere.cursor-mcp/oauth/callback")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("The registration policy is saved.")).to_be_visible()
    look_at("client-rules")
    assert RegistrationPolicy.objects.get().private_redirect_uris == ["cursor://anysphere.cursor-mcp/oauth/callback"]

    page.goto(f"{origin}/admin/authflows/oauthclient/{OAuthClient.objects.get(name='Cursor').pk}/delete/")
    look_at("client-delete")
