"""Asking for a server in a browser, as the person, the manager and an outsider; the list and the page of a server."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, expect

from servers.models import AccessRequest, AccessRule, Server, ServerGroup
from tests.conftest import Cast
from tests.e2e.conftest import Window, open_window
from tests.e2e.test_portal_pages import CONTRAST, STRUCTURE, sign_in
from tests.support.catalogues import item, tool
from tests.support.gateway import LiveGateway

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.requirement("F-504", "F-602"),
]


@pytest.fixture
def payroll(cast: Cast) -> Server:
    group = ServerGroup.objects.create(tenant=cast.tenant, slug="money", name="Finance")
    server = Server.objects.create(
        tenant=cast.tenant,
        group=group,
        slug="payroll",
        name="Payroll",
        description="Salaries and days off.",
        url="http://127.0.0.1:9/mcp",
        requestable=True,
    )
    AccessRule.objects.create(server=server, user=cast.manager, role="manager")
    item(server, tool("payslip", "The payslip of a month."))
    return server


def look(window: Window, name: str) -> None:
    """Desktop and phone, light and dark: nothing sticks out sideways, and every text can be read."""
    for scheme in ("dark", "light"):
        window.page.emulate_media(color_scheme=scheme)
        window.shoot(f"{name}-{scheme}")
        assert window.page.evaluate(CONTRAST) == [], scheme


def test_a_person_asks_the_manager_approves_in_one_click_and_the_server_opens(
    gateway: LiveGateway, cast: Cast, payroll: Server, window: Window, browser: Browser
) -> None:
    page, origin = window.page, gateway.origin
    sign_in(page, origin, "outsider")
    asked = page.locator("#ask").get_by_role("listitem").filter(has_text="Payroll")
    expect(asked).to_contain_text("in Finance")
    expect(page.locator("main")).not_to_contain_text("/mcp/payroll")
    asked.get_by_role("link", name="Request access to Payroll").click()
    assert page.evaluate(STRUCTURE) == []
    look(window, "ask")
    page.get_by_role("button", name="Send the request").click()
    expect(page.get_by_text("Say in a sentence what you need it for.")).to_be_visible()
    page.get_by_label("What do you need it for?").fill("Payslips of March")
    page.get_by_label("For how long?").select_option(label="7 days")
    page.get_by_role("button", name="Send the request").click()
    expect(page.locator("main > .notice")).to_contain_text("You asked for Payroll")
    expect(asked).to_contain_text("Waiting since")
    assert page.evaluate(STRUCTURE) == []
    look(window, "servers-asked")

    # The manager, in a browser of their own.
    context, office = open_window(browser)
    desk = office.page
    sign_in(desk, origin, "manager")
    desk.goto(f"{origin}/admin/servers/accessrequest/")
    expect(desk.get_by_text("Payslips of March")).to_be_visible()
    expect(desk.get_by_label("For how long")).to_have_value("7")
    look(office, "admin-access-requests")
    desk.get_by_role("button", name="Approve outsider for Payroll").click()
    expect(desk.get_by_text("Approved: they may use the server until")).to_be_visible()
    expect(desk.get_by_text("Nobody waits for an answer.")).to_be_visible()
    context.close()
    assert office.trouble == []

    page.goto(f"{origin}/portal/")
    expect(page.locator("#ask")).to_have_count(0)
    expect(page.get_by_text("Your access ends")).to_be_visible()
    page.get_by_role("link", name="Payroll").click()
    expect(page.get_by_role("heading", name="payslip")).to_be_visible()
    page.get_by_text("1 parameter").click()
    expect(page.locator("#tools").get_by_text("required")).to_be_visible()
    assert page.evaluate(STRUCTURE) == []
    look(window, "server-items")
    expect(page.get_by_role("link", name="Try it payslip")).to_have_attribute(
        "href", "/portal/playground/?server=default/payroll&tool=payslip"
    )


def test_a_refusal_is_read_with_its_sentence_and_a_request_can_be_withdrawn(
    gateway: LiveGateway, cast: Cast, payroll: Server, window: Window, browser: Browser
) -> None:
    page, origin = window.page, gateway.origin
    made = AccessRequest.objects.create(server=payroll, person=cast.outsider, reason="Curious", days=None)
    context, office = open_window(browser)
    desk = office.page
    sign_in(desk, origin, "manager")
    desk.goto(f"{origin}/admin/servers/accessrequest/")
    desk.get_by_role("button", name="Refuse outsider for Payroll").click()
    expect(desk.get_by_text("Say in a sentence why not")).to_be_visible()
    desk.get_by_label("A sentence for them").fill("Use the reports.")
    desk.get_by_role("button", name="Refuse outsider for Payroll").click()
    expect(desk.get_by_text("reads your sentence")).to_be_visible()
    context.close()
    assert office.trouble == []
    made.refresh_from_db()
    assert made.state == "refused"

    sign_in(page, origin, "outsider")
    expect(page.locator("#ask")).to_contain_text("Use the reports.")
    page.get_by_role("link", name="Ask again to Payroll").click()
    page.get_by_label("What do you need it for?").fill("Really")
    page.get_by_role("button", name="Send the request").click()
    page.get_by_role("button", name="Withdraw the request for Payroll").click()
    expect(page.locator("main > .notice")).to_contain_text("is withdrawn")
    expect(page.get_by_role("link", name="Request access to Payroll")).to_be_visible()


def test_a_stranger_and_a_server_that_takes_no_requests_show_nothing(
    gateway: LiveGateway, cast: Cast, payroll: Server, window: Window
) -> None:
    page, origin = window.page, gateway.origin
    window.expected_status.update({404, 403})
    sign_in(page, origin, "stranger")
    expect(page.get_by_role("heading", name="No servers yet")).to_be_visible()
    expect(page.locator("main")).not_to_contain_text("Payroll")
    for server in (payroll, cast.server):
        answer = page.goto(f"{origin}/portal/ask/{server.pk}/")
        assert answer is not None
        assert answer.status == 404
