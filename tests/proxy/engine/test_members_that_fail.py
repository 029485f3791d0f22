"""One member that is down, slow or wrong costs its own calls and nothing else of a virtual server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from typing import Any

import pytest

from servers.models import Call, Server
from tests.conftest import Cast
from tests.support.calls import Caller, caller_for, message, tool_call
from tests.support.gateway import LiveGateway
from tests.support.processes import free_port
from tests.support.records import write_records
from tests.support.upstream import HANG_UP, Answer, Request, Upstream, json_answer
from tests.support.virtual import add_server, set_catalogue, tool, virtual_server

pytestmark = pytest.mark.django_db(transaction=True)

CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def says(request: Request, text: str) -> dict[str, Any]:
    """A modern tool result for this request."""
    content = [{"type": "text", "text": text}]
    return {"jsonrpc": "2.0", "id": request.json()["id"], "result": {"resultType": "complete", "content": content}}


def well(request: Request) -> Answer:
    """What a member answers that has no trouble."""
    return json_answer(says(request, "fine"))


def bundle_of(cast: Cast, *members: tuple[str, str], **fields: Any) -> Server:
    """A virtual server of members with one tool each, by alias and URL; all are modern."""
    found = []
    for alias, url in members:
        server = add_server(cast, alias, url, eras="modern", **fields)
        set_catalogue(server, {"tool": [tool("echo")]})
        found.append((server, alias))
    return virtual_server(cast, *found)


def text_of(response: Any) -> str:
    """The text of a failed tool call."""
    result = response.json()["result"]
    assert result["isError"] is True
    text: str = result["content"][0]["text"]
    return text


def nowhere() -> str:
    """The URL of a server that is not there."""
    return f"http://127.0.0.1:{free_port()}/mcp"


@pytest.mark.requirement("F-605")
def test_twenty_members_of_which_three_fail_are_listed_whole_and_seventeen_work(
    gateway: LiveGateway, cast: Cast
) -> None:
    with Upstream(well) as upstream:
        members = [(f"m{n}", nowhere() if n in (3, 7, 19) else f"{upstream.origin}/mcp") for n in range(20)]
        caller = caller_for(gateway, bundle_of(cast, *members), cast.member)
        listed = [one["name"] for one in caller.post(message("tools/list")).json()["result"]["tools"]]
        assert listed == [f"m{n}__echo" for n in range(20)]
        for n in range(20):
            answer = caller.post(tool_call(f"m{n}__echo"))
            assert answer.status == 200
            if n in (3, 7, 19):
                assert f"'M{n}' cannot be reached" in text_of(answer)
            else:
                assert answer.json()["result"]["content"][0]["text"] == "fine"


TROUBLES: dict[str, tuple[Any, str]] = {
    "an error of its own": (lambda _: Answer(503, (("Content-Type", "text/plain"),), b"secret detail"), "HTTP 503"),
    "a web page": (lambda _: Answer(200, (("Content-Type", "text/html"),), b"<h1>secret detail</h1>"), "as an MCP"),
    "no JSON": (lambda _: Answer(200, (("Content-Type", "application/json"),), b"{"), "as an MCP server"),
    "a redirect elsewhere": (lambda _: Answer(302, (("Location", "https://evil.example/"),)), "HTTP 302"),
    "no answer at all": (lambda _: None, "broke off"),
    "a stream without a result": (lambda _: [CHUNKED, b"5\r\n: hi\n\r\n", b"0\r\n\r\n"], "broke off"),
    "a stream that breaks": (lambda _: [CHUNKED, b"5\r\n: hi\n\r\n", HANG_UP], "broke off"),
    "an answer that is too large": (lambda _: too_large(), "larger than"),
    "a question as an answer": (
        lambda r: json_answer({"jsonrpc": "2.0", "id": r.json()["id"], "method": "roots/list"}),
        "as an MCP server",
    ),
}


def too_large() -> Iterable[bytes]:
    """More than the gateway takes, without an end."""
    yield b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    piece = b"x" * 1024 * 1024
    for _ in range(80):
        yield b"%x\r\n%b\r\n" % (len(piece), piece)


@pytest.mark.requirement("F-605", "T50")
@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_member_in_trouble_is_named_in_the_result_of_its_call_and_called_once(
    gateway: LiveGateway, cast: Cast, trouble: str
) -> None:
    script, said = TROUBLES[trouble]
    with Upstream(script) as upstream:
        caller = caller_for(gateway, bundle_of(cast, ("bad", f"{upstream.origin}/mcp")), cast.member)
        text = text_of(caller.post(tool_call("bad__echo")))
        assert "'Bad'" in text
        assert said in text
        assert "secret detail" not in text
        assert len(upstream.requests) == 1


@pytest.mark.requirement("F-605")
def test_a_slow_member_is_not_waited_for_longer_than_its_manager_said(gateway: LiveGateway, cast: Cast) -> None:
    over = threading.Event()

    def slow(_: Request) -> Iterable[bytes]:
        over.wait(20)
        yield HANG_UP

    with Upstream(slow) as upstream:
        server = bundle_of(cast, ("slow", f"{upstream.origin}/mcp"), response_timeout=1)
        answer = caller_for(gateway, server, cast.member).post(tool_call("slow__echo"))
        over.set()
    assert "within 1 seconds" in text_of(answer)


@pytest.mark.requirement("F-605", "CL-22")
def test_two_callers_with_the_same_ids_are_told_apart_at_the_member(gateway: LiveGateway, cast: Cast) -> None:
    both = threading.Barrier(2, timeout=15)

    def together(request: Request) -> Answer:
        both.wait()
        name = request.json()["params"]["arguments"]["who"]
        return json_answer(says(request, f"for {name}"))

    with Upstream(together) as upstream:
        server = bundle_of(cast, ("one", f"{upstream.origin}/mcp"))
        texts: dict[str, str] = {}

        def call(who: str, caller: Caller) -> None:
            found = caller.post(tool_call("one__echo", {"who": who}, id=5)).json()
            assert found["id"] == 5
            texts[who] = found["result"]["content"][0]["text"]

        threads = [
            threading.Thread(target=call, args=(who, caller_for(gateway, server, owner)))
            for who, owner in (("Ada", cast.member), ("Bob", cast.member))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        sent = [request.json()["id"] for request in upstream.requests]
    assert texts == {"Ada": "for Ada", "Bob": "for Bob"}
    assert len(set(sent)) == 2


@pytest.mark.requirement("T31", "T32", "F-605")
def test_nothing_of_a_members_headers_reaches_the_client(gateway: LiveGateway, cast: Cast) -> None:
    def loud(request: Request) -> Answer:
        headers = (
            ("Content-Type", "application/json"),
            ("Set-Cookie", "a=b"),
            ("WWW-Authenticate", "Bearer"),
            ("Mcp-Session-Id", "theirs"),
            ("Access-Control-Allow-Origin", "*"),
        )
        return Answer(200, headers, json.dumps(says(request, "hi")).encode())

    with Upstream(loud) as upstream:
        caller = caller_for(gateway, bundle_of(cast, ("m", f"{upstream.origin}/mcp")), cast.member)
        names = caller.post(tool_call("m__echo")).names()
    assert not names & {"set-cookie", "www-authenticate", "mcp-session-id", "access-control-allow-origin"}


@pytest.mark.requirement("T1", "T6", "F-605")
def test_what_opened_our_door_never_leaves_through_a_member(gateway: LiveGateway, cast: Cast) -> None:
    with Upstream(well) as upstream:
        caller = caller_for(gateway, bundle_of(cast, ("m", f"{upstream.origin}/mcp")), cast.member)
        caller.post(tool_call("m__echo"), [("Cookie", "c=1"), ("X-Forwarded-For", "10.0.0.1")])
        raw = upstream.requests[0].raw
    assert caller.key.encode() not in raw
    assert not {"authorization", "cookie", "x-forwarded-for"} & set(upstream.requests[0].names())


@pytest.mark.requirement("F-801", "T57")
def test_every_call_through_a_virtual_server_leaves_one_record(gateway: LiveGateway, cast: Cast) -> None:
    with Upstream(well) as upstream:
        server = bundle_of(cast, ("m", f"{upstream.origin}/mcp"), ("down", nowhere()))
        caller = caller_for(gateway, server, cast.member)
        for name in ("m__echo", "down__echo", "m__nothing"):
            caller.post(tool_call(name))
    write_records()
    found = {row.item: row.outcome for row in Call.objects.filter(server="bundle")}
    assert found["m__echo"] == "ok"
    assert found["down__echo"] == "upstream_connect"
    assert found["m__nothing"] not in ("ok", "")
