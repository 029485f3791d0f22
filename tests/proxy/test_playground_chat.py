"""The chat's way to a language model: who may use it, what goes out, and what of the answer comes in."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
import requests
from django.conf import settings
from django.test import Client

from proxy.playground.chat_pieces import Cleaner, Events
from proxy.playground.chat_trouble import SENTENCES, Trouble
from servers.models import Membership, ModelEndpoint
from servers.secrets.store import set_secret
from tests.conftest import Cast, allow_private
from tests.support.gateway import LiveGateway
from tests.support.model_server import DONE, ModelServer, Piece, Reply, calling, chunk, event, saying

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requirement("F-603")]
CSRF = "a" * 32
KEY = "sk-very-secret-key"
THEIR_WORDS = "words of the endpoint about sk-very-secret-key"
ADD = {"name": "calculator__add", "description": "Adds.", "parameters": {"type": "object"}}


@pytest.fixture
def model() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


@pytest.fixture
def endpoint(cast: Cast, model: ModelServer) -> ModelEndpoint:
    set_secret(tenant=cast.tenant, group="llm", key="key", value=KEY, actor="admin")
    allow_private(model.url)
    return ModelEndpoint.objects.create(
        tenant=cast.tenant, name="House", base_url=model.url, model_names=["small"], key="secret://default:llm:key"
    )


class Page:
    """A signed-in page that chats; without a person it has no session."""

    def __init__(self, gateway: LiveGateway, person: Any = None) -> None:
        self._origin = gateway.origin
        self.cookies = {settings.CSRF_COOKIE_NAME: CSRF}
        if person is not None:
            browser = Client()
            browser.force_login(person)
            self.cookies[settings.SESSION_COOKIE_NAME] = browser.cookies[settings.SESSION_COOKIE_NAME].value

    def ask(self, at: ModelEndpoint, *, headers: dict[str, str] | None = None, **changes: Any) -> Any:
        body = {"endpoint": str(at.pk), "model": "small", "messages": [user("Hello")], "tools": [], **changes}
        return self.post(json.dumps(body).encode(), headers=headers)

    def post(self, body: bytes, *, headers: dict[str, str] | None = None) -> requests.Response:
        sent = {"Content-Type": "application/json", "Origin": self._origin, "X-CSRFToken": CSRF, **(headers or {})}
        url = f"{self._origin}/portal/playground/chat"
        return requests.post(url, data=body, headers=sent, cookies=self.cookies, timeout=30, stream=True)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def pieces_of(response: requests.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    response.encoding = "utf-8"
    return [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]


def test_an_answer_comes_as_it_is_said(
    gateway: LiveGateway, cast: Cast, model: ModelServer, endpoint: ModelEndpoint
) -> None:
    go_on = threading.Event()
    pieces: list[Piece] = [chunk({"role": "assistant", "content": "Grü"}), go_on, chunk({"content": "ezi"})]
    model.replies.append(Reply([*pieces, chunk({}, "stop"), DONE]))

    answer = Page(gateway, cast.member).ask(endpoint)
    lines = answer.iter_lines(chunk_size=1)
    first = next(lines)
    go_on.set()
    rest = [json.loads(line[6:]) for line in lines if line]

    assert json.loads(first[6:]) == {"type": "text", "text": "Grü"}
    assert rest == [{"type": "text", "text": "ezi"}, {"type": "end", "reason": "stop"}]
    asked = model.asked[0]
    assert asked.path == "/v1/chat/completions"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.body["model"] == "small"
    assert asked.body["messages"] == [user("Hello")]
    assert "tools" not in asked.body
    assert "cookie" not in asked.headers


def test_tool_calls_and_the_usage_come_through(
    gateway: LiveGateway, cast: Cast, model: ModelServer, endpoint: ModelEndpoint
) -> None:
    model.replies.append(calling(("calculator__add", {"a": 1})))

    found = pieces_of(Page(gateway, cast.member).ask(endpoint, tools=[ADD]))

    calls = [piece for piece in found if piece["type"] == "call"]
    assert (calls[0]["id"], calls[0]["name"]) == ("call_0", "calculator__add")
    assert "".join(piece["arguments"] for piece in calls) == '{"a": 1}'
    assert {"type": "usage", "input": 12, "output": 5} in found
    assert found[-1] == {"type": "end", "reason": "tool_calls"}
    assert model.asked[0].tools == ["calculator__add"]


def test_an_endpoint_that_does_not_stream_is_understood(
    gateway: LiveGateway, cast: Cast, model: ModelServer, endpoint: ModelEndpoint
) -> None:
    whole = {"choices": [{"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}
    model.replies.append(Reply([json.dumps(whole).encode()], content_type="application/json; charset=utf-8"))

    found = pieces_of(Page(gateway, cast.member).ask(endpoint))

    assert found == [{"type": "text", "text": "Hi"}, {"type": "end", "reason": "stop"}]


HISTORY = [
    {"role": "system", "content": "Be short."},
    user("1+1?"),
    {
        "role": "assistant",
        "content": "",
        "secret": "of the page",
        "tool_calls": [{"id": "call_0", "type": "function", "function": {"name": "add", "arguments": "{}", "x": 1}}],
    },
    {"role": "tool", "tool_call_id": "call_0", "content": "2", "extra": True},
]


def test_a_conversation_is_built_anew_from_what_is_known(
    gateway: LiveGateway, cast: Cast, model: ModelServer, endpoint: ModelEndpoint
) -> None:
    pieces_of(Page(gateway, cast.member).ask(endpoint, messages=HISTORY, stream=False, max_tokens=10**9))

    call = {"id": "call_0", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    assert model.asked[0].body == {
        "model": "small",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": "Be short."},
            user("1+1?"),
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_0", "content": "2"},
        ],
    }


# Who may


@pytest.mark.parametrize("why", ["another tenant", "another team", "disabled", "another model", "unknown"])
def test_what_is_not_theirs_reads_like_what_does_not_exist(
    gateway: LiveGateway, cast: Cast, model: ModelServer, endpoint: ModelEndpoint, why: str
) -> None:
    person, changes = cast.member, {}
    match why:
        case "another tenant":
            person = cast.stranger
        case "another team":
            endpoint.teams.add(cast.readers)
            person = cast.outsider
        case "disabled":
            ModelEndpoint.objects.update(enabled=False)
        case "another model":
            changes = {"model": "large"}
        case "unknown":
            changes = {"endpoint": str(uuid4())}

    answer = Page(gateway, person).ask(endpoint, **changes)

    assert answer.status_code == 403
    assert answer.json() == {
        "code": "model_unknown",
        "detail": "This model is not available to you (any more). Choose another one.",
    }
    assert model.asked == []


def test_a_team_may_use_what_is_for_it(gateway: LiveGateway, cast: Cast, endpoint: ModelEndpoint) -> None:
    endpoint.teams.add(cast.readers)

    assert pieces_of(Page(gateway, cast.member).ask(endpoint))[-1]["type"] == "end"


def test_who_left_the_tenant_left_its_models(gateway: LiveGateway, cast: Cast, endpoint: ModelEndpoint) -> None:
    Membership.objects.filter(user=cast.member).delete()

    assert Page(gateway, cast.member).ask(endpoint).status_code == 403


def test_without_a_session_there_is_a_sentence(gateway: LiveGateway, cast: Cast, endpoint: ModelEndpoint) -> None:
    answer = Page(gateway).ask(endpoint)

    assert (answer.status_code, answer.json()["code"]) == (401, "signed_out")


@pytest.mark.parametrize("headers", [{"X-CSRFToken": "b" * 32}, {"Origin": "https://elsewhere.example"}])
def test_another_site_cannot_chat(
    gateway: LiveGateway, cast: Cast, model: ModelServer, endpoint: ModelEndpoint, headers: dict[str, str]
) -> None:
    assert Page(gateway, cast.member).ask(endpoint, headers=headers).status_code == 403
    assert model.asked == []


# What the page sends


BAD: dict[str, Any] = {
    "no messages": {"messages": []},
    "a role": {"messages": [{"role": "developer", "content": "x"}]},
    "no text": {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
    "no message": {"messages": ["hello"]},
    "messages": {"messages": {"role": "user"}},
    "a name": {"tools": [{**ADD, "name": "a b"}]},
    "no schema": {"tools": [{**ADD, "parameters": "object"}]},
    "an id": {"messages": [{"role": "tool", "tool_call_id": "a\nb", "content": "x"}]},
    "no endpoint": {"endpoint": "house"},
    "a model": {"model": 7},
}


@pytest.mark.parametrize("changes", BAD.values(), ids=BAD.keys())
def test_a_request_that_is_wrong_goes_nowhere(
    gateway: LiveGateway, cast: Cast, model: ModelServer, endpoint: ModelEndpoint, changes: dict[str, Any]
) -> None:
    answer = Page(gateway, cast.member).ask(endpoint, **changes)

    assert (answer.status_code, answer.json()["code"]) == (400, "chat_request")
    assert model.asked == []


@pytest.mark.parametrize("body", [b"", b"hello", b"[]", b"[" * 100_000], ids=["empty", "text", "list", "deep"])
def test_a_request_that_is_not_json_has_a_sentence(gateway: LiveGateway, cast: Cast, body: bytes) -> None:
    answer = Page(gateway, cast.member).post(body)

    assert (answer.status_code, answer.json()["code"]) == (400, "chat_request")


@pytest.mark.parametrize(
    "changes",
    [{"messages": [user("x" * 500_000)]}, {"messages": [user("x" * 350_000)] * 6}, {"tools": [ADD] * 200}],
    ids=["message", "conversation", "tools"],
)
def test_too_much_has_a_sentence(
    gateway: LiveGateway, cast: Cast, model: ModelServer, endpoint: ModelEndpoint, changes: dict[str, Any]
) -> None:
    answer = Page(gateway, cast.member).ask(endpoint, **changes)

    assert (answer.status_code, answer.json()["code"]) == (413, "chat_too_large")
    assert model.asked == []


# What endpoints do wrong


def error(code: str, status: int) -> Reply:
    body = json.dumps({"error": {"message": THEIR_WORDS, "code": code}}).encode()
    return Reply([body], status=status, content_type="application/json")


WRONG: dict[str, tuple[Reply, str]] = {
    "401": (error("invalid_api_key", 401), "model_key_refused"),
    "404": (error("model_not_found", 404), "model_not_there"),
    "400": (error("context_length_exceeded", 400), "model_not_accepted"),
    "500": (error("server_error", 500), "model_failed"),
    "a redirect": (Reply(status=307, headers={"Location": "http://127.0.0.1:9/"}), "model_not_there"),
    "a page": (Reply([b"<h1>Hello</h1>"], content_type="text/html"), "model_garbage"),
    "no JSON": (Reply([b"data: {broken\n\n"]), "model_garbage"),
    "no object": (Reply([event("7")]), "model_garbage"),
    "deep JSON": (Reply([b"data: " + b"[" * 50_000 + b"\n\n"]), "model_garbage"),
    "an error inside": (Reply([event({"error": {"message": THEIR_WORDS}})]), "model_failed"),
    "a call of nothing": (Reply([chunk({"tool_calls": [{"index": "x"}]})]), "model_garbage"),
    "a thousand calls": (
        Reply([chunk({"tool_calls": [{"index": i, "function": {"name": "x"}}]}) for i in range(1000)]),
        "model_garbage",
    ),
    "an event without end": (Reply([b"data: " + b"x" * 2_000_000]), "model_garbage"),
    "cut off": (Reply([chunk({"content": "Hel"})]), "model_cut_off"),
    "cut off inside": (Reply([chunk({"content": "Hel"})], length=10_000), "model_cut_off"),
    "nothing": (Reply([]), "model_cut_off"),
}


@pytest.mark.parametrize(("reply", "code"), WRONG.values(), ids=WRONG.keys())
def test_what_an_endpoint_does_wrong_is_one_clear_error(
    gateway: LiveGateway, cast: Cast, model: ModelServer, endpoint: ModelEndpoint, caplog: Any, reply: Reply, code: str
) -> None:
    model.replies.append(reply)
    with caplog.at_level(logging.DEBUG):
        answer = Page(gateway, cast.member).ask(endpoint)
        found = pieces_of(answer)

    assert found[-1] == {"type": "error", "code": code, "detail": SENTENCES[code]}
    assert [piece["type"] for piece in found].count("error") == 1
    for leaked in (KEY, THEIR_WORDS):
        assert leaked not in answer.text
        assert leaked not in caplog.text


@pytest.mark.parametrize(("value", "seconds"), [("7", 7), ("soon", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0)])
def test_a_busy_endpoint_says_when_to_come_back(
    gateway: LiveGateway, cast: Cast, model: ModelServer, endpoint: ModelEndpoint, value: str, seconds: int | None
) -> None:
    model.replies.append(Reply(status=429, headers={"Retry-After": value}))

    (found,) = pieces_of(Page(gateway, cast.member).ask(endpoint))

    assert found["code"] == "model_busy"
    assert found.get("retry_after") == seconds
    assert ("7 seconds" in found["detail"]) == (seconds == 7)


@pytest.mark.parametrize("said", [[], [chunk({"content": "Well"})]], ids=["at once", "in between"])
def test_an_endpoint_that_falls_silent_is_given_up(
    gateway: LiveGateway, cast: Cast, model: ModelServer, endpoint: ModelEndpoint, settings: Any, said: list[Piece]
) -> None:
    settings.MODEL_SILENCE_SECONDS = 0.2
    never = threading.Event()
    model.replies.append(Reply([*said, never]))

    found = pieces_of(Page(gateway, cast.member).ask(endpoint))

    assert found[-1]["code"] == "model_slow"
    assert model.left.wait(10), "the endpoint learns of it"


def test_whoever_stops_hangs_up(gateway: LiveGateway, cast: Cast, model: ModelServer, endpoint: ModelEndpoint) -> None:
    never = threading.Event()
    model.replies.append(Reply([chunk({"content": "Well"}), never]))

    answer = Page(gateway, cast.member).ask(endpoint)
    next(answer.iter_lines(chunk_size=1))
    answer.close()

    assert model.left.wait(10)


def test_answers_asked_for_at_the_same_moment_are_counted_too(
    gateway: LiveGateway, cast: Cast, model: ModelServer, endpoint: ModelEndpoint
) -> None:
    over = threading.Event()
    model.replies += [Reply([chunk({"content": "x"}), over, chunk({}, "stop")]) for _ in range(12)]
    page = Page(gateway, cast.member)

    def begun(_: int) -> tuple[str, Iterator[bytes]]:
        lines = page.ask(endpoint).iter_lines(chunk_size=1)
        return next(lines).decode(), lines

    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(begun, range(12)))
    over.set()

    assert len(list(model.chats())) == 4
    assert sum("too_many_chats" in first for first, _ in answers) == 8
    assert sum(any(b'"end"' in line for line in rest) for _, rest in answers) == 4


def test_a_person_has_only_so_many_answers_at_once(
    gateway: LiveGateway, cast: Cast, model: ModelServer, endpoint: ModelEndpoint
) -> None:
    over = threading.Event()
    model.replies += [Reply([chunk({"content": "x"}), over, chunk({}, "stop")]) for _ in range(4)]
    page = Page(gateway, cast.member)
    opened = [page.ask(endpoint) for _ in range(4)]

    refused = page.ask(endpoint)
    other = Page(gateway, cast.manager).ask(endpoint)
    over.set()
    ended = [pieces_of(answer)[-1]["type"] for answer in opened]

    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_chats")
    assert pieces_of(other)[-1]["type"] == "end"
    assert ended == ["end"] * 4
    assert pieces_of(page.ask(endpoint))[-1]["type"] == "end"


def test_an_endpoint_that_is_down_is_said(gateway: LiveGateway, cast: Cast, endpoint: ModelEndpoint) -> None:
    url = "http://127.0.0.1:9/v1"
    allow_private(url)
    ModelEndpoint.objects.update(base_url=url)

    assert pieces_of(Page(gateway, cast.member).ask(endpoint))[-1]["code"] == "model_unreachable"


@pytest.mark.requirement("T26")
def test_a_private_address_is_called_only_where_an_admin_allowed_it(
    gateway: LiveGateway, cast: Cast, model: ModelServer, endpoint: ModelEndpoint
) -> None:
    with ModelServer() as hidden:
        ModelEndpoint.objects.update(base_url=hidden.url)
        found = pieces_of(Page(gateway, cast.member).ask(endpoint))

    assert found[-1]["code"] == "model_address"
    assert hidden.asked == []


@pytest.mark.parametrize("key", ["secret://default:llm:gone", "secret://other:llm:key", "env://HOME", "secret://"])
def test_a_key_that_is_not_there_is_said_without_its_name(
    gateway: LiveGateway, cast: Cast, model: ModelServer, endpoint: ModelEndpoint, key: str
) -> None:
    ModelEndpoint.objects.update(key=key)

    answer = Page(gateway, cast.member).ask(endpoint)

    assert pieces_of(answer)[-1]["code"] == "model_key_missing"
    assert "llm" not in answer.text
    assert model.asked == []


def test_an_endpoint_without_a_key_gets_none(
    gateway: LiveGateway, cast: Cast, model: ModelServer, endpoint: ModelEndpoint
) -> None:
    ModelEndpoint.objects.update(key="")

    assert pieces_of(Page(gateway, cast.member).ask(endpoint))[-1]["type"] == "end"
    assert "authorization" not in model.asked[0].headers


# The page around it


def test_the_page_offers_what_is_theirs_within_its_budget(
    cast: Cast, endpoint: ModelEndpoint, django_assert_max_num_queries: Any
) -> None:
    ModelEndpoint.objects.create(
        tenant=cast.other_tenant, name="Far", base_url="https://far.example", model_names=["x"]
    )
    for number in range(20):
        ModelEndpoint.objects.create(
            tenant=cast.tenant, name=f"More {number}", base_url="https://models.example", model_names=["<b>", "large"]
        )
    browser = Client()
    browser.force_login(cast.member)

    with django_assert_max_num_queries(20):
        answer = browser.get("/portal/playground/")
    text = answer.content.decode()

    assert len(answer.content) < 100 * 1024
    assert f'value="{endpoint.pk} small"' in text
    assert "&lt;b&gt;" in text
    assert "<b>" not in text
    for hidden in ("Far", "models.example", endpoint.base_url, endpoint.key, KEY):
        assert hidden not in text


def test_who_has_no_model_is_told_what_to_do(cast: Cast, endpoint: ModelEndpoint) -> None:
    browser = Client()
    for person, sentence in ((cast.stranger, "An admin can register one"), (cast.admin, "Add a model endpoint")):
        endpoint.teams.add(cast.readers)
        browser.force_login(person)
        assert sentence in browser.get("/portal/playground/").content.decode()


# However the network cuts it


def test_a_stream_reads_the_same_however_it_is_cut() -> None:
    whole = b": hello\r\n\r\n" + b"".join(piece for piece in saying("Grü", "ezi").pieces if isinstance(piece, bytes))
    for ending in (b"\n", b"\r\n", b"\r"):
        stream = whole.replace(b"\r\n", b"\n").replace(b"\n", ending)
        for size in (1, 2, 7, len(stream)):
            events, cleaner = Events(), Cleaner()
            found = [
                piece
                for start in range(0, len(stream), size)
                for data in events.feed(stream[start : start + size])
                for piece in cleaner.pieces(data)
            ]
            found += cleaner.pieces(events.rest())
            assert "".join(p["text"] for p in found if p["type"] == "text") == "Grüezi", (ending, size)
            assert cleaner.reason == "stop"


def test_a_word_that_is_not_known_does_not_pass() -> None:
    cleaner = Cleaner()
    data = json.dumps(
        {"choices": [{"delta": {"content": "x", "html": "<b>"}, "finish_reason": "<script>"}], "secret": 1}
    )

    assert list(cleaner.pieces(data.encode())) == [{"type": "text", "text": "x"}]
    assert cleaner.reason == "other"


def test_arguments_without_end_are_stopped() -> None:
    cleaner = Cleaner()
    call = {"index": 0, "function": {"name": "x", "arguments": "x" * 200_000}}
    data = json.dumps({"choices": [{"delta": {"tool_calls": [call]}}]}).encode()
    list(cleaner.pieces(data))

    with pytest.raises(Trouble):
        list(cleaner.pieces(data))
