"""Presets and imports in a real browser: from the gallery to a saved server, and from a client's file to several."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import expect

from servers.models import PrivateDestination, Server
from tests.conftest import Cast
from tests.e2e.conftest import Window
from tests.e2e.test_portal_pages import CONTRAST, STRUCTURE, sign_in
from tests.support.gateway import LiveGateway

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def look_at(window: Window, name: str) -> None:
    """Keep pictures; nothing sticks out, everything can be read, headings and labels are in order."""
    window.shoot(name)
    assert window.page.evaluate(CONTRAST) == []
    assert window.page.evaluate(STRUCTURE) == []


@pytest.mark.requirement("F-105")
def test_an_admin_finds_a_preset_and_saves_a_server_from_it(window: Window, gateway: LiveGateway, cast: Cast) -> None:
    PrivateDestination.objects.create(host="127.0.0.1", port=9)
    page = window.page
    sign_in(page, gateway.origin, "admin")
    page.goto(f"{gateway.origin}/admin/servers/server/")
    page.get_by_role("link", name="Add from preset").click()
    look_at(window, "presets")
    page.get_by_label("Find").fill("tickets issues github")
    page.get_by_role("button", name="Find").click()
    expect(page.get_by_role("status")).to_have_text("No preset has all of these words. Show all, or add the server "
        "with an empty form: its URL and Discover are often enough.")  # fmt: skip
    page.get_by_role("link", name="Show all").click()
    page.get_by_role("link", name="GitHub").filter(has_text="pull requests").click()
    callback = page.locator(".gh-callback code").first
    expect(callback).to_contain_text("/mcp-servers/oauth2/callback")
    expect(page.get_by_role("button", name="Copy").first).to_be_visible()
    look_at(window, "preset")
    page.get_by_role("link", name="Use this (Each person enters a personal access token)").click()
    expect(page.get_by_role("heading", name="Filled in from the preset GitHub")).to_be_visible()
    expect(page.get_by_label("Headers with placeholders")).to_have_value("Authorization: Bearer {{GITHUB_TOKEN}}")
    # A name that this machine can look up, since the provider's is not to be asked.
    page.get_by_label("Endpoint URL").fill("http://127.0.0.1:9/mcp/")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist .success")).to_be_visible()
    assert Server.objects.get(slug="github").preset == "github"


@pytest.mark.requirement("F-112")
def test_a_clients_file_is_looked_over_and_its_chosen_servers_added(
    window: Window, gateway: LiveGateway, cast: Cast
) -> None:
    PrivateDestination.objects.create(host="127.0.0.1", port=9)
    secret = "a-very-secret-value"
    file = {
        "mcpServers": {
            "tracker": {"url": "http://127.0.0.1:9/a", "headers": {"X-Key": secret}},
            "mail": {"url": "http://127.0.0.1:9/b", "headers": {"Authorization": "Bearer ${MAIL_TOKEN}"}},
            "elsewhere": {"url": "http://127.0.0.1:11/c"},
            "files": {"command": "npx", "args": ["-y", "server-filesystem"]},
            "<b>bold</b>": {"url": "ftp://x.example/"},
        }
    }
    page = window.page
    sign_in(page, gateway.origin, "admin")
    page.goto(f"{gateway.origin}/admin/servers/server/import/")
    page.get_by_label("Paste it here").fill(json.dumps(file))
    page.get_by_role("button", name="Show the preview").click()
    expect(page.get_by_text("<b>bold</b>")).to_be_visible()
    expect(page.get_by_role("checkbox")).to_have_count(3)
    assert secret not in page.content()
    look_at(window, "import-preview")
    page.get_by_role("button", name="Add the chosen servers").click()
    expect(page.get_by_text("127.0.0.1:11 is a private address")).to_be_visible()
    assert not Server.objects.filter(slug="tracker").exists()
    page.get_by_label("elsewhere").uncheck()
    page.get_by_role("button", name="Add the chosen servers").click()
    expect(page.get_by_text("2 servers added")).to_be_visible()
    assert set(Server.objects.values_list("slug", flat=True)) == {"calculator", "tracker", "mail"}
