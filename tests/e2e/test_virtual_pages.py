"""A manager makes a virtual server in a real browser: members, a collision and what helps, a preview as a person."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from servers.models import AccessRule, AuthConfig, Role, Server, ServerGroup
from servers.models.virtual import VirtualMember
from servers.virtual.saving import present
from tests.conftest import Cast
from tests.e2e.conftest import DESKTOP, Window
from tests.e2e.test_portal_pages import CONTRAST, STRUCTURE, sign_in
from tests.support.gateway import LiveGateway
from tests.support.offering import offer, offering

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.requirement("F-605", "T35")]
NARROW = {"width": 360, "height": 740}


def group_with_servers(cast: Cast) -> Server:
    """A group of the manager's, and servers that they may use; returns one of these."""
    group = ServerGroup.objects.create(tenant=cast.tenant, slug="tools", name="Tools")
    AccessRule.objects.create(group=group, user=cast.manager, role=Role.MANAGER)
    wiki = offering(
        cast.tenant, "wiki", tools=["search", "read_page", "write_page", "list_spaces"], prompts=["summarise"],
        resources=["file:///handbook.md"], templates=["file:///{page}"], group=group, health="ok",
    )  # fmt: skip
    tracker = offering(
        cast.tenant, "issue-tracker", tools=["search", "create_issue", "close_issue", "a_tool_with_quite_a_long_name"],
        method=AuthConfig.Method.OAUTH2, health="failing",
    )  # fmt: skip
    AccessRule.objects.create(server=tracker, user=cast.manager, role=Role.USER)
    for number in range(12):
        offering(cast.tenant, f"other-{number}", group=group)
    for server in (wiki, tracker):
        AccessRule.objects.create(server=server, team=cast.readers, role=Role.USER)
    return wiki


@pytest.mark.parametrize("look", ["light", "dark"])
def test_a_manager_makes_a_virtual_server_of_two_members(
    gateway: LiveGateway, cast: Cast, look: str, request: pytest.FixtureRequest
) -> None:
    window: Window = request.getfixturevalue("window" if look == "light" else "dark_window")
    page, origin = window.page, gateway.origin

    def look_at(name: str) -> None:
        window.shoot(f"virtual-{name}" if look == "light" else f"virtual-{name}-dark")
        page.set_viewport_size(NARROW)  # type: ignore[arg-type]
        wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        page.screenshot(path=f"tests/screenshots/virtual-{name}-{look}-360.png", full_page=True)
        page.set_viewport_size(DESKTOP)  # type: ignore[arg-type]
        assert wide <= 0, name
        assert page.evaluate(CONTRAST) == [], name

    wiki = group_with_servers(cast)
    sign_in(page, origin, "manager")
    page.goto(f"{origin}/admin/servers/server/")
    page.get_by_role("link", name="Add virtual server").click()
    page.locator("#id_name").press_sequentially("Toolbox")
    expect(page.locator("#id_slug")).to_have_value("toolbox")
    page.get_by_label("Wiki (wiki)").check()
    page.get_by_label("Issue Tracker (issue-tracker)").check()
    look_at("add")
    page.get_by_role("button", name="Save", exact=True).click()

    # Members: order and prefixes; two of one prefix, and what it then says.
    expect(page.get_by_role("heading", name="Members of Toolbox")).to_be_visible()
    assert page.evaluate(STRUCTURE) == []
    look_at("members")
    page.get_by_role("button", name="Move Wiki up").click()
    prefixes = page.get_by_label("Prefix", exact=True)
    expect(prefixes.first).to_have_value("wiki")
    prefixes.first.fill("same")
    prefixes.last.fill("same")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("both have the prefix “same”")
    look_at("prefix-refused")
    prefixes.first.fill("")
    prefixes.last.fill("issues")
    for row, place in ((0, "2"), (1, "1")):
        page.locator(".gh-members input[type=number]").nth(row).fill(place)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Saved. Clients see the new list within seconds.")).to_be_visible()

    # One member: an own name that another tool has is refused, and fixed in the same field.
    page.get_by_role("link", name="Issue Tracker", exact=True).click()
    expect(page.get_by_role("heading", name="Issue Tracker in Toolbox")).to_be_visible()
    tool = page.locator(".gh-one").filter(has_text="create_issue")
    tool.get_by_label("Own name").fill("read_page")
    page.get_by_role("button", name="Save items").click()
    expect(page.get_by_role("alert")).to_contain_text("would both be called “read_page”")
    look_at("collision")
    expect(tool.get_by_label("Own name")).to_have_value("read_page")
    tool.get_by_label("Own name").fill("new_issue")
    tool.get_by_label("Own description").fill("Opens an issue in the tracker of the team.")
    page.locator(".gh-one").filter(has_text="close_issue").get_by_role("checkbox").uncheck()
    page.get_by_role("button", name="Save items").click()
    expect(page.get_by_text("Saved. Clients see the new list within seconds.")).to_be_visible()
    page.get_by_text("Credential that all callers share").click()
    assert page.evaluate(STRUCTURE) == []
    look_at("member")
    page.get_by_role("button", name="Add another header").click()
    expect(page.get_by_label("Name", exact=True)).to_have_count(2)
    page.get_by_role("searchbox", name="Search items").fill("long name")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("1 item found.")).to_be_visible()

    # Access, then the preview as somebody else.
    toolbox = Server.objects.get(slug="toolbox")
    AccessRule.objects.create(server=toolbox, team=cast.readers, role=Role.USER)
    offer(wiki, tools=[f"report_{number}" for number in range(40)])
    page.get_by_role("link", name="Preview").click()
    page.get_by_label("As seen by").fill("member")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("member gets 47 tools.")).to_be_visible()
    expect(page.get_by_text("47 tools are many")).to_be_visible()
    expect(page.get_by_text("Issue Tracker is not connected to your account yet.")).to_be_visible()
    expect(page.locator(".gh-preview li").filter(has_text="new_issue")).to_contain_text(
        "from Issue Tracker, there create_issue"
    )
    page.get_by_text("1 of Issue Tracker: this virtual server does not show it").click()
    expect(page.get_by_text("Tool close_issue")).to_be_visible()
    assert page.evaluate(STRUCTURE) == []
    look_at("preview")
    page.get_by_label("As seen by").fill("outsider")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("outsider cannot use Toolbox")).to_be_visible()

    # What it is, among the others, and what goes when a member goes.
    page.get_by_role("link", name="Toolbox", exact=True).click()
    expect(page.get_by_text("Members and what they show")).to_be_visible()
    look_at("server")
    page.goto(f"{origin}/admin/servers/server/")
    expect(page.get_by_role("link", name="2 members")).to_be_visible()
    look_at("list")
    page.goto(f"{origin}/admin/servers/server/{wiki.pk}/delete/")
    expect(page.get_by_text("The virtual server Toolbox of manager loses 44 tools, 1 prompt")).to_be_visible()
    look_at("delete-member")

    assert [one.alias for one in present(toolbox)] == ["issues", ""]
    assert VirtualMember.objects.get(server=wiki).position == 1


def test_everything_works_without_javascript(gateway: LiveGateway, cast: Cast, window: Window) -> None:
    group_with_servers(cast)
    sign_in(window.page, gateway.origin, "manager")
    window.page.goto(f"{gateway.origin}/admin/servers/server/add-virtual/")
    window.page.locator("#id_name").press_sequentially("Toolbox")
    window.page.get_by_label("Wiki (wiki)").check()
    window.page.get_by_role("button", name="Save", exact=True).click()
    expect(window.page.get_by_role("heading", name="Members of Toolbox")).to_be_visible()
    state = window.page.context.storage_state()
    browser = window.page.context.browser
    assert browser is not None
    context = browser.new_context(java_script_enabled=False, storage_state=state)
    page = context.new_page()
    page.goto(window.page.url)
    page.get_by_role("searchbox", name="Search servers").fill("tracker")
    page.get_by_role("button", name="Search").click()
    page.get_by_label("Issue Tracker").check()
    page.get_by_role("button", name="Add the chosen servers").click()
    page.locator(".gh-members input[type=number]").first.fill("9")
    page.get_by_role("button", name="Save", exact=True).click()
    page.get_by_role("link", name="Issue Tracker", exact=True).click()
    page.get_by_role("button", name="Show none of them").click()
    context.close()
    toolbox = Server.objects.get(slug="toolbox")
    assert [one.alias for one in present(toolbox)] == ["issue_tracker", "wiki"]
    assert sum(not one.chosen for one in present(toolbox)[0].selections.values()) == 4
