"""The portal in a real browser: every page looked at, copying, keyboard, contrast."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Page, expect

from authflows.inbound import api_keys
from authflows.inbound.oauth import approvals
from authflows.models import ApiKey, Approval
from servers.models import AccessRule, AuthConfig, Role, Server, ServerGroup
from tests.conftest import PASSWORD, Cast
from tests.e2e.conftest import Window
from tests.support.gateway import LiveGateway
from tests.support.ide import make_client

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

# Every text against the ground that it really stands on (WCAG 2.2, 1.4.3).
CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const channel = (v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const ground = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] > 0.99) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode()); ) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility() || element.closest("script")) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(parse(style.color)), light(ground(element))].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) poor.push(`${ratio.toFixed(2)} ${node.data.trim().slice(0, 40)}`);
  }
  return poor;
}"""
# Every control has a name, every id is there once, headings do not skip a level.
STRUCTURE = """() => {
  const wrong = [];
  for (const field of document.querySelectorAll("input:not([type=hidden]), select, textarea"))
    if (!field.labels?.length && !field.ariaLabel) wrong.push(`no label: ${field.outerHTML.slice(0, 80)}`);
  for (const button of document.querySelectorAll("button, a[href]"))
    if (!button.textContent.trim() && !button.ariaLabel) wrong.push(`no name: ${button.outerHTML.slice(0, 80)}`);
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of new Set(ids)) if (ids.filter((i) => i === id).length > 1) wrong.push(`id twice: ${id}`);
  const levels = [...document.querySelectorAll("h1, h2, h3, h4")].map((h) => Number(h.tagName[1]));
  if (levels.filter((l) => l === 1).length !== 1) wrong.push(`headings of level 1: ${levels}`);
  levels.forEach((l, i) => i && l > levels[i - 1] + 1 && wrong.push(`heading level skipped: ${levels}`));
  return wrong;
}"""


def sign_in(page: Page, origin: str, name: str) -> None:
    page.goto(f"{origin}/portal/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{origin}/portal/")


def fill_the_gateway(cast: Cast) -> None:
    """Servers and keys in every state that the portal shows."""
    now = timezone.now()
    group = ServerGroup.objects.create(tenant=cast.tenant, slug="office", name="Office tools")
    AccessRule.objects.create(group=group, user=cast.member, role=Role.USER)
    for slug, name, health, enabled, description in (
        ("tickets", "Tickets", "ok", True, "Search, read and write tickets of the support desk. " * 4),
        ("crm", "Customer records", "failing", True, "Read-only access to the customer database."),
        ("mail", "Mail with a rather long name that somebody liked", "ok", False, ""),
        ("wiki", "Wiki", "unknown", True, "Pages of the internal wiki."),
    ):
        server = Server.objects.create(
            tenant=cast.tenant, group=group, slug=slug, name=name, url=f"http://127.0.0.1:9/{slug}",
            health=health, health_at=now - timedelta(hours=5), enabled=enabled, description=description,
        )  # fmt: skip
        AuthConfig.objects.create(server=server)
    Server.objects.filter(pk=cast.server.pk).update(health="ok", description="Adds and multiplies. A sample.")
    AccessRule.objects.create(server=cast.server, user=cast.member, role=Role.MANAGER)
    for name in ("Cursor on my laptop", "CI of the website", "Old phone", "Trial"):
        api_keys.create_key(owner=cast.member, name=name, actor="member", servers=None)
    key, _ = api_keys.create_key(
        owner=cast.member, name="Report script", actor="member", servers=list(Server.objects.filter(group=group))
    )
    ApiKey.objects.filter(pk=key.pk).update(expires_at=now + timedelta(days=3, minutes=5))
    ApiKey.objects.filter(name="Cursor on my laptop").update(
        last_used_at=now - timedelta(minutes=4), expires_at=now + timedelta(days=80)
    )
    ApiKey.objects.filter(name="Old phone").update(revoked_at=now)
    ApiKey.objects.filter(name="Trial").update(expires_at=now - timedelta(days=9))
    vs_code = "https://vscode.dev/oauth/client-metadata.json"
    for fields in (
        {"name": "Visual Studio Code", "registration_source": "cimd", "client_id": vs_code},
        {"name": "Cursor", "client_id": "one"},
        {"name": "Claude Code", "client_id": "two", "verified": True},
        {"name": "W" * 90, "client_id": "three", "enabled": False},
    ):
        approval = approvals.approve(
            cast.member, make_client(**fields), cast.server, redirect_host="a-long-name.of-a-host.example.com"
        )
    Approval.objects.exclude(pk=approval.pk).update(last_used_at=now - timedelta(hours=3), redirect_host="127.0.0.1")
    phone = Client(headers={"user-agent": "Mozilla/5.0 (Linux; Android 15) Chrome/140.0 Mobile Safari/537.36"})
    phone.post("/sign-in/", {"username": "member", "password": PASSWORD})


@pytest.mark.parametrize("look", ["light", "dark"])
def test_every_page_is_readable_labelled_and_fits_a_phone(
    gateway: LiveGateway, cast: Cast, look: str, request: pytest.FixtureRequest
) -> None:
    window: Window = request.getfixturevalue("window" if look == "light" else "dark_window")
    page, origin = window.page, gateway.origin
    window.expected_status = {404, 403, 410, 429}

    def look_at(name: str, path: str | None = None) -> None:
        if path is not None:
            page.goto(origin + path)
        window.shoot(f"portal-{name}" if look == "light" else f"portal-{name}-dark")
        assert page.evaluate(CONTRAST) == [], name
        assert page.evaluate(STRUCTURE) == [], name

    look_at("sign-in", "/sign-in/")
    page.get_by_label("Username").fill("nobody")
    page.get_by_label("Password").fill("wrong")
    for _ in range(6):
        page.get_by_label("Password").fill("wrong")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("alert").wait_for()
    look_at("sign-in-held-back")
    look_at("setup-unusable", "/setup/not-a-link")

    sign_in(page, origin, "outsider")
    look_at("servers-none")
    look_at("access-none", "/portal/access/")
    look_at("keys-none", "/portal/keys/")
    look_at("new-password", "/portal/password/")
    look_at("error-404", "/portal/servers/default/absent/")
    look_at("error-403", "/admin/")
    page.goto(f"{origin}/portal/")
    page.get_by_role("button", name="Sign out").click()

    fill_the_gateway(cast)
    sign_in(page, origin, "member")
    look_at("servers")
    look_at("server", "/portal/servers/default/calculator/")
    page.get_by_role("tab", name="VS Code").click()
    look_at("server-vs-code")
    page.get_by_role("tab", name="With a key").click()
    look_at("server-with-a-key")
    page.get_by_role("button", name="Make a key").click()
    page.get_by_text("Copy the key now.").wait_for()
    look_at("server-key-made")
    page.goto(f"{origin}/portal/servers/default/calculator/#sign-in-python")
    expect(page.get_by_role("tab", name="Python")).to_have_attribute("aria-selected", "true")
    look_at("server-python")
    look_at("server-failing", "/portal/servers/default/crm/")
    look_at("server-off", "/portal/servers/default/mail/")
    look_at("access", "/portal/access/")
    page.get_by_role("link", name="Revoke Cursor for Calculator").click()
    look_at("access-revoke")
    look_at("keys", "/portal/keys/")
    look_at("key-new", "/portal/keys/new/")
    page.get_by_label("Name", exact=True).fill("Editor")
    page.get_by_label("Expires").select_option("date")
    page.get_by_label("only the servers that I tick").check()
    page.get_by_role("button", name="Make the key").click()
    page.get_by_text("Tick at least one server.").wait_for()
    look_at("key-new-wrong")
    page.get_by_label("Expires").select_option("never")
    page.get_by_label("Tickets", exact=True).check()
    page.get_by_role("button", name="Make the key").click()
    page.get_by_role("heading", name="Your new key").wait_for()
    look_at("key-made")
    page.goto(f"{origin}/portal/keys/")
    page.get_by_role("link", name="Revoke the key Editor").click()
    look_at("key-revoke")


def test_a_key_is_made_copied_and_revoked_by_keyboard_alone(gateway: LiveGateway, cast: Cast, window: Window) -> None:
    page, origin = window.page, gateway.origin
    sign_in(page, origin, "member")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()

    page.goto(f"{origin}/portal/servers/default/calculator/")
    page.get_by_role("button", name="Copy the MCP URL").press("Enter")
    expect(page.get_by_text("Copied to the clipboard.")).to_be_attached()
    assert page.evaluate("navigator.clipboard.readText()") == f"{origin}/default/mcp/calculator/server"
    page.get_by_role("tab", name="Cursor").press("ArrowRight")
    expect(page.get_by_role("tab", name="Claude Code")).to_be_focused()
    expect(page.get_by_role("tabpanel", name="Claude Code")).to_be_visible()
    expect(page.locator("#sign-in-cursor")).to_be_hidden()
    page.get_by_role("tab", name="Sign in").press("ArrowRight")
    expect(page.get_by_role("tab", name="With a key")).to_be_focused()
    # The client that was chosen stays chosen under the other method.
    expect(page.locator("#key-claude-code")).to_be_visible()
    expect(page.locator("#key-cursor")).to_be_hidden()
    page.get_by_role("tab", name="Claude Code").press("End")
    expect(page.get_by_role("tab", name="curl")).to_be_focused()

    page.get_by_role("link", name="More choices").press("Enter")
    expect(page.get_by_label("Calculator")).to_be_checked()
    page.get_by_label("Name", exact=True).fill("keyboard")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Copy the key").press("Space")
    expect(page.get_by_text("Copied to the clipboard.")).to_be_attached()
    token = page.evaluate("navigator.clipboard.readText()")
    assert ApiKey.objects.get().digest == api_keys.digest_of(token)

    # Reloading the answer sends the form again; it makes no second key and does not show the first one.
    page.reload()
    page.get_by_text("was made already").wait_for()
    assert ApiKey.objects.count() == 1
    assert token not in page.content()
    page.go_back()
    assert token not in page.content()

    page.goto(f"{origin}/portal/keys/")
    page.get_by_role("link", name="Revoke the key keyboard").press("Enter")
    page.get_by_role("button", name="Revoke the key").press("Enter")
    page.get_by_text("is revoked").wait_for()
    assert ApiKey.objects.get().revoked_at is not None


def test_the_pages_work_without_scripts(gateway: LiveGateway, cast: Cast, browser) -> None:  # type: ignore[no-untyped-def]
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, gateway.origin, "member")
    page.get_by_role("link", name="Calculator").click()
    expect(page.get_by_text('"mcpServers"').first).to_be_visible()
    expect(page.get_by_text("claude mcp add").first).to_be_visible()
    expect(page.get_by_text("curl -sS")).to_be_visible()
    expect(page.get_by_role("button", name="Copy")).to_have_count(0)
    page.get_by_label("Name", exact=True).fill("plain")
    page.get_by_role("button", name="Make a key").click()
    expect(page.get_by_text("ghk_").first).to_be_visible()
    context.close()
