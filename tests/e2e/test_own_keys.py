"""Own keys in a real browser: in the sign-in from a client, on the portal's pages, and set by a manager."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from authflows.models import OwnKey
from authflows.outbound import my_connections
from servers.models import AccessRule, AuthConfig, Role, Server
from tests.authflows.test_authorize import url
from tests.conftest import Cast
from tests.e2e.conftest import Window
from tests.e2e.test_approval import Listener
from tests.e2e.test_portal_pages import CONTRAST, STRUCTURE, sign_in
from tests.support.gateway import LiveGateway
from tests.support.ide import make_client
from tests.support.keyed_server import BETTER, GOOD, Vault, make_server, vault

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


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


@pytest.mark.requirement("F-308", "F-201", "F-314")
@pytest.mark.parametrize("look", ["light", "dark"])
def test_from_the_ide_through_approval_and_the_own_key_back_to_the_ide(
    gateway: LiveGateway,
    cast: Cast,
    running: Vault,
    listener: Listener,
    look: str,
    request: pytest.FixtureRequest,
) -> None:
    window: Window = request.getfixturevalue("window" if look == "light" else "dark_window")
    page, origin = window.page, gateway.origin
    window.expected_status = {400}

    def look_at(name: str) -> None:
        window.shoot(f"own-key-{name}" if look == "light" else f"own-key-{name}-dark")
        assert page.evaluate(CONTRAST) == [], name
        assert page.evaluate(STRUCTURE) == [], name

    server = make_server(cast, running.url, API_KEY="Personal access token, from Vault → Settings → Tokens")
    ide = make_client(name="Example IDE", redirect_uris=listener.redirect_uri)
    sign_in(page, origin, "member")

    # Approve, a wrong key, then a good one, and straight on to the program.
    page.goto(origin + url(ide, server, resource=origin + server.mcp_path))
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_role("heading", name="One more step for Vault")).to_be_visible()
    look_at("step")
    field = page.get_by_label("Personal access token")
    expect(field).to_have_attribute("type", "password")
    field.fill("canary-wrong")
    page.get_by_role("button", name="Test and go on").click()
    expect(page.get_by_role("alert")).to_contain_text("Vault refused it")
    expect(field).to_have_value("")
    look_at("step-refused")
    field.fill(f"Bearer {GOOD}")
    page.get_by_role("button", name="Test and go on").click()
    expect(page.get_by_text("You can close this window.")).to_be_visible()
    assert listener.answers.get(timeout=5)["code"]
    assert OwnKey.objects.get().user == cast.member
    # The next time nothing is asked; without the key, Cancel says no to the program.
    page.goto(origin + url(ide, server, resource=origin + server.mcp_path))
    assert listener.answers.get(timeout=5)["code"]
    OwnKey.objects.all().delete()
    page.goto(origin + url(ide, server, resource=origin + server.mcp_path))
    page.get_by_role("button", name="Cancel").click()
    assert listener.answers.get(timeout=5)["error"] == "access_denied"


@pytest.mark.requirement("F-308", "F-309", "F-210")
@pytest.mark.parametrize("look", ["light", "dark"])
def test_every_page_of_own_keys_is_readable_labelled_and_fits_a_phone(
    gateway: LiveGateway, cast: Cast, running: Vault, look: str, request: pytest.FixtureRequest
) -> None:
    window: Window = request.getfixturevalue("window" if look == "light" else "dark_window")
    page, origin = window.page, gateway.origin
    window.expected_status = {400}

    def look_at(name: str, path: str | None = None) -> None:
        if path is not None:
            page.goto(origin + path)
        window.shoot(f"own-key-{name}" if look == "light" else f"own-key-{name}-dark")
        assert page.evaluate(CONTRAST) == [], name
        assert page.evaluate(STRUCTURE) == [], name

    two = (("Authorization", "Bearer {{API_KEY}}"), ("X-Team", "{{TEAM}}"))
    server = make_server(cast, running.url, *two, TEAM="Team number, from the address bar")
    sign_in(page, origin, "member")
    look_at("server-missing", "/portal/servers/default/vault/")
    page.get_by_role("link", name="Enter your key").click()
    look_at("enter")
    page.get_by_label("API key").fill(f"Bearer {GOOD}")
    page.get_by_role("button", name="Test and keep").click()
    expect(page.get_by_text("Enter a value.")).to_be_visible()
    page.get_by_label("API key").fill(f"Bearer {GOOD}")
    page.get_by_label("Team number").fill("7")
    page.get_by_label("Last day").fill(f"{timezone.now() + timedelta(days=2):%Y-%m-%d}")
    page.get_by_role("button", name="Test and keep").click()
    expect(page.get_by_text("Vault accepted your key")).to_be_visible()
    look_at("server-entered")
    OwnKey.objects.update(set_by="manager", last_used_at=timezone.now())
    look_at("replace", "/portal/servers/default/vault/own-key/")
    more = Server.objects.create(
        tenant=cast.tenant, slug="more", name="A server that nobody answers at", url="http://127.0.0.1:9/mcp"
    )
    AuthConfig.objects.create(server=more, method=AuthConfig.Method.OWN_HEADER, settings=server.auth_config.settings)
    AccessRule.objects.create(server=more, user=cast.member)
    look_at("list", "/portal/connections/")
    page.get_by_role("link", name="Enter your key for A server").click()
    page.get_by_label("API key").fill(GOOD)
    page.get_by_label("Team number").fill("7")
    page.get_by_role("button", name="Test and keep").click()
    expect(page.get_by_role("alert")).to_contain_text("could not be asked")
    look_at("untested")
    page.get_by_label("API key").fill(GOOD)
    page.get_by_label("Team number").fill("7")
    page.get_by_label("Keep it untested").check()
    page.get_by_role("button", name="Test and keep").click()
    expect(page.get_by_text("is kept untested")).to_be_visible()
    OwnKey.objects.filter(server=more).update(refused_at=timezone.now())
    look_at("list-refused", "/portal/connections/")
    page.get_by_role("link", name="Remove your key for Vault").click()
    look_at("remove")
    page.get_by_role("button", name="Remove the key").click()
    expect(page.get_by_text("Your key for Vault is removed here.")).to_be_visible()
    link = my_connections.link_for(cast.member, server, asked_by="Visual Studio Code")
    look_at("link", f"/connect/{link.pk}")


@pytest.mark.requirement("F-309")
def test_a_manager_sets_a_key_for_somebody(gateway: LiveGateway, cast: Cast, running: Vault, window: Window) -> None:
    page, origin = window.page, gateway.origin
    server = make_server(cast, running.url)
    AccessRule.objects.create(server=server, user=cast.manager, role=Role.MANAGER)
    sign_in(page, origin, "manager")
    page.goto(f"{origin}/admin/servers/server/{server.pk}/change/")
    page.get_by_role("link", name="0 own keys (Auth Overrides)").click()
    window.shoot("overrides-none")
    page.get_by_role("link", name="Add").last.click()
    window.shoot("overrides-set")
    page.get_by_label("For:").select_option("member")
    page.get_by_label("API key:").fill("canary-wrong")
    page.get_by_role("button", name="Test and keep").click()
    expect(page.get_by_text("Vault refused it")).to_be_visible()
    window.shoot("overrides-refused")
    page.get_by_label("API key:").fill(BETTER)
    page.get_by_label("Comment:").fill("for the audit")
    page.get_by_role("button", name="Test and keep").click()
    expect(page.get_by_text("Set for member: Vault accepted it.")).to_be_visible()
    window.shoot("overrides-one")
    assert "canary" not in page.content()
    page.goto(f"{origin}/admin/authflows/ownkey/")
    window.shoot("overrides-list")
    page.get_by_role("link", name="member").click()
    page.get_by_role("button", name="Remove this key").click()
    expect(page.get_by_text("Removed: the key of member for Vault.")).to_be_visible()
    assert not OwnKey.objects.exists()
