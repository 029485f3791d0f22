"""Limiting a collaborator to some tools, in a real browser: choosing, searching, and what a Manager does not see."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from servers.forms.item_filter import MOST_BOXES
from servers.models import AccessRule, Items
from tests.conftest import PASSWORD, Cast
from tests.e2e.conftest import Window
from tests.e2e.test_portal_pages import CONTRAST
from tests.support.catalogues import item, tool
from tests.support.gateway import LiveGateway
from tests.support.offering import offer

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.requirement("F-502")]


@pytest.mark.parametrize("look", ["light", "dark"])
def test_a_manager_limits_a_team_to_some_tools(
    gateway: LiveGateway, cast: Cast, look: str, request: pytest.FixtureRequest
) -> None:
    window: Window = request.getfixturevalue("window" if look == "light" else "dark_window")
    page, suffix = window.page, "" if look == "light" else "-dark"
    for name in (
        "search",
        "read_page",
        "list_pages",
        "create_page",
        "move_page",
        "archive_page",
        "delete_page",
        "x" * 60,
    ):
        item(cast.server, tool(name))
    item(cast.server, {"name": "weekly_report"}, kind="prompt")
    page.goto(f"{gateway.origin}/admin/servers/server/{cast.server.pk}/change/")
    page.get_by_label("Username").fill("manager")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()

    row = page.locator("tr.form-row", has_text="readers (team)")
    row.locator("summary").click()
    expect(row.get_by_label("Others, one a line")).to_be_hidden()
    row.get_by_label("May use").select_option("only")
    row.get_by_label("search Tool", exact=True).check()
    row.get_by_label("Search", exact=True).fill("REPORT")
    expect(row.get_by_label("delete_page Tool")).to_be_hidden()
    row.get_by_label("weekly_report Prompt").check()
    row.get_by_label("Search", exact=True).fill("")
    row.get_by_label("Others, one a line").fill("tool:export_later")
    window.shoot(f"admin-collaborator-tools{suffix}")
    assert page.evaluate(CONTRAST) == []

    row.get_by_label("Role").or_(row.locator("select[name$='-role']")).first.select_option("manager")
    expect(row.locator(".gh-opens")).to_be_hidden()
    row.locator("select[name$='-role']").select_option("user")
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.locator("tr.form-row", has_text="readers (team)").locator("summary")).to_have_text(
        "2 tools and 1 prompt"
    )
    rule = AccessRule.objects.get(team=cast.readers)
    assert (rule.items, rule.item_names) == (Items.ONLY, ["prompt:weekly_report", "tool:export_later", "tool:search"])


def test_of_very_many_tools_names_are_added_from_suggestions(gateway: LiveGateway, cast: Cast, window: Window) -> None:
    page = window.page
    offer(cast.server, tools=[f"tool_{number}" for number in range(MOST_BOXES)])
    page.goto(f"{gateway.origin}/admin/servers/server/{cast.server.pk}/change/")
    page.get_by_label("Username").fill("manager")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    row = page.locator("tr.form-row", has_text="readers (team)")
    row.locator("summary").click()
    row.get_by_label("May use").select_option("except")
    row.get_by_label("Add from the catalogue").fill("tool:tool_7")
    row.get_by_label("Add from the catalogue").press("Enter")
    row.get_by_label("Add from the catalogue").fill("tool:tool_9")
    row.get_by_role("button", name="Add").click()
    expect(row.get_by_label("Names, one a line")).to_have_value("tool:tool_7\ntool:tool_9")
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.locator("tr.form-row", has_text="readers (team)").locator("summary")).to_have_text(
        "everything but 2 tools"
    )
