"""The sign-in to a virtual server in a real browser: an account, a key, something skipped, and back to the IDE."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import Page, expect

from authflows.models import Connection, OwnKey
from authflows.outbound import my_connections
from servers.models import AuthConfig, Server
from tests.authflows.test_authorize import url
from tests.conftest import Cast
from tests.e2e.conftest import FIELDS_OFF_SCREEN, Window
from tests.e2e.test_approval import Listener
from tests.e2e.test_portal_pages import CONTRAST, STRUCTURE, sign_in
from tests.support import connecting, keyed_server
from tests.support.gateway import LiveGateway
from tests.support.ide import make_client
from tests.support.keyed_server import GOOD, Vault, vault
from tests.support.oidc_provider import PASSWORD as THEIR_PASSWORD
from tests.support.oidc_provider import OidcProvider
from tests.support.virtual import add_server, virtual_server

pytestmark = [pytest.mark.browser, pytest.mark.node, pytest.mark.django_db(transaction=True)]
SMALL = {"width": 360, "height": 640}


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def running() -> Iterator[Vault]:
    with vault() as found:
        yield found


@pytest.fixture
def office(gateway: LiveGateway, cast: Cast, oidc_provider: OidcProvider, running: Vault) -> Server:
    """One URL for four: no account, an account at a real provider, a key, and one more account."""
    drive = connecting.make_server(cast, oidc_provider)
    safe = keyed_server.make_server(cast, running.url, API_KEY="Personal access token, from Vault → Settings → Tokens")
    tickets = add_server(cast, "tickets", "https://tickets.example.com/mcp")
    tickets.name = "Tickets of the support desk, with a long name"
    tickets.save()
    AuthConfig.objects.filter(server=tickets).update(
        method=AuthConfig.Method.OAUTH2, settings=drive.auth_config.settings
    )
    return virtual_server(
        cast, (cast.server, "calc"), (drive, "drive"), (safe, "vault"), (tickets, "tickets"), slug="office"
    )


def look_at(window: Window, name: str, look: str = "light") -> None:
    """Pictures on a desktop and a phone; readable, labelled, and nothing sticks out on a small phone."""
    page = window.page
    window.shoot(f"virtual-{name}" if look == "light" else f"virtual-{name}-dark")
    assert page.evaluate(CONTRAST) == [], name
    assert page.evaluate(STRUCTURE) == [], name
    before = page.viewport_size
    page.set_viewport_size(SMALL)  # type: ignore[arg-type]
    assert page.evaluate("document.documentElement.scrollWidth") <= SMALL["width"], name
    assert page.evaluate(FIELDS_OFF_SCREEN) == [], name
    page.set_viewport_size(before)  # type: ignore[arg-type]


def open_sign_in(page: Page, gateway: LiveGateway, listener: Listener, server: Server) -> None:
    ide = make_client(name="Example IDE", redirect_uris=listener.redirect_uri)
    page.goto(gateway.origin + url(ide, server, resource=gateway.origin + server.mcp_path))


def at_the_provider(page: Page, decision: str = "Allow") -> None:
    page.get_by_label("Account name").fill("ada")
    page.get_by_label("Password").fill(THEIR_PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_role("button", name=decision).click()


@pytest.mark.requirement("F-605", "F-201", "F-304", "F-308")
@pytest.mark.parametrize("look", ["light", "dark"])
def test_from_the_ide_through_the_members_back_to_the_ide(
    gateway: LiveGateway,
    cast: Cast,
    office: Server,
    listener: Listener,
    look: str,
    request: pytest.FixtureRequest,
) -> None:
    window: Window = request.getfixturevalue("window" if look == "light" else "dark_window")
    page = window.page
    window.expected_status = {400}
    sign_in(page, gateway.origin, "member")
    open_sign_in(page, gateway, listener, office)
    expect(page.get_by_role("heading", name="Let a program use Office?")).to_be_visible()
    expect(page.get_by_text("Drive with your account there, which you connect after you approve")).to_be_visible()
    look_at(window, "approve", look)
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("heading", name="Your accounts for Office")).to_be_visible()
    expect(page.get_by_text("0 of 3 done")).to_be_visible()
    look_at(window, "trip", look)

    # The provider says no first: another try, and it says yes.
    page.get_by_role("button", name="Connect Drive").click()
    at_the_provider(page, "Deny")
    expect(page.get_by_role("heading", name="Drive is not connected")).to_be_visible()
    look_at(window, "trip-denied", look)
    page.get_by_role("button", name="Connect again").click()
    # The provider knows them by now.
    page.get_by_role("button", name="Allow").click()
    expect(page.get_by_text("1 of 3 done")).to_be_visible()

    page.get_by_role("link", name="Enter key for Vault").click()
    look_at(window, "trip-key", look)
    field = page.get_by_label("Personal access token")
    field.fill("canary-wrong")
    page.get_by_role("button", name="Test and go on").click()
    expect(page.get_by_role("alert")).to_contain_text("Vault refused it")
    page.get_by_role("link", name="All accounts for Office").click()
    page.get_by_role("button", name="Skip Vault").click()
    expect(page.get_by_text("Skipped")).to_be_visible()
    look_at(window, "trip-half", look)
    page.get_by_role("link", name="Enter key for Vault").click()
    field.fill(GOOD)
    page.get_by_role("button", name="Test and go on").click()
    expect(page.get_by_text("2 of 3 done")).to_be_visible()
    page.get_by_role("button", name="Skip Tickets").click()
    expect(page.get_by_text("You can close this window.")).to_be_visible()
    assert listener.answers.get(timeout=5)["code"]
    assert Connection.objects.get().account_label == "ada@example.com"
    assert OwnKey.objects.get().user == cast.member

    # The next sign-in is short: what was skipped is asked for again, and can be left out again.
    open_sign_in(page, gateway, listener, office)
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("2 of 3 done")).to_be_visible()
    look_at(window, "trip-again", look)
    page.get_by_role("button", name="Go on without the rest").click()
    expect(page.get_by_text("You can close this window.")).to_be_visible()
    assert listener.answers.get(timeout=5)["code"]


@pytest.mark.requirement("F-605")
def test_the_whole_trip_by_keyboard_and_without_scripts(
    gateway: LiveGateway, cast: Cast, office: Server, listener: Listener, browser: object
) -> None:
    context = browser.new_context(java_script_enabled=False)  # type: ignore[attr-defined]
    page = context.new_page()
    sign_in(page, gateway.origin, "member")
    open_sign_in(page, gateway, listener, office)
    page.get_by_role("button", name="Approve").press("Enter")
    page.get_by_role("link", name="Enter key for Vault").press("Enter")
    page.get_by_label("Personal access token").fill(GOOD)
    page.get_by_label("Personal access token").press("Enter")
    expect(page.get_by_text("1 of 3 done")).to_be_visible()
    page.get_by_role("button", name="Skip Drive").press("Enter")
    page.get_by_role("button", name="Skip Tickets").press("Enter")
    expect(page.get_by_text("You can close this window.")).to_be_visible()
    assert listener.answers.get(timeout=5)["code"]
    context.close()


@pytest.mark.requirement("F-605", "F-304", "F-314")
@pytest.mark.parametrize("look", ["light", "dark"])
def test_every_page_about_a_virtual_server_is_readable_labelled_and_fits_a_small_phone(
    gateway: LiveGateway,
    cast: Cast,
    office: Server,
    look: str,
    request: pytest.FixtureRequest,
) -> None:
    window: Window = request.getfixturevalue("window" if look == "light" else "dark_window")
    page, origin = window.page, gateway.origin
    sign_in(page, origin, "member")
    look_at(window, "cards", look)
    page.goto(f"{origin}/portal/servers/default/office/")
    look_at(window, "page", look)
    page.get_by_role("button", name="Connect Now Drive").click()
    at_the_provider(page)
    page.wait_for_url(f"{origin}/portal/servers/default/office/")
    expect(page.get_by_text("1 of 3 connected")).to_be_visible()
    Connection.objects.update(state="needs_reconnect", last_error="invalid_grant")
    Server.objects.filter(slug="calculator").update(enabled=False)
    page.reload()
    look_at(window, "page-again", look)
    Connection.objects.update(state="connected", last_error="", last_used_at=timezone.now() - timedelta(hours=2))
    page.goto(f"{origin}/portal/connections/")
    look_at(window, "connections", look)
    tickets = Server.objects.get(slug="tickets")
    link = my_connections.link_for(cast.member, tickets, asked_by="Visual Studio Code", through_id=office.pk)
    page.goto(f"{origin}/connect/{link.pk}")
    look_at(window, "link", look)
    drive = Server.objects.get(slug="drive")
    link = my_connections.link_for(cast.member, drive, asked_by="Visual Studio Code", through_id=office.pk)
    page.goto(f"{origin}/connect/{link.pk}")
    expect(page.get_by_text("go on in Office")).to_be_visible()
    look_at(window, "link-done", look)
