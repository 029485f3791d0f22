"""Why can't I? in a real browser: from a server's page to the step that refuses, and on to what helps."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from servers.models import AccessRule, AuthConfig
from servers.own_header import OwnHeaderSettings
from tests.conftest import Cast
from tests.e2e.conftest import Window
from tests.e2e.test_portal_pages import CONTRAST, STRUCTURE, sign_in
from tests.support.gateway import LiveGateway

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def _sound(window: Window, name: str) -> None:
    window.shoot(name)
    assert window.page.evaluate(CONTRAST) == []
    assert window.page.evaluate(STRUCTURE) == []


def _takes_own_keys(cast: Cast) -> None:
    found = OwnHeaderSettings((("Authorization", "Bearer {{API_KEY}}"),), {})
    AuthConfig.objects.filter(server=cast.server).update(method=AuthConfig.Method.OWN_HEADER, settings=found.stored())


@pytest.mark.requirement("F-503")
def test_a_person_comes_from_the_server_to_the_step_that_refuses_and_to_what_helps(
    gateway: LiveGateway, cast: Cast, window: Window
) -> None:
    _takes_own_keys(cast)
    page = window.page
    sign_in(page, gateway.origin, "member")
    page.goto(f"{gateway.origin}/portal/servers/default/calculator/")
    page.get_by_role("link", name="Why can’t I?").click()
    expect(page.locator("#why-answer")).to_contain_text("You cannot use Calculator")
    _sound(window, "why-refused")
    page.get_by_role("link", name="Enter your key").click()
    page.wait_for_url("**/portal/servers/default/calculator/own-key/")


@pytest.mark.requirement("F-503")
def test_an_outsider_learns_nothing_and_what_to_do(gateway: LiveGateway, cast: Cast, dark_window: Window) -> None:
    page = dark_window.page
    sign_in(page, gateway.origin, "outsider")
    page.goto(f"{gateway.origin}/portal/why/")
    _sound(dark_window, "why-empty-dark")
    page.get_by_label("MCP URL").fill(f"{gateway.origin}/default/mcp/calculator/server")
    page.keyboard.press("Enter")
    expect(page.locator("#why-answer")).to_contain_text("nobody has given you access")
    expect(page.locator("main")).not_to_contain_text("Calculator")
    _sound(dark_window, "why-unknown-dark")


@pytest.mark.requirement("F-503")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_manager_asks_about_a_person_and_comes_to_the_rule(
    gateway: LiveGateway, cast: Cast, request: pytest.FixtureRequest, theme: str
) -> None:
    window: Window = request.getfixturevalue("window" if theme == "light" else "dark_window")
    AccessRule.objects.filter(team=cast.readers).delete()
    page = window.page
    sign_in(page, gateway.origin, "manager")
    page.goto(f"{gateway.origin}/admin/servers/server/{cast.server.pk}/change/")
    page.get_by_role("link", name="Why can’t they?").click()
    page.get_by_label("Person or virtual account").fill("member")
    page.get_by_role("button", name="Explain").click()
    expect(page.locator("#gh-why-answer")).to_contain_text("member cannot use Calculator")
    window.shoot(f"why-admin-{theme}")
    assert page.evaluate(CONTRAST) == []
    page.locator(".gh-why-fix").get_by_role("link", name="The server").click()
    page.wait_for_url(f"**/admin/servers/server/{cast.server.pk}/change/")


@pytest.mark.requirement("F-606")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_help_is_read_without_signing_in(
    gateway: LiveGateway, cast: Cast, request: pytest.FixtureRequest, theme: str
) -> None:
    window: Window = request.getfixturevalue("window" if theme == "light" else "dark_window")
    page = window.page
    page.goto(f"{gateway.origin}/portal/help/")
    _sound(window, f"help-{theme}")
    page.get_by_role("link", name="It worked, and stopped").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("It worked, and stopped")
    _sound(window, f"help-topic-{theme}")
    page.get_by_role("link", name="Wait, or tell its manager").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("The server does not answer")
