"""Chatting in the playground: a scripted model, a real server behind the gateway, and a person who decides."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from servers.models import Call, ModelEndpoint
from servers.secrets.store import set_secret
from tests.conftest import Cast, allow_private
from tests.e2e.conftest import Window
from tests.e2e.test_portal_pages import CONTRAST, STRUCTURE, sign_in
from tests.support.gateway import LiveGateway
from tests.support.mcp_upstream import calculator, serving
from tests.support.model_server import Asked, ModelServer, Reply, calling, chunk, saying
from tests.support.records import write_records

pytestmark = [
    pytest.mark.browser,
    pytest.mark.django_db(transaction=True),
    pytest.mark.requirement("F-603"),
]
ADD = "calculator__add"


@pytest.fixture
def model(cast: Cast) -> Iterator[ModelServer]:
    with ModelServer() as server:
        allow_private(server.url)
        set_secret(tenant=cast.tenant, group="llm", key="key", value="sk-secret", actor="admin")
        ModelEndpoint.objects.create(
            tenant=cast.tenant, name="House", base_url=server.url, model_names=["small", "large"],
            key="secret://default:llm:key",
        )  # fmt: skip
        yield server


@pytest.fixture
def upstream(cast: Cast) -> Iterator[None]:
    with serving(calculator()) as url:
        cast.server.url = url
        cast.server.save()
        allow_private(url)
        yield


def open_chat(window: Window, gateway: LiveGateway, *, tools: tuple[str, ...] = ("add",)) -> Page:
    """The member's chat with these tools of the calculator chosen."""
    page = window.page
    sign_in(page, gateway.origin, "member")
    page.goto(f"{gateway.origin}/portal/playground/")
    if tools:
        kept = [{"key": "default/calculator", "wanted": list(tools)}]
        keep = "(kept) => localStorage.setItem(`gatehouse-playground-${playground.dataset.user}`, JSON.stringify(kept))"
        page.evaluate(keep, kept)
        page.reload()
    page.get_by_role("tab", name="Chat").click()
    if tools:
        expect(page.get_by_text("1 tool of 1 server chosen.")).to_be_visible()
    return page


def say(page: Page, text: str) -> None:
    page.get_by_label("Message", exact=True).fill(text)
    page.get_by_role("button", name="Send").click()


def log_of(page: Page) -> Locator:
    return page.get_by_role("log", name="Conversation")


def complete(page: Page) -> None:
    expect(page.get_by_text("The answer is complete.")).to_be_visible()


def told(model: ModelServer) -> str:
    """What the model was last told by a tool."""
    last = model.asked[-1].last
    assert last["role"] == "tool"
    return str(last["content"])


def calls_recorded() -> int:
    write_records()
    return Call.objects.filter(method="tools/call").count()


def test_a_tool_runs_only_after_the_person_said_so(
    gateway: LiveGateway, cast: Cast, window: Window, model: ModelServer, upstream: None
) -> None:
    page = open_chat(window, gateway)
    window.shoot("chat-empty")

    say(page, "What is 2 and 40 ?")
    card = page.get_by_role("region", name="Call of add")
    expect(card.get_by_text("Needs your approval")).to_be_visible()
    expect(card).to_contain_text('"a": 2')
    window.shoot("chat-approval")
    assert calls_recorded() == 0
    page.get_by_role("button", name="Allow once").click()
    complete(page)

    expect(card.get_by_text("Done")).to_be_visible()
    expect(log_of(page)).to_contain_text("The tool answered: **42**")
    expect(log_of(page).get_by_role("group", name="Code in json")).to_have_text('{"said": true}\n')
    window.shoot("chat-answered")
    assert told(model) == "42"
    assert model.asked[-1].tools == [ADD]
    assert calls_recorded() == 1
    call = Call.objects.get(method="tools/call")
    assert (call.principal, call.credential, call.item, call.outcome) == ("member", "session", "add", "ok")
    assert page.evaluate(STRUCTURE) == []
    assert page.evaluate(CONTRAST) == []


def test_a_tool_that_is_allowed_for_the_chat_is_not_asked_about_again(
    gateway: LiveGateway, cast: Cast, window: Window, model: ModelServer, upstream: None
) -> None:
    page = open_chat(window, gateway)
    say(page, "1 and 2 ?")
    page.get_by_role("button", name="Allow for this chat").click()
    complete(page)

    say(page, "3 and 4 ?")
    expect(log_of(page)).to_contain_text("**7**")
    complete(page)
    page.reload()
    page.get_by_role("tab", name="Chat").click()
    expect(log_of(page)).to_contain_text("**7**")
    say(page, "5 and 6 ?")
    expect(log_of(page)).to_contain_text("**11**")
    complete(page)

    page.get_by_role("button", name="Ask again before add is called").click()
    say(page, "7 and 8 ?")
    expect(page.get_by_text("Needs your approval")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Needs your approval")).to_be_hidden()
    page.get_by_role("button", name="New chat").click()
    expect(page.locator("#chat-log")).to_be_empty()
    expect(page.get_by_role("heading", name="Ask something")).to_be_visible()
    assert calls_recorded() == 3


def test_a_denied_tool_does_not_run_and_the_model_hears_why(
    gateway: LiveGateway, cast: Cast, window: Window, model: ModelServer, upstream: None
) -> None:
    page = open_chat(window, gateway)
    say(page, "1 and 2 ?")
    page.get_by_label("Or tell the model why not").fill("Use your head.")
    page.get_by_role("button", name="Deny").click()
    complete(page)

    assert told(model) == "The person did not allow this call. They say: Use your head."
    assert calls_recorded() == 0


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (("calculator__subtract", {"a": 1, "b": 2}), "There is no tool calculator__subtract"),
        (("<img src=x onerror=alert(1)>", {}), "There is no tool <img"),
        ((ADD, "{broken"), "The arguments were not a JSON object"),
    ],
    ids=["not-chosen", "made-up", "broken"],
)
def test_what_was_not_offered_is_not_called(
    gateway: LiveGateway, cast: Cast, window: Window, model: ModelServer, upstream: None, call: tuple[str, object],
    sentence: str,
) -> None:  # fmt: skip
    model.replies += [calling(call), saying("I see.")]
    page = open_chat(window, gateway)

    say(page, "Go on")
    complete(page)

    expect(log_of(page)).to_contain_text("Not called")
    expect(log_of(page)).to_contain_text("I see.")
    assert told(model).startswith(sentence)
    assert calls_recorded() == 0


def test_stop_ends_the_answer_and_hangs_up(
    gateway: LiveGateway, cast: Cast, window: Window, model: ModelServer
) -> None:
    never = threading.Event()
    model.replies.append(Reply([chunk({"content": "Once upon a time"}), never]))
    page = open_chat(window, gateway, tools=())

    say(page, "Tell me a story")
    expect(log_of(page)).to_contain_text("Once upon a time")
    page.get_by_role("button", name="Stop").click()

    expect(page.get_by_role("button", name="Send")).to_be_visible()
    assert model.left.wait(10)
    say(page, "Shorter")
    complete(page)
    said = [(message["role"], message["content"]) for message in model.asked[-1].body["messages"]]
    assert said == [("user", "Tell me a story"), ("assistant", "Once upon a time"), ("user", "Shorter")]


def test_a_model_that_only_calls_is_stopped_after_25_rounds(
    gateway: LiveGateway, cast: Cast, window: Window, model: ModelServer, upstream: None
) -> None:
    model.otherwise = lambda asked: calling((ADD, {"a": 1, "b": 1}))
    page = open_chat(window, gateway)

    say(page, "Go")
    page.get_by_role("button", name="Allow for this chat").click()

    expect(page.get_by_text("Stopped after 25 rounds of tools.")).to_be_visible(timeout=60_000)
    assert len(model.asked) == 25


def test_a_failure_is_said_and_can_be_tried_again(
    gateway: LiveGateway, cast: Cast, window: Window, model: ModelServer
) -> None:
    model.replies += [Reply(status=429, headers={"Retry-After": "3"}), saying("Here I am.")]
    page = open_chat(window, gateway, tools=())

    say(page, "Hello")
    expect(page.get_by_role("alert")).to_contain_text("It asks to wait 3 seconds.")
    window.shoot("chat-failed")
    page.get_by_role("button", name="Try again").click()
    complete(page)

    expect(log_of(page)).to_contain_text("Here I am.")
    expect(page.get_by_role("alert")).to_be_hidden()
    assert [message["role"] for message in model.asked[-1].body["messages"]] == ["user"]


@pytest.mark.requirement("T25")
def test_what_a_model_writes_is_text(gateway: LiveGateway, cast: Cast, window: Window, model: ModelServer) -> None:
    nasty = '<img src=x onerror="document.title=1"><script>alert(1)</script> [x](javascript:alert(1)) \u202e\u001b[31m'
    model.replies.append(saying(nasty, "\n```html\n<b>bold</b>\n"))
    page = open_chat(window, gateway, tools=())

    say(page, "<b>Hello</b>")
    complete(page)

    expect(log_of(page)).to_contain_text("<img src=x")
    expect(log_of(page)).to_contain_text("‹U+202E›")
    expect(log_of(page).get_by_role("group", name="Code in html")).to_contain_text("<b>bold</b>")
    assert log_of(page).locator("img, script, a, b").count() == 0


def test_a_desert_of_spaces_does_not_hold_the_page_up(
    gateway: LiveGateway, cast: Cast, window: Window, model: ModelServer
) -> None:
    model.replies.append(saying("before", *[" " * 50_000] * 8, "after"))
    page = open_chat(window, gateway, tools=())

    say(page, "Hello")
    complete(page)

    expect(log_of(page)).to_contain_text("after")


def test_a_long_result_is_cut_for_the_model(
    gateway: LiveGateway, cast: Cast, window: Window, model: ModelServer
) -> None:
    found = window.page
    open_chat(window, gateway, tools=())
    words = found.evaluate(
        """async () => {
          const url = document.querySelector("#chat script").src.replace("chat.", "chat-conversation.");
          const { forModel } = await import(url);
          return forModel({ content: [{ type: "text", text: "x".repeat(50000) }, { type: "image", data: "AAAA" }] });
        }"""
    )

    assert len(words) < 17_000
    assert words.endswith("Ask for less at once.]")


def test_names_fit_the_endpoint_and_stay_apart(
    gateway: LiveGateway, cast: Cast, window: Window, model: ModelServer
) -> None:
    found = open_chat(window, gateway, tools=())
    names = found.evaluate(
        """async () => {
          const url = document.querySelector("#chat script").src.replace("chat.", "chat-names.");
          const { nameTools } = await import(url);
          const server = (tenant, slug) => ({ tenant, slug });
          const tool = (name) => ({ name, inputSchema: { type: "object" } });
          const names = ["find", "find.all", "find_all", "x".repeat(90), "x".repeat(91)];
          const chosen = [
            { server: server("a", "crm"), tools: names.map(tool) },
            { server: server("b", "crm"), tools: [tool("find")] },
          ];
          return nameTools(chosen).offered.map(({ name }) => name);
        }"""
    )

    assert names[0] == "crm__find"
    assert len(set(names)) == 6
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in names)


def test_without_a_model_the_page_says_what_to_do(gateway: LiveGateway, cast: Cast, window: Window) -> None:
    page = window.page
    sign_in(page, gateway.origin, "admin")
    page.goto(f"{gateway.origin}/portal/playground/")
    page.get_by_role("tab", name="Chat").click()
    expect(page.get_by_role("link", name="Add a model endpoint")).to_be_visible()
    window.shoot("chat-none")

    page.get_by_role("link", name="Add a model endpoint").click()
    page.get_by_label("Name:").fill("House")
    page.get_by_label("Base URL:").fill("https://models.example/v1")
    page.get_by_label("Models:").fill("small")
    window.shoot("model-endpoint-form")
    page.get_by_role("button", name="Save", exact=True).click()
    page.goto(f"{gateway.origin}/portal/playground/")
    page.get_by_role("tab", name="Chat").click()
    expect(page.get_by_label("Model", exact=True)).to_have_value(re.compile(" small$"))


def test_the_chat_reads_well_in_the_dark(
    gateway: LiveGateway, cast: Cast, dark_window: Window, model: ModelServer, upstream: None
) -> None:
    page = open_chat(dark_window, gateway)
    say(page, "2 and 3 ?")
    page.get_by_role("button", name="Allow once").click()
    complete(page)
    dark_window.shoot("chat-dark")

    assert page.evaluate(CONTRAST) == []


def test_instructions_go_first(gateway: LiveGateway, cast: Cast, window: Window, model: ModelServer) -> None:
    seen: list[Asked] = []
    model.otherwise = lambda asked: (seen.append(asked), saying("Yes."))[1]
    page = open_chat(window, gateway, tools=())
    page.get_by_text("Instructions for the model").first.click()
    page.get_by_role("textbox", name="Instructions for the model").fill("Be short.")
    page.get_by_label("Model", exact=True).select_option(label="large")

    say(page, "Hello")
    complete(page)

    assert seen[0].body["model"] == "large"
    assert seen[0].body["messages"][0] == {"role": "system", "content": "Be short."}
    assert "sk-secret" not in page.content()
    assert json.dumps(seen[0].body).count("sk-secret") == 0
