"""Reading everything that a server offers, from real servers of both eras and from ones that misbehave."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mcp.server import MCPServer

from proxy.catalogue_reading import probe_and_read, read
from proxy.probe import Target
from servers.catalogue.checks import check_all
from servers.catalogue.readings import NotRead, Reading
from servers.catalogue.taking import take
from servers.items import ItemKind
from servers.models import Server
from tests.conftest import Cast, allow_private
from tests.support.mcp_upstream import App, legacy_only, modern_only, requiring, serving
from tests.support.upstream import Answer, Request, Script, Upstream, json_answer, result

pytestmark = [pytest.mark.django_db, pytest.mark.requirement("F-804")]

Eras = Server.Eras
KEY = "s3cret-key-value"


def library(**options: Any) -> App:
    """The SDK's server with something of every kind."""
    server = MCPServer("Library", version="3.1", instructions="Ask for books.")

    @server.tool()
    def lend(title: str) -> str:
        return title

    @server.prompt()
    def recommend(genre: str) -> str:
        return genre

    @server.resource("books://all")
    def books() -> str:
        return ""

    @server.resource("books://{author}")
    def by_author(author: str) -> str:
        return author

    return server.streamable_http_app(**options)


NOTHING: dict[str, list[str]] = {kind: [] for kind in ItemKind}


def reading_of(url: str, **options: Any) -> Reading:
    allow_private(url)
    found = read(Target(url=url), **options)
    assert isinstance(found, Reading), found
    return found


def failure_of(url: str, **options: Any) -> NotRead:
    allow_private(url)
    found = read(Target(url=url), **options)
    assert isinstance(found, NotRead), found
    return found


def keys(reading: Reading) -> dict[str, list[str]]:
    checked = check_all(reading.offered).items
    assert not [one for one in checked if one.problem]
    return {kind: [one.key for one in checked if one.kind is kind] for kind in ItemKind}


EVERYTHING = {
    ItemKind.TOOL: ["lend"],
    ItemKind.PROMPT: ["recommend"],
    ItemKind.RESOURCE: ["books://all"],
    ItemKind.TEMPLATE: ["books://{author}"],
}


@pytest.mark.parametrize(
    ("kind", "versions", "eras"),
    [
        (lambda app: app, ("2026-07-28", "2025-11-25"), Eras.DUAL),
        (legacy_only, ("2025-11-25",), Eras.LEGACY),
        (modern_only, ("2026-07-28",), Eras.MODERN),
    ],
    ids=["dual", "legacy", "modern"],
)
def test_a_server_of_either_era_is_read_whole(kind: Callable[[App], App], versions: Any, eras: Eras) -> None:
    with serving(kind(library())) as url:
        found = reading_of(url)
    assert keys(found) == EVERYTHING
    assert (found.versions, found.eras) == (versions, eras)
    assert found.instructions == "Ask for books."
    assert found.server_info == {"name": "Library", "version": "3.1"}
    assert {"tools", "prompts", "resources"} <= set(found.capabilities)
    assert found.notes == ()


@pytest.mark.parametrize("known", [Eras.MODERN, Eras.DUAL, Eras.LEGACY])
def test_a_server_whose_eras_are_known_is_opened_once(known: Eras) -> None:
    with Upstream(both) as upstream:
        found = reading_of(upstream.url, known=known)
        opened = [name for name in methods(upstream) if name in ("server/discover", "initialize")]
    assert opened == ["initialize" if known == Eras.LEGACY else "server/discover"]
    assert found.eras == Eras.UNKNOWN
    assert found.offered[ItemKind.TOOL]


@pytest.mark.parametrize("known", [Eras.MODERN, Eras.LEGACY])
def test_what_was_known_of_the_eras_may_be_wrong_by_now(known: Eras) -> None:
    with serving((legacy_only if known == Eras.MODERN else modern_only)(library())) as url:
        found = reading_of(url, known=known)
    assert (keys(found), found.eras) == (EVERYTHING, Eras.LEGACY if known == Eras.MODERN else Eras.MODERN)


def test_the_credential_goes_along_and_a_refused_one_is_named() -> None:
    with serving(requiring(library(), "Authorization", f"Bearer {KEY}")) as url:
        allow_private(url)
        right = read(Target(url=url, credential=(("Authorization", f"Bearer {KEY}"),)))
        wrong = read(Target(url=url, credential=(("Authorization", "Bearer wrong"),)))
        nothing_to_show = read(Target(url=url, callers_bring=True))
    assert isinstance(right, Reading)
    assert isinstance(wrong, NotRead)
    assert isinstance(nothing_to_show, NotRead)
    assert (wrong.step, nothing_to_show.step) == ("authentication", "authentication")


# Servers that misbehave


def methods(upstream: Upstream) -> list[str]:
    return [request.json()["method"] for request in upstream.requests if request.method == "POST"]


def legacy(lists: Callable[[Request, str, dict[str, Any]], Any], **capabilities: Any) -> Script:
    """A legacy server that declares these capabilities; `lists` answers whatever is asked of it."""

    def script(request: Request) -> Any:
        if request.method != "POST":
            return Answer(200)
        message = request.json()
        if "id" not in message:
            return Answer(202)
        if message["method"] == "initialize":
            info = {"name": "scripted", "version": "1"}
            opened = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info}
            return result(request, opened)
        if message["method"] == "server/discover":
            return unknown(request)
        return lists(request, message["method"], message.get("params") or {})

    return script


def unknown(request: Request) -> Answer:
    error = {"code": -32601, "message": "Method not found"}
    return json_answer({"jsonrpc": "2.0", "id": request.json()["id"], "error": error})


def tools(request: Request, *names: str, **more: Any) -> Answer:
    found = [{"name": name, "inputSchema": {"type": "object"}} for name in names]
    return result(request, {"tools": found, **more})


def both(request: Request) -> Any:
    """A server that speaks both eras."""
    if request.method == "POST" and request.json()["method"] == "server/discover":
        return result(request, {"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}})
    return legacy(lambda request, *_: tools(request, "add"), tools={})(request)


@pytest.mark.parametrize("pages", [1, 10, 1000], ids=["one page", "ten pages", "a thousand pages"])
def test_ten_thousand_tools_are_read_in_order(pages: int) -> None:
    size = 10_000 // pages

    def lists(request: Request, _: str, params: dict[str, Any]) -> Answer:
        page = int(params.get("cursor") or 0)
        more = {"nextCursor": str(page + 1)} if page + 1 < pages else {}
        return tools(request, *(f"tool-{n}" for n in range(page * size, (page + 1) * size)), **more)

    with Upstream(legacy(lists, tools={})) as upstream:
        found = reading_of(upstream.url, total_seconds=60)
    assert keys(found)[ItemKind.TOOL] == [f"tool-{n}" for n in range(10_000)]


def test_ten_thousand_tools_as_one_event_are_read_too() -> None:
    names = [f"tool-{n}" for n in range(10_000)]

    def lists(request: Request, *_: Any) -> bytes:
        answer = tools(request, *names)
        body = b"event: message\r\ndata: " + answer.body + b"\r\n\r\n"
        return Answer(200, (("Content-Type", "text/event-stream"),), body).encoded()

    with Upstream(legacy(lists, tools={})) as upstream:
        assert len(reading_of(upstream.url).offered[ItemKind.TOOL]) == 10_000


def test_an_empty_text_is_a_cursor_like_any_other() -> None:
    def lists(request: Request, _: str, params: dict[str, Any]) -> Answer:
        return tools(request, "b") if "cursor" in params else tools(request, "a", nextCursor="")

    with Upstream(legacy(lists, tools={})) as upstream:
        assert keys(reading_of(upstream.url))[ItemKind.TOOL] == ["a", "b"]


def endless(request: Request, method: str, params: dict[str, Any]) -> Answer:
    return tools(request, nextCursor=str(int(params.get("cursor", 0)) + 1))


@pytest.mark.parametrize(
    ("lists", "says"),
    [
        (endless, "do not end"),
        (lambda request, *_: tools(request, "a", nextCursor="again"), "do not end"),
        (lambda request, *_: tools(request, "a", nextCursor=7), "do not end"),
        (lambda request, *_: tools(request, "a", nextCursor={"page": 2}), "do not end"),
        (lambda request, *_: result(request, {"tools": {"name": "a"}}), "did not list its tools (HTTP 200)"),
        (lambda request, *_: result(request, {"tools": None}), "did not list its tools"),
        (lambda request, *_: result(request, {}), "did not list its tools"),
        (lambda request, *_: result(request, ["a"]), "did not list its tools"),
        (lambda request, *_: json_answer({"jsonrpc": "2.0", "id": 77, "result": {"tools": []}}), "did not list"),
        (lambda request, *_: Answer(500), "did not list its tools (HTTP 500)"),
        (lambda request, *_: Answer(200, (("Content-Type", "text/html"),), b"<html>"), "did not list its tools"),
    ],
)
def test_a_list_that_is_none_is_a_failure_and_never_an_empty_one(lists: Any, says: str) -> None:
    with Upstream(legacy(lists, tools={})) as upstream:
        found = failure_of(upstream.url, total_seconds=60)
    assert (found.step, says in found.sentence) == ("tools", True), found


def test_pages_that_fail_half_way_fail_the_reading() -> None:
    def lists(request: Request, _: str, params: dict[str, Any]) -> Answer:
        return Answer(502) if params else tools(request, "a", nextCursor="2")

    with Upstream(legacy(lists, tools={})) as upstream:
        assert "HTTP 502" in failure_of(upstream.url).sentence


def test_more_items_than_a_catalogue_holds_end_the_reading() -> None:
    def lists(request: Request, _: str, params: dict[str, Any]) -> Answer:
        page = int(params.get("cursor") or 0)
        return tools(request, *(f"tool-{page}-{n}" for n in range(5_000)), nextCursor=str(page + 1))

    with Upstream(legacy(lists, tools={})) as upstream:
        assert "more than 20000 tools" in failure_of(upstream.url, total_seconds=60).sentence
        assert methods(upstream).count("tools/list") == 5


def test_more_bytes_than_fit_end_the_reading() -> None:
    def flood(request: Request, *_: Any) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
        while True:
            yield b" " * 2**20

    with Upstream(legacy(flood, tools={})) as upstream:
        assert "larger than 48 MiB" in failure_of(upstream.url, total_seconds=60).sentence


def test_a_declared_list_that_the_server_does_not_know_is_empty_and_noted() -> None:
    def lists(request: Request, method: str, _: dict[str, Any]) -> Answer:
        return tools(request, "add") if method == "tools/list" else unknown(request)

    with Upstream(legacy(lists, tools={}, prompts={}, resources={})) as upstream:
        found = reading_of(upstream.url)
    assert keys(found) == {**NOTHING, ItemKind.TOOL: ["add"]}
    assert found.notes == (
        "It declares prompts, but does not know how to list them.",
        "It declares resources, but does not know how to list them.",
    )


def test_what_is_not_declared_is_not_asked_for() -> None:
    with Upstream(legacy(lambda request, *_: tools(request, "add"), tools={}, logging={})) as upstream:
        assert keys(reading_of(upstream.url))[ItemKind.TOOL] == ["add"]
        asked = methods(upstream)
    assert not [name for name in asked if name.startswith(("prompts", "resources"))]


@pytest.mark.parametrize("capabilities", [None, [], "all", 7])
def test_a_server_that_declares_nonsense_offers_nothing(capabilities: Any) -> None:
    def script(request: Request) -> Any:
        message = request.json() if request.method == "POST" else {}
        if message.get("method") == "initialize":
            return result(request, {"protocolVersion": "2025-11-25", "capabilities": capabilities, "instructions": 7})
        return unknown(request) if "id" in message else Answer(202)

    with Upstream(script) as upstream:
        found = reading_of(upstream.url)
    assert keys(found) == NOTHING
    assert (found.capabilities, found.instructions) == ({}, "")


def test_another_list_that_fails_fails_the_reading_but_not_the_test() -> None:
    def lists(request: Request, method: str, _: dict[str, Any]) -> Answer:
        return tools(request, "add") if method == "tools/list" else Answer(500)

    with Upstream(legacy(lists, tools={}, prompts={})) as upstream:
        allow_private(upstream.url)
        tested, found = probe_and_read(Target(url=upstream.url))
    assert (tested.ok, tested.tools) == (True, 1)
    assert isinstance(found, NotRead)
    assert (found.step, "did not list its prompts (HTTP 500)" in found.sentence) == ("lists", True)


def test_a_session_is_ended_after_the_reading() -> None:
    def script(request: Request) -> Any:
        answer = legacy(lambda request, *_: tools(request, "add"), tools={})(request)
        if request.method == "POST" and request.json()["method"] == "initialize":
            return Answer(200, (*answer.headers, ("Mcp-Session-Id", "one")), answer.body)
        return answer

    with Upstream(script) as upstream:
        reading_of(upstream.url)
        last = upstream.requests[-1]
    assert (last.method, last.header("Mcp-Session-Id")) == ("DELETE", "one")


@pytest.mark.requirement("T36", "CL-28", "CL-23")
def test_a_server_that_lies_about_its_schemas_loses_only_those_tools(cast: Cast) -> None:
    deep = '{"not":' * 10_000 + "{}" + "}" * 10_000
    outside = {"type": "object", "properties": {"a": {"$ref": "PLACE/schema.json"}}}
    header = {"type": "object", "properties": {"a": {"type": "number", "x-mcp-header": "A"}}}

    def lists(request: Request, *_: Any) -> Answer:
        found = [
            '{"name":"good","inputSchema":{"type":"object"}}',
            f'{{"name":"deep","inputSchema":{{"type":"object","not":{deep}}}}}',
            json.dumps({"name": "outside", "inputSchema": outside}).replace("PLACE", upstream.origin),
            json.dumps({"name": "header", "inputSchema": header}),
            json.dumps({"name": "con\x00trol", "inputSchema": {"type": "object"}}),
            '{"name":"good","inputSchema":{"type":"object"},"description":"another"}',
            '{"name":"number","inputSchema":{"type":"object","maximum":1e999}}',
            "17",
        ]
        body = f'{{"jsonrpc":"2.0","id":{request.json()["id"]},"result":{{"tools":[{",".join(found)}]}}}}'
        return Answer(200, (("Content-Type", "application/json"),), body.encode())

    with Upstream(legacy(lists, tools={})) as upstream:
        found = reading_of(upstream.url)
        cast.server.url = upstream.url
        cast.server.save()
        taken = take(cast.server, found, actor="tester", whole=True)
        assert {request.target for request in upstream.requests} == {"/mcp"}
    assert (taken.added, taken.problems) == (1, 6)
