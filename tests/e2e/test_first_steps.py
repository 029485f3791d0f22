"""From the one-time link to a tool call: the way of a newcomer, in a browser and with a real MCP client."""

from __future__ import annotations

import asyncio
import importlib.util
import io
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from django.contrib.auth import get_user_model
from django.core.management import call_command
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from playwright.sync_api import Browser, expect

from servers.models import AccessRule, Role, Server, ServerGroup, Tenant
from tests.e2e.conftest import Window, open_window
from tests.support.gateway import LiveGateway, UvicornThread

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

CALCULATOR = Path(__file__).resolve().parents[2] / "examples" / "calculator" / "server.py"
PASSWORD = "a long enough phrase"


@pytest.fixture
def calculator() -> Iterator[UvicornThread]:
    """The sample server, on a loopback port."""
    spec = importlib.util.spec_from_file_location("calculator_example", CALCULATOR)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with UvicornThread(module.server.streamable_http_app(), lifespan="on") as running:
        yield running


async def call_with_sdk(url: str, key: str, *, mode: str) -> tuple[list[str], Any, str]:
    """What the SDK's client sees through the gateway: tools, the sum of 19 and 23, the protocol version."""
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=30) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode, cache=None) as client,
    ):
        tools = await client.list_tools()
        answer = await client.call_tool("add", {"a": 19, "b": 23})
        return [tool.name for tool in tools.tools], answer.structured_content, client.protocol_version


def in_thread(function: Any, *args: Any, **options: Any) -> Any:
    """The coroutine's result; Playwright keeps this thread's event loop busy."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(function(*args, **options))).result()


def refused(url: str, key: str) -> int:
    """The status of a call with this key."""
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    headers = {"Authorization": f"Bearer {key}", "Accept": "application/json, text/event-stream"}
    return httpx2.post(url, json=body, headers=headers).status_code


@pytest.mark.requirement("F-101", "F-102", "F-103", "F-206", "F-301", "F-501", "F-701")
def test_a_newcomer_goes_from_the_link_to_a_tool_call(
    gateway: LiveGateway, calculator: UvicornThread, window: Window, browser: Browser
) -> None:
    page, origin = window.page, gateway.origin
    Tenant.objects.get_or_create(slug="default", defaults={"name": "Default"})
    out = io.StringIO()
    call_command("first_admin_link", "--quiet", stdout=out)

    # The first admin.
    page.goto(out.getvalue().strip())
    expect(page).to_have_url(f"{origin}/setup/")
    page.get_by_label("Username").fill("ada")
    page.get_by_label("E-mail address").fill("ada@example.com")
    page.get_by_label("Password", exact=True).fill("short")
    page.get_by_label("Password confirmation").fill("short")
    page.get_by_role("button", name="Create the account").click()
    expect(page.get_by_text("at least 12 characters").first).to_be_visible()
    window.shoot("walk-01-first-admin")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password confirmation").fill(PASSWORD)
    page.get_by_role("button", name="Create the account").click()
    page.wait_for_url(f"{origin}/admin/")
    window.shoot("walk-02-admin")

    # A colleague.
    page.goto(f"{origin}/admin/auth/user/add/")
    page.locator("#id_username").fill("grace")
    for field in ("password1", "password2"):
        page.locator(f"#id_{field}").fill("another long phrase")
    page.locator("[name=_save]").click()
    page.wait_for_url("**/admin/auth/user/**/change/**")

    # A group, and a server in it.
    page.goto(f"{origin}/admin/servers/servergroup/add/")
    page.locator("#id_name").press_sequentially("Mathematics")
    expect(page.locator("#id_slug")).to_have_value("mathematics")
    window.shoot("walk-03-add-group")
    page.locator("[name=_save]").click()
    page.wait_for_url(f"{origin}/admin/servers/servergroup/")
    group = ServerGroup.objects.get()
    page.goto(f"{origin}/admin/servers/server/add/?group={group.pk}")
    page.locator("#id_name").press_sequentially("Desk calculator")
    page.locator("#id_description").fill("Adds, subtracts, multiplies and divides.")
    page.locator("#id_url").fill(f"{calculator.origin}/mcp")
    expect(page.locator(".form-row.field-headers")).to_be_hidden()

    # Test connection: a private address is refused until the admin allows it.
    page.get_by_role("button", name="Test connection").click()
    expect(page.locator("#gh-test-result")).to_contain_text("private address")
    page.get_by_role("button", name="and test again").click()
    result = page.locator("#gh-test-result .gh-ok")
    expect(result).to_contain_text("2026-07-28")
    expect(result).to_contain_text("calculator")
    assert result.locator("dt", has_text="Tools").locator("xpath=following-sibling::dd[1]").inner_text() == "4"
    window.shoot("walk-04-add-server")
    page.locator("[name=_save]").click()
    page.wait_for_url(f"{origin}/admin/servers/server/")
    server = Server.objects.get()
    assert (server.slug, server.group) == ("desk-calculator", group)
    assert server.health == Server.Health.OK, "the test before the save counts"
    window.shoot("walk-05-servers")

    # The colleague becomes a collaborator.
    page.goto(f"{origin}/admin/servers/server/{server.pk}/change/")
    picker = page.locator(".field-user .select2-selection").first
    picker.scroll_into_view_if_needed()
    picker.click()
    page.locator(".select2-search__field").fill("gra")
    page.locator(".select2-results__option", has_text="grace").click()
    window.shoot("walk-06-collaborator")
    page.locator("[name=_save]").click()
    page.wait_for_url(f"{origin}/admin/servers/server/")
    grace = get_user_model().objects.get(username="grace")
    assert AccessRule.objects.get(server=server, user=grace).role == Role.USER

    # She signs in, finds the server and makes a key.
    context, hers = open_window(browser)
    page = hers.page
    page.goto(origin)
    page.get_by_label("Username").fill("grace")
    page.get_by_label("Password").fill("another long phrase")
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{origin}/portal/")
    expect(page.get_by_role("link", name="Administration")).to_have_count(0)
    hers.shoot("walk-07-portal")
    page.get_by_role("link", name="Desk calculator").click()
    url = page.locator("#url").inner_text()
    assert url == gateway.mcp_url(server)
    page.get_by_role("tab", name="With a key").click()
    page.get_by_label("Name", exact=True).fill("SDK")
    page.get_by_role("button", name="Make a key").click()
    key = page.locator("#the-key").inner_text()
    page.get_by_role("tabpanel", name="With a key").get_by_role("tab", name="curl").click()
    expect(page.locator("#key-curl-1")).to_have_text(f"export GATEHOUSE_KEY={key}")
    curl = page.locator("#key-curl-2").inner_text()
    hers.shoot("walk-08-key")

    # A real client calls a tool with it, in both protocol eras; so does the line for a shell.
    for mode, version in (("legacy", "2025-11-25"), ("auto", "2026-07-28")):
        names, result_of_add, spoken = in_thread(call_with_sdk, url, key, mode=mode)
        assert names == ["add", "subtract", "multiply", "divide"]
        assert result_of_add == {"result": 42}
        assert spoken == version
    shell = subprocess.run(
        ["bash", "-c", curl], env={**os.environ, "GATEHOUSE_KEY": key}, capture_output=True, text=True, timeout=60
    )
    assert '"serverInfo"' in shell.stdout, shell.stderr

    # She sees that it was used, revokes it, and the same call is refused at once.
    page.get_by_role("link", name="My access").first.click()
    deadline = time.monotonic() + 15  # stamps are written in batches
    while page.get_by_text("not yet", exact=True).count() and time.monotonic() < deadline:
        page.reload()
    expect(page.locator(".key time").last).to_have_text("just now")
    page.get_by_role("link", name="Revoke the key SDK").click()
    page.get_by_role("button", name="Revoke the key").click()
    expect(page.locator(".state.revoked")).to_have_text("Revoked")
    assert refused(url, key) == 401
    hers.shoot("walk-09-revoked")
    context.close()
    assert hers.trouble == []
