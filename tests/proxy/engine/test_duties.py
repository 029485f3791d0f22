"""Duties of the engine that no single feature shows: tasks, time limits, the life of a session at an older member."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.conftest import Cast
from tests.proxy.engine.test_get_streams import TALKING, in_session, older
from tests.support.calls import caller_for, message, tool_call
from tests.support.gateway import LiveGateway
from tests.support.members import OlderMember
from tests.support.upstream import LAST_CHUNK, STREAM_HEAD, Request, Upstream, chunk, event, result
from tests.support.virtual import add_server, set_catalogue, tool, virtual_server

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.requirement("T44")
@pytest.mark.parametrize("method", ["tasks/get", "tasks/list", "tasks/result", "tasks/update", "tasks/cancel"])
def test_there_are_no_tasks_that_somebody_else_could_ask_for(cast: Cast, gateway: LiveGateway, method: str) -> None:
    with Upstream(lambda request: result(request, {"taskId": "1"})) as upstream:
        member = add_server(cast, "sums", f"{upstream.origin}/mcp", eras="modern")
        set_catalogue(member, {"tool": [tool("add", execution={"taskSupport": "optional"})]})
        caller = caller_for(gateway, virtual_server(cast, (member, "math")), cast.member)
        answer = caller.modern(method, {"taskId": "1"}, [("Mcp-Name", "1")])
        assert (answer.status, answer.json()["error"]["code"]) == (404, -32601)
        assert in_session(caller, caller.open_session(), message(method, {"taskId": "1"}))["error"]["code"] == -32601
        assert b"tasks" not in caller.modern("server/discover").body
        assert upstream.requests == []


@pytest.mark.requirement("CL-25", "SE-11")
def test_a_session_at_an_older_member_is_used_as_its_version_says(cast: Cast, gateway: LiveGateway) -> None:
    with OlderMember(**TALKING) as upstream:
        caller = caller_for(gateway, virtual_server(cast, (older(cast, upstream), "math")), cast.member)
        session = caller.open_session()
        assert upstream.requests == []
        in_session(caller, session, tool_call("math__add"))
        opening, *others = upstream.requests
        assert (opening.json()["method"], opening.header("mcp-session-id")) == ("initialize", None)
        assert [one.json()["method"] for one in others] == ["notifications/initialized", "tools/call"]
        assert {one.header("mcp-session-id") for one in others} == {"session-1"}
        assert {one.header("mcp-protocol-version") for one in others} == {opening.json()["params"]["protocolVersion"]}
        caller.send("DELETE", [("Mcp-Session-Id", session)])
        assert upstream.wait_for_http("DELETE").header("mcp-session-id") == "session-1"


def busy(request: Request, times: int) -> Iterator[bytes]:
    """A stream that says so often that it is at work, a third of a second apart, and then is done."""
    yield STREAM_HEAD
    for number in range(times):
        threading.Event().wait(0.3)
        about = {"progressToken": "of nobody", "progress": number}
        yield chunk(event({"jsonrpc": "2.0", "method": "notifications/progress", "params": about}))
    done = {"content": [{"type": "text", "text": "done"}]}
    yield chunk(event({"jsonrpc": "2.0", "id": request.json()["id"], "result": done}))
    yield LAST_CHUNK


@pytest.mark.requirement("CL-26")
@pytest.mark.parametrize(("times", "said"), [(6, "done"), (30, "did not")])
def test_a_member_at_work_has_more_time_but_not_without_end(
    cast: Cast, gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch, times: int, said: str
) -> None:
    monkeypatch.setattr("django.conf.settings.MAX_STREAM_SECONDS", 5)
    with OlderMember(**TALKING) as upstream:
        upstream.answers["tools/call"] = lambda request: busy(request, times)
        member = older(cast, upstream, response_timeout=1)
        caller = caller_for(gateway, virtual_server(cast, (member, "math")), cast.member)
        answer = in_session(caller, caller.open_session(), tool_call("math__add"))
        assert said in answer["result"]["content"][0]["text"]
