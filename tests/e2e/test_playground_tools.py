"""The playground in a real browser: choosing servers and tools, forms, runs, answers that nobody trusts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Literal

import pytest
from playwright.sync_api import Dialog, Page, expect

from servers import changes
from servers.models import AccessRule, AuthConfig, Call, Server
from tests.conftest import Cast, allow_private
from tests.e2e.conftest import Window
from tests.e2e.test_connect_pages import allow_as
from tests.e2e.test_portal_pages import STRUCTURE, sign_in
from tests.support.connecting import make_server
from tests.support.faulty_provider import FaultyProvider
from tests.support.gateway import LiveGateway
from tests.support.odd_tools import OddTools
from tests.support.page_rules import WATCH_SHIFTS, judged
from tests.support.records import write_records

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.requirement("F-603")]


SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@pytest.fixture
def tools(cast: Cast) -> Iterator[OddTools]:
    with OddTools() as running:
        cast.server.url = running.url
        cast.server.name = "Order desk"
        cast.server.save()
        allow_private(running.url)
        yield running
        running.release.set()


@pytest.fixture
def looked(window: Window) -> Callable[[str], None]:
    def look_at(name: str) -> None:
        for scheme in SCHEMES:
            window.page.emulate_media(color_scheme=scheme)
            window.shoot(f"playground-{name}-{scheme}")
        window.page.emulate_media(color_scheme="light")
        assert window.page.evaluate(STRUCTURE) == [], name
        assert judged(window.page) == [], name

    window.page.add_init_script(WATCH_SHIFTS)
    return look_at


def open_tool(page: Page, gateway: LiveGateway, tool: str) -> None:
    page.goto(f"{gateway.origin}/portal/playground/?server=default/calculator&tool={tool}")
    expect(page.get_by_role("form", name="Arguments")).to_be_visible()


def run(page: Page) -> None:
    page.get_by_role("button", name="Run", exact=True).click()


def test_a_person_chooses_servers_and_tools_and_finds_them_again(
    gateway: LiveGateway, cast: Cast, tools: OddTools, window: Window, looked: Callable[[str], None]
) -> None:
    page = window.page
    for number, method in enumerate((AuthConfig.Method.OAUTH2, AuthConfig.Method.OWN_HEADER)):
        server = Server.objects.create(
            tenant=cast.tenant, slug=f"other-{number}", name=f"Other {number}", url="https://a.example/mcp"
        )
        AuthConfig.objects.create(server=server, method=method)
        AccessRule.objects.create(server=server, user=cast.member)
    sign_in(page, gateway.origin, "member")
    page.get_by_role("link", name="Playground").click()
    expect(page.get_by_role("heading", name="Nothing chosen yet")).to_be_visible()
    looked("empty")

    page.get_by_role("button", name="Add Tool/MCP Servers").click()
    dialog = page.get_by_role("dialog", name="Add Tool/MCP Servers")
    expect(dialog.get_by_role("button", name="Connect Now: Other 0 (opens a new tab)")).to_be_visible()
    expect(dialog.get_by_role("link", name="Enter key: Other 1 (opens a new tab)")).to_be_visible()
    dialog.get_by_label("Search your servers").fill("order")
    expect(dialog.get_by_role("listitem")).to_have_count(1)
    dialog.get_by_role("checkbox", name="Order desk").check()
    dialog.get_by_role("button", name="None").click()
    dialog.get_by_role("checkbox", name="place_order").check()
    dialog.get_by_role("checkbox", name="slow").check()
    expect(dialog.get_by_role("status")).to_have_text("1 server, 2 tools")
    dialog.get_by_label("Search your servers").fill("")
    looked("dialog")
    dialog.get_by_role("button", name="Done").click()

    side = page.get_by_role("complementary", name="Servers and tools")
    expect(side.get_by_role("button", name="place_order")).to_be_visible()
    expect(side.locator(".pg-pick")).to_have_count(2)
    page.reload()
    expect(side.locator(".pg-pick")).to_have_count(2)
    side.get_by_role("button", name="place_order").click()
    expect(page.get_by_role("heading", name="Place an order")).to_be_visible()


def test_connect_now_opens_a_tab_and_the_dialog_sees_when_it_is_done(
    gateway: LiveGateway, cast: Cast, tools: OddTools, window: Window
) -> None:
    page = window.page
    with FaultyProvider() as provider:
        drive = make_server(cast, provider, scopes=("files.read",))
        Server.objects.filter(pk=drive.pk).update(url=tools.url)
        changes.forget_everything()
        allow_as(provider, "2001")
        sign_in(page, gateway.origin, "member")
        page.goto(f"{gateway.origin}/portal/playground/")
        page.get_by_role("button", name="Add Tool/MCP Servers").click()
        dialog = page.get_by_role("dialog", name="Add Tool/MCP Servers")
        expect(dialog.get_by_role("button", name="Tools of Drive")).to_be_hidden()

        with page.expect_popup() as tab:
            dialog.get_by_role("button", name="Connect Now: Drive (opens a new tab)").click()
        tab.value.wait_for_url("**/portal/servers/default/drive/")
        tab.value.close()

        dialog.get_by_role("button", name="Tools of Drive").click()
        expect(dialog.get_by_role("checkbox", name="place_order")).to_be_visible()
        dialog.get_by_role("checkbox", name="Drive").check()
        dialog.get_by_role("button", name="Done").click()
        page.locator("[data-chosen]").get_by_role("button", name="nothing").click()
        run(page)
        expect(page.get_by_text("The tool answered, with nothing in it.")).to_be_visible()


def test_an_escape_leaves_what_was_chosen(gateway: LiveGateway, cast: Cast, tools: OddTools, window: Window) -> None:
    page = window.page
    sign_in(page, gateway.origin, "member")
    open_tool(page, gateway, "nothing")
    side = page.locator("[data-chosen]")
    before = side.locator(".pg-pick").count()

    page.get_by_role("button", name="Add Tool/MCP Servers").click()
    page.get_by_role("dialog").get_by_role("checkbox", name="Order desk").uncheck()
    page.keyboard.press("Escape")

    expect(page.get_by_role("dialog")).to_be_hidden()
    assert side.locator(".pg-pick").count() == before


def test_a_form_of_every_kind_is_filled_checked_and_sent(
    gateway: LiveGateway, cast: Cast, tools: OddTools, window: Window, looked: Callable[[str], None]
) -> None:
    page = window.page
    sign_in(page, gateway.origin, "member")
    open_tool(page, gateway, "place_order")
    form = page.get_by_role("form", name="Arguments")

    # Nothing is sent before it fits; the first complaint has the focus.
    run(page)
    expect(form.get_by_text("This is required.").first).to_be_visible()
    expect(form.get_by_label("name required", exact=True)).to_be_focused()
    looked("wrong")
    assert tools.called == []

    form.get_by_label("name required", exact=True).fill("Ada")
    form.get_by_label("email required", exact=True).fill("ada.example.com")
    form.get_by_label("sku required", exact=True).fill("AB-12")
    form.get_by_label("priority").select_option("high")
    form.get_by_label("payment").select_option("Invoice")
    form.get_by_label("days").fill("30")
    form.get_by_label("discount").fill("2.5")
    form.get_by_label("deliver_on").fill("2026-12-24")
    form.get_by_role("button", name="Add labels").click()
    form.get_by_role("button", name="Add another property").click()
    form.get_by_label("Name", exact=True).fill("colour")
    form.get_by_label("Value", exact=True).last.fill("red")
    form.get_by_role("button", name="Add item").click()
    form.get_by_label("sku required", exact=True).last.fill("CD-7")
    form.get_by_label("count required", exact=True).last.fill("100")
    run(page)
    expect(form.get_by_text("Enter an e-mail address.")).to_be_visible()
    expect(form.get_by_text("At most 99.")).to_be_visible()
    assert tools.called == []
    form.get_by_label("email required", exact=True).fill("ada@example.com")
    form.get_by_label("count required", exact=True).last.fill("2")
    form.get_by_role("button", name="Move item 2 up").click()
    expect(form.get_by_label("sku required", exact=True).first).to_have_value("CD-7")
    looked("form")

    # JSON shows the same, and what is changed there is in the form again.
    form.get_by_role("button", name="JSON", exact=True).click()
    text = form.get_by_label("Arguments as JSON")
    written = json.loads(text.input_value())
    text.fill(json.dumps(written | {"note": None, "gift": True}))
    form.get_by_role("button", name="Form", exact=True).click()
    expect(form.get_by_label("gift")).to_have_value("0")
    run(page)

    expect(page.get_by_text("Answered", exact=True)).to_be_visible()
    expect(page.locator(".result").get_by_text("Done.")).to_be_visible()
    [(name, sent)] = tools.called
    assert name == "place_order"
    assert sent == {
        "customer": {"name": "Ada", "email": "ada@example.com"},
        "lines": [{"sku": "CD-7", "count": 2}, {"sku": "AB-12", "count": 1}],
        "priority": "high",
        "payment": {"kind": "invoice", "days": 30},
        "discount": 2.5,
        "deliver_on": "2026-12-24",
        "gift": True,
        "labels": {"colour": "red"},
    }


def test_wrong_json_says_where_and_sends_nothing(
    gateway: LiveGateway, cast: Cast, tools: OddTools, window: Window
) -> None:
    page = window.page
    sign_in(page, gateway.origin, "member")
    open_tool(page, gateway, "place_order")
    page.get_by_role("button", name="JSON", exact=True).click()
    text = page.get_by_label("Arguments as JSON")

    text.fill('{"customer": ')
    run(page)
    expect(page.get_by_text("This is not JSON")).to_be_visible()
    text.fill('{"customer": {"name": "Ada"}}')
    run(page)
    expect(page.get_by_text("customer › email: This is required.")).to_be_visible()

    assert tools.called == []


@pytest.mark.parametrize("tool", ["circle", "doubling", "tree", "wide", "astray"])
def test_a_schema_without_a_form_leaves_json(
    gateway: LiveGateway, cast: Cast, tools: OddTools, window: Window, tool: str
) -> None:
    page = window.page
    sign_in(page, gateway.origin, "member")
    open_tool(page, gateway, tool)

    expect(page.get_by_text("Enter them as JSON.")).to_be_visible()
    page.get_by_label("Arguments as JSON").fill('{"a": 1}')
    run(page)

    expect(page.get_by_text("Answered", exact=True)).to_be_visible()
    assert tools.called == [(tool, {"a": 1})]


def test_a_pattern_that_would_never_end_does_not_stop_the_page(
    gateway: LiveGateway, cast: Cast, tools: OddTools, window: Window
) -> None:
    page = window.page
    sign_in(page, gateway.origin, "member")
    open_tool(page, gateway, "backtracking")

    page.get_by_label("text required", exact=True).fill("a" * 60 + "!")
    run(page)

    expect(page.get_by_text("Answered", exact=True)).to_be_visible()


def test_a_hostile_answer_is_only_text(
    gateway: LiveGateway, cast: Cast, tools: OddTools, window: Window, looked: Callable[[str], None]
) -> None:
    page = window.page
    dialogs: list[str] = []

    def note(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", note)
    sign_in(page, gateway.origin, "member")
    open_tool(page, gateway, "hostile")
    run(page)
    answer = page.locator(".result")

    expect(answer.get_by_text("<img src=x onerror=alert(1)>")).to_be_visible()
    expect(answer.get_by_text("red and ‹U+202E›gnp.exe‹U+202C› and bell‹U+0007›")).to_be_visible()
    expect(answer.get_by_text("javascript:alert(3)")).to_be_visible()
    assert [link.get_attribute("href") for link in answer.get_by_role("link").all()] == ["https://example.com/report"]
    assert answer.get_by_role("link").get_attribute("rel") == "noopener noreferrer nofollow"
    expect(answer.get_by_text("type that is not shown here (image/svg+xml")).to_be_visible()
    expect(answer.get_by_text("A part of the answer that this page cannot show")).to_have_count(3)
    expect(answer.locator("img, script, svg, b, i")).to_have_count(0)
    looked("hostile")
    assert dialogs == []


def test_pictures_sounds_and_resources_are_shown(
    gateway: LiveGateway, cast: Cast, tools: OddTools, window: Window, looked: Callable[[str], None]
) -> None:
    page = window.page
    sign_in(page, gateway.origin, "member")
    open_tool(page, gateway, "media")
    run(page)

    picture = page.get_by_alt_text("Picture in the tool's answer")
    expect(picture).to_be_visible()
    assert picture.evaluate("(one) => one.decode().then(() => one.naturalWidth)") == 1
    sound = page.locator(".result audio")
    page.wait_for_function("(one) => one.readyState > 0", arg=sound.element_handle())
    expect(page.get_by_text("A note.")).to_be_visible()
    looked("media")


def test_huge_empty_and_failed_answers_say_what_they_are(
    gateway: LiveGateway, cast: Cast, tools: OddTools, window: Window
) -> None:
    page = window.page
    sign_in(page, gateway.origin, "member")
    open_tool(page, gateway, "huge")
    run(page)
    expect(page.get_by_text("The first 20000 of 30000 characters.")).to_be_visible()
    with page.expect_download() as saved:
        page.get_by_role("button", name="Download").click()
    assert saved.value.path().read_text() == "x" * 30_000
    page.get_by_role("button", name="Show all").click()
    expect(page.locator("pre.block")).to_have_text("x" * 30_000)

    page.locator("[data-chosen]").get_by_role("button", name="nothing").click()
    run(page)
    expect(page.get_by_text("The tool answered, with nothing in it.")).to_be_visible()
    page.locator("[data-chosen]").get_by_role("button", name="fails").click()
    run(page)
    expect(page.get_by_text("Tool error", exact=True)).to_be_visible()
    expect(page.get_by_text("The printer is out of paper.")).to_be_visible()

    # What was run stays while another tool is looked at, with what went over the line and how to find it.
    page.locator("[data-chosen]").get_by_role("button", name="huge").click()
    page.get_by_text("JSON-RPC exchange").click()
    expect(page.get_by_text('"method": "tools/call"')).to_be_visible()
    write_records()
    request_id = Call.objects.get(item="huge").request_id
    expect(page.locator(".pg-exchange code", has_text=request_id)).to_be_visible()
    page.get_by_role("button", name="Copy: Sent").click()
    expect(page.get_by_role("button", name="Copy: Sent")).to_have_text("Copied")
    assert json.loads(page.evaluate("navigator.clipboard.readText()"))["params"]["name"] == "huge"


def test_progress_is_live_and_a_call_can_be_cancelled(
    gateway: LiveGateway, cast: Cast, tools: OddTools, window: Window, looked: Callable[[str], None]
) -> None:
    page = window.page
    sign_in(page, gateway.origin, "member")
    open_tool(page, gateway, "slow")
    run(page)
    expect(page.get_by_text("Reading page 3 (3 of 10)")).to_be_visible()
    expect(page.get_by_role("progressbar", name="Progress")).to_have_js_property("value", 3)
    looked("running")
    page.get_by_role("button", name="Cancel", exact=True).click()
    expect(page.get_by_text("Cancelled", exact=True)).to_be_visible()

    tools.release.set()
    run(page)
    expect(page.get_by_text("All pages read.")).to_be_visible()


def test_a_question_in_the_middle_of_a_call_is_answered(
    gateway: LiveGateway, cast: Cast, tools: OddTools, window: Window, looked: Callable[[str], None]
) -> None:
    page = window.page
    sign_in(page, gateway.origin, "member")
    open_tool(page, gateway, "asks")
    run(page)
    expect(page.get_by_text("Who is it for?")).to_be_visible()
    page.get_by_role("button", name="Send answer").click()
    expect(page.get_by_text("This is required.")).to_be_visible()
    looked("question")
    page.get_by_label("Name required", exact=True).fill("Ada")
    page.get_by_role("button", name="Send answer").click()

    expect(page.get_by_text("Done.")).to_be_visible()
    assert tools.answers == [{"who": {"action": "accept", "content": {"name": "Ada"}}}]


def test_what_the_page_cannot_give_is_said(gateway: LiveGateway, cast: Cast, tools: OddTools, window: Window) -> None:
    page = window.page
    window.expected_status = {400}
    sign_in(page, gateway.origin, "member")
    open_tool(page, gateway, "samples")
    run(page)

    expect(page.get_by_text("The server asks for something that the playground cannot give")).to_be_visible()
    page.get_by_role("button", name="End the call").click()
    expect(page.get_by_text("You ended the call.")).to_be_visible()


def test_a_server_that_is_not_connected_leads_to_the_page_that_helps(
    gateway: LiveGateway, cast: Cast, tools: OddTools, window: Window
) -> None:
    page = window.page
    sign_in(page, gateway.origin, "member")
    open_tool(page, gateway, "nothing")
    AuthConfig.objects.filter(server=cast.server).delete()
    config = {"header_name": "X-Key", "header_value": "{key}"}
    AuthConfig.objects.create(server=cast.server, method=AuthConfig.Method.OWN_HEADER, settings=config)
    cast.server.save()

    run(page)

    expect(page.get_by_role("link", name="Connect Now")).to_be_visible()
    assert [name for name, _ in tools.called] == []


@pytest.mark.requirement("T11")
def test_a_server_cannot_lead_to_other_pages_of_the_gateway_by_connect_now(
    gateway: LiveGateway, cast: Cast, tools: OddTools, window: Window
) -> None:
    page = window.page
    sign_in(page, gateway.origin, "member")
    open_tool(page, gateway, "nothing")
    # Approving a client would look like a part of connecting.
    places = (
        "connect/x",
        "oauth2/authorize?client_id=x",
        "connect/../oauth2/authorize",
        "connect/x/../../accounts",
        "",
    )
    asked = """async (urls) => {
      const { connectLink } = await import("/static/gatehouse/playground/connect.js");
      return urls.map((url) => connectLink({ url }) !== null);
    }"""
    urls = [*(f"{gateway.origin}/{place}" for place in places), "https://evil.example/connect/x"]
    assert page.evaluate(asked, urls) == [True, False, False, False, False, False]


def test_an_address_with_a_server_that_one_may_not_use_says_no_more_than_that(
    gateway: LiveGateway, cast: Cast, tools: OddTools, window: Window
) -> None:
    page = window.page
    sign_in(page, gateway.origin, "outsider")
    said = "The server in this page's address is none that you may use."
    for place in ("default/calculator", "default/none"):
        page.goto(f"{gateway.origin}/portal/playground/?server={place}&tool=x")
        expect(page.get_by_text(said)).to_be_visible()
