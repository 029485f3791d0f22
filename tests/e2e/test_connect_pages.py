"""The pages of Connect Now in a real browser: every one looked at, and the way there and back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from authflows.models import Connection
from authflows.outbound import connections, my_connections
from authflows.outbound.registration import client_for
from authflows.outbound.token_endpoint import TokenAnswer
from servers.models import AccessRule, AuthConfig, Server
from servers.oauth_settings import OAuthSettings
from tests.conftest import Cast
from tests.e2e.conftest import Window
from tests.e2e.test_portal_pages import CONTRAST, STRUCTURE, sign_in
from tests.support.connecting import make_server
from tests.support.faulty_provider import Asked, FaultyProvider, Reply, redirect
from tests.support.gateway import LiveGateway

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SCOPES = ("files.read", "files.write", "offline_access")


@pytest.fixture
def provider() -> Any:
    with FaultyProvider() as running:
        yield running


def allow_as(provider: FaultyProvider, account: str, **changes: str | None) -> None:
    """Whoever comes to the provider is sent straight back."""

    def answer(asked: Asked) -> Reply:
        return redirect(provider.sign_in(f"?{urlencode(asked.form)}", account, **changes), 302)

    provider.replies["/authorize"] = answer


def another(cast: Cast, first: Server, slug: str, name: str, **changes: Any) -> Server:
    """One more server with the same provider."""
    server = Server.objects.create(tenant=cast.tenant, slug=slug, name=name, url=f"https://{slug}.example.com/mcp")
    stored = first.auth_config.settings | changes
    AuthConfig.objects.create(server=server, method=AuthConfig.Method.OAUTH2, settings=stored)
    AccessRule.objects.create(server=server, user=cast.member)
    return Server.objects.select_related("auth_config", "tenant").get(pk=server.pk)


def connect_directly(cast: Cast, server: Server, account: str, **row: Any) -> Connection:
    """What a person has after a trip."""
    client = client_for(server, OAuthSettings.read(server.auth_config.settings))
    answer = TokenAnswer("an-access-token", "a-refresh-token", 3600, " ".join(SCOPES))
    made = connections.store(
        user=cast.member,
        server=server,
        client=client,  # type: ignore[arg-type]
        answer=answer,
        requested_scope="",
        account_label=account,
        account_subject=account,
        lifetime_seconds=3600,
    )
    Connection.objects.filter(pk=made.pk).update(**row)
    return made


def fill(cast: Cast, provider: FaultyProvider) -> Server:
    """A connection in every state that there is; returns the server that is not connected."""
    now = timezone.now()
    drive = make_server(cast, provider, scopes=SCOPES, userinfo_endpoint=f"{provider.issuer}/userinfo")
    used = {"last_used_at": now - timedelta(minutes=4), "refreshed_at": now - timedelta(minutes=30)}
    connect_directly(cast, another(cast, drive, "tickets", "Tickets"), "ada@example.com", **used)
    long_name = another(cast, drive, "mail", "Mail with a rather long name that somebody liked very much")
    connect_directly(cast, long_name, "a-person-with-a-rather-long-name." * 3 + "@a-long-name.of-a-host.example.com")
    lost = {"state": "needs_reconnect", "last_error": "invalid_grant"}
    connect_directly(cast, another(cast, drive, "wiki", "Wiki"), "ada@example.com", **lost)
    failing = {"last_error": "timeout", "failures": 3, "retry_at": now + timedelta(minutes=5), "scope": "files.read"}
    connect_directly(cast, another(cast, drive, "crm", "Customer records"), "", **failing)
    wanting = {"scope": "files.read", "wanted_scope": "files.read files.write"}
    connect_directly(cast, another(cast, drive, "code", "Code"), "ada", **wanting)
    return drive


@pytest.mark.requirement("F-304", "F-210")
@pytest.mark.parametrize("look", ["light", "dark"])
def test_every_page_of_connecting_is_readable_labelled_and_fits_a_phone(
    gateway: LiveGateway, cast: Cast, provider: FaultyProvider, look: str, request: pytest.FixtureRequest
) -> None:
    window: Window = request.getfixturevalue("window" if look == "light" else "dark_window")
    page, origin = window.page, gateway.origin
    window.expected_status = {400, 404, 502}

    def look_at(name: str, path: str | None = None) -> None:
        if path is not None:
            page.goto(origin + path)
        window.shoot(f"connect-{name}" if look == "light" else f"connect-{name}-dark")
        assert page.evaluate(CONTRAST) == [], name
        assert page.evaluate(STRUCTURE) == [], name

    sign_in(page, origin, "member")
    look_at("none", "/portal/connections/")
    drive = fill(cast, provider)
    look_at("all", "/portal/connections/")
    look_at("server-missing", "/portal/servers/default/drive/")
    look_at("server-connected", "/portal/servers/default/tickets/")
    look_at("server-again", "/portal/servers/default/wiki/")
    look_at("server-failing", "/portal/servers/default/crm/")
    look_at("server-step-up", "/portal/servers/default/code/")
    page.get_by_role("link", name="Revoke", exact=True).click()
    look_at("revoke")
    link = my_connections.link_for(cast.member, drive, asked_by="Visual Studio Code")
    look_at("link", f"/connect/{link.pk}")
    look_at("link-ended", "/connect/unknown")

    # The page before the provider, which it leaves for at once: this provider keeps the browser where it is.
    page.route(f"{provider.issuer}/**", lambda route: route.fulfill(status=204))
    page.goto(f"{origin}/connect/{link.pk}")
    page.get_by_role("button", name="Connect Now").click()
    page.get_by_role("heading", name="On to").wait_for()
    look_at("leaving")
    page.unroute(f"{provider.issuer}/**")

    provider.replies["/token"] = lambda _: (500, {}, b"<h1>Oops</h1>")
    allow_as(provider, "2001")
    page.get_by_role("link", name="Continue").click()
    page.get_by_role("heading", name="Drive is not connected").wait_for()
    look_at("failed")
    page.get_by_role("button", name="Connect again").click()
    page.get_by_role("heading", name="Drive is not connected").wait_for()
    look_at("failed-unknown", "/api/svc/v1/llm-gateway/mcp-servers/oauth2/callback?state=x&code=y")

    page.goto(f"{origin}/connect/{link.pk}")
    page.get_by_role("button", name="Connect Now").click()
    page.get_by_role("heading", name="Drive is not connected").wait_for()
    del provider.replies["/token"]
    # Another try ends where the first one was to end.
    page.get_by_role("button", name="Connect again").click()
    page.get_by_role("heading", name="Drive is connected").wait_for()
    look_at("done")


@pytest.mark.requirement("F-304", "F-305", "F-312")
def test_a_person_connects_changes_the_account_and_revokes_by_keyboard_alone(
    gateway: LiveGateway, cast: Cast, provider: FaultyProvider, window: Window
) -> None:
    page, origin = window.page, gateway.origin
    make_server(cast, provider, scopes=SCOPES, userinfo_endpoint=f"{provider.issuer}/userinfo")
    sign_in(page, origin, "member")
    page.goto(f"{origin}/portal/connections/")
    allow_as(provider, "ada")
    page.get_by_role("button", name="Connect Now Drive").press("Enter")
    page.wait_for_url(f"{origin}/portal/connections/")
    expect(page.get_by_role("status").first).to_contain_text("Connected as ada@example.com.")
    allow_as(provider, "bob")
    page.get_by_role("button", name="Use another account for Drive").press("Enter")
    expect(page.get_by_role("status").first).to_contain_text("Connected as bob@example.com.")
    assert Connection.objects.get().epoch == 2
    assert provider.asked[-1].path in ("/revoke", "/userinfo")
    page.get_by_role("link", name="Revoke the connection to Drive").press("Enter")
    page.get_by_role("button", name="Revoke the connection").press("Enter")
    expect(page.get_by_role("status").first).to_contain_text("the provider ended the authorization too")
    assert not Connection.objects.exists()
    assert all(grant.ended for grant in provider.grants)


@pytest.mark.requirement("F-304", "T20")
def test_connecting_works_without_scripts(
    gateway: LiveGateway, cast: Cast, provider: FaultyProvider, browser: Any
) -> None:
    make_server(cast, provider, userinfo_endpoint=f"{provider.issuer}/userinfo")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    sign_in(page, gateway.origin, "member")
    page.goto(f"{gateway.origin}/portal/servers/default/drive/")
    allow_as(provider, "ada")
    page.get_by_role("button", name="Connect Now").click()
    expect(page.get_by_text("Connected as ada@example.com.")).to_be_visible()
    context.close()
