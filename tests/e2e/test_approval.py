"""The approval page in a real browser: to the client and back, with nothing but what the page allows."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from authflows.models import Approval, OAuthClient
from tests.authflows.test_authorize import make_client, url
from tests.conftest import PASSWORD, Cast
from tests.e2e.conftest import Window
from tests.e2e.test_portal_pages import CONTRAST, STRUCTURE
from tests.support.gateway import LiveGateway

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


class Listener:
    """The part of an IDE that waits on loopback for the browser to come back."""

    def __init__(self) -> None:
        self.answers: Queue[dict[str, str]] = Queue()
        answers = self.answers

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.startswith("/callback"):
                    answers.put({k: v[0] for k, v in parse_qs(urlsplit(self.path).query).items()})
                body = b"<!doctype html><title>IDE</title><link rel=icon href=data:,><p>You can close this window."
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.redirect_uri = f"http://127.0.0.1:{self.server.server_address[1]}/callback"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    yield found
    found.server.shutdown()
    found.server.server_close()


def open_request(page: Page, gateway: LiveGateway, ide: OAuthClient, cast: Cast, **changes: str) -> None:
    resource = gateway.origin + cast.server.mcp_path
    page.goto(gateway.origin + url(ide, cast.server, resource=resource, **changes))


def sign_in(page: Page) -> None:
    page.get_by_label("Username").fill("member")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()


@pytest.mark.requirement("F-201", "F-204")
@pytest.mark.parametrize("look", ["light", "dark"])
def test_from_the_ide_through_sign_in_and_approval_back_to_the_ide(
    gateway: LiveGateway, cast: Cast, listener: Listener, look: str, request: pytest.FixtureRequest
) -> None:
    window: Window = request.getfixturevalue("window" if look == "light" else "dark_window")
    page = window.page
    ide = make_client(name="Example IDE", redirect_uris=listener.redirect_uri)

    def look_at(name: str) -> None:
        window.shoot(f"{name}" if look == "light" else f"{name}-dark")
        assert page.evaluate(CONTRAST) == [], name
        assert page.evaluate(STRUCTURE) == [], name

    open_request(page, gateway, ide, cast)
    sign_in(page)
    expect(page.get_by_role("heading", name="Let a program use Calculator?")).to_be_visible()
    look_at("approve")
    page.get_by_role("button", name="Approve").click()
    expect(page.get_by_text("You can close this window.")).to_be_visible()
    answer = listener.answers.get(timeout=5)
    assert answer["code"]
    assert answer["state"] == "s-1"

    # Signed out and in again: the remembered approval leads from the sign-in form straight to the IDE.
    page.goto(f"{gateway.origin}/portal/")
    page.get_by_role("button", name="Sign out").click()
    open_request(page, gateway, ide, cast)
    sign_in(page)
    expect(page.get_by_text("You can close this window.")).to_be_visible()
    assert listener.answers.get(timeout=5)["code"]

    # Asked again, and denied this time.
    open_request(page, gateway, ide, cast, prompt="consent")
    page.get_by_role("button", name="Deny").click()
    expect(page.get_by_text("You can close this window.")).to_be_visible()
    assert listener.answers.get(timeout=5)["error"] == "access_denied"
    assert Approval.objects.count() == 1

    window.expected_status = {400, 403, 410}
    page.go_back()
    page.reload()
    expect(page.get_by_role("heading", name="This sign-in has ended")).to_be_visible()
    look_at("sign-in-ended")
    page.goto(f"{gateway.origin}/authorize?client_id=nobody")
    look_at("unanswerable")
    known = make_client(name="Claude Code", redirect_uris=listener.redirect_uri, verified=True)
    open_request(page, gateway, known, cast)
    expect(page.get_by_role("heading", name="Let Claude Code use Calculator?")).to_be_visible()
    look_at("approve-verified")
    page.get_by_role("button", name="Use another account").click()
    page.get_by_label("Username").fill("outsider")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    expect(page.get_by_role("heading", name="You cannot use this MCP server")).to_be_visible()
    look_at("no-access")
    page.get_by_role("button", name="Back to the program").click()
    assert listener.answers.get(timeout=5)["error"] == "access_denied"
