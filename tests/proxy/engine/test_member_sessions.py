"""Sessions of the engine: how they are opened, shared, lost and ended, and what another process has to know."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from authflows.models import MemberSession
from tests.conftest import Cast
from tests.proxy.engine.test_get_streams import TALKING, in_session, older
from tests.proxy.wire import wait_until
from tests.support.calls import Caller, caller_at, caller_for, message, tool_call
from tests.support.gateway import LiveGateway
from tests.support.members import OlderMember
from tests.support.open_streams import OpenStream
from tests.support.process_gateway import ProcessGateway
from tests.support.upstream import STREAM_HEAD, Answer, Request, chunk, event, json_answer
from tests.support.virtual import virtual_server

pytestmark = pytest.mark.django_db(transaction=True)


def done(answer: Any) -> bool:
    return bool(answer["result"]["content"] == [{"type": "text", "text": "done"}])


@pytest.mark.requirement("SE-10", "F-704")
def test_the_end_of_a_session_ends_those_at_members_and_its_stream(cast: Cast, gateway: LiveGateway) -> None:
    with OlderMember(**TALKING) as first, OlderMember(**TALKING) as second:
        second.answers["DELETE"] = lambda request: Answer(405)
        bundle = virtual_server(cast, (older(cast, first), "first"), (older(cast, second, "second"), "second"))
        caller = caller_for(gateway, bundle, cast.member)
        session, untouched = caller.open_session(), caller.open_session()
        for name in ("first__add", "second__add"):
            assert done(in_session(caller, session, tool_call(name)))
        with OpenStream.get(caller, session) as stream:
            assert caller.send("DELETE", [("Mcp-Session-Id", session)]).status == 204
            assert stream.ended()
        assert first.wait_for_http("DELETE").header("mcp-session-id") == "session-1"
        assert second.wait_for_http("DELETE").header("mcp-session-id") == "session-1"
        assert caller.post(message("ping"), [("Mcp-Session-Id", session)]).status == 404
        assert caller.send("DELETE", [("Mcp-Session-Id", session)]).status == 404
        assert done(in_session(caller, untouched, tool_call("first__add")))


@pytest.mark.slow
@pytest.mark.requirement("SE-10", "F-704")
def test_a_session_that_ended_in_one_process_is_unknown_in_another(cast: Cast, gateway: LiveGateway) -> None:
    with OlderMember(**TALKING) as upstream, ProcessGateway() as process:
        bundle = virtual_server(cast, (older(cast, upstream), "math"))
        here, there = caller_for(gateway, bundle, cast.member), caller_at(process, bundle, cast.member)
        there.key = here.key
        session = here.open_session()
        assert done(in_session(here, session, tool_call("math__add")))
        in_session(here, session, message("logging/setLevel", {"level": "error"}))
        with OpenStream.get(there, session) as stream:
            held = upstream.stream()
            held.say("notifications/message", {"level": "info", "data": "small"})
            held.say("notifications/message", {"level": "error", "data": "large"})
            assert stream.next()["params"]["data"] == "large"
            assert here.send("DELETE", [("Mcp-Session-Id", session)]).status == 204
            assert stream.ended()
        assert there.post(message("ping"), [("Mcp-Session-Id", session)]).status == 404
        assert upstream.sessions == 1


@pytest.mark.slow
@pytest.mark.requirement("F-605")
def test_a_call_is_cancelled_by_a_notification_that_comes_to_another_process(cast: Cast, gateway: LiveGateway) -> None:
    with OlderMember(**TALKING) as upstream, ProcessGateway() as process:
        upstream.answers["tools/call"] = upstream.hold
        bundle = virtual_server(cast, (older(cast, upstream), "math"))
        here, there = caller_for(gateway, bundle, cast.member), caller_at(process, bundle, cast.member)
        there.key = here.key
        session = here.open_session()
        caller = threading.Thread(target=_ask_in_vain, args=(here, session), daemon=True)
        caller.start()
        asked = upstream.stream().request.json()
        cancelled = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 77}}
        assert in_session(there, session, cancelled) == 202
        told = upstream.wait_for_method("notifications/cancelled")
        assert told["params"]["requestId"] == asked["id"]
        caller.join(20)
        assert not caller.is_alive()


def _ask_in_vain(caller: Caller, session: str) -> None:
    with pytest.raises(AssertionError, match="closed without a response"):
        in_session(caller, session, tool_call("math__add", id=77))


@pytest.mark.requirement("SE-9")
def test_a_session_that_one_member_has_lost_is_opened_anew_and_the_others_stay(
    cast: Cast, gateway: LiveGateway
) -> None:
    with OlderMember(**TALKING) as first, OlderMember(**TALKING) as second:
        bundle = virtual_server(cast, (older(cast, first), "first"), (older(cast, second, "second"), "second"))
        caller = caller_for(gateway, bundle, cast.member)
        session = caller.open_session()
        in_session(caller, session, message("logging/setLevel", {"level": "error"}))
        for name in ("first__add", "second__add", "first__add"):
            assert done(in_session(caller, session, tool_call(name)))
        first.lost.add("session-1")
        assert done(in_session(caller, session, tool_call("first__add")))
        assert done(in_session(caller, session, tool_call("second__add")))
        assert (first.sessions, second.sessions) == (2, 1)
        assert len(first.asked("logging/setLevel")) == 2


@pytest.mark.requirement("SE-9")
def test_what_a_session_watches_is_watched_in_the_next_one_at_its_member(cast: Cast, gateway: LiveGateway) -> None:
    with OlderMember(**TALKING) as upstream:
        caller = caller_for(gateway, virtual_server(cast, (older(cast, upstream), "math")), cast.member)
        session = caller.open_session()
        with OpenStream.get(caller, session) as stream:
            in_session(caller, session, message("resources/subscribe", {"uri": "note://a"}))
            upstream.stream(1)
            upstream.lost.add("session-1")
            upstream.stream(1).end()
            assert done(in_session(caller, session, tool_call("math__add")))
            again = upstream.stream(2)
            assert again.request.header("mcp-session-id") == "session-2"
            watching = [one for one in upstream.requests if b"resources/subscribe" in one.body]
            assert [one.header("mcp-session-id") for one in watching] == ["session-1", "session-2"]
            again.say("notifications/resources/updated", {"uri": "note://a"})
            assert stream.next()["params"]["uri"] == "note://a"


@pytest.mark.requirement("F-605")
def test_two_sessions_that_use_the_same_request_ids_do_not_meet(cast: Cast, gateway: LiveGateway) -> None:
    with OlderMember(**TALKING) as upstream:
        caller = caller_for(gateway, virtual_server(cast, (older(cast, upstream), "math")), cast.member)
        one, other = caller.open_session(), caller.open_session()
        for session in (one, other, one):
            assert in_session(caller, session, tool_call("math__add", id="same"))["id"] == "same"
        asked = [call["id"] for call in upstream.asked("tools/call")]
        assert len(set(asked)) == 3
        assert upstream.sessions == 2


@pytest.mark.requirement("F-605")
def test_changed_roots_are_told_to_members_that_know_of_roots(cast: Cast, gateway: LiveGateway) -> None:
    with OlderMember(**TALKING) as upstream, OlderMember() as unused:
        bundle = virtual_server(cast, (older(cast, upstream), "math"), (older(cast, unused, "unused"), "unused"))
        caller = caller_for(gateway, bundle, cast.member)
        about = {"clientInfo": {"name": "t", "version": "1"}, "capabilities": {"roots": {"listChanged": True}}}
        opened = caller.post(message("initialize", {"protocolVersion": "2025-11-25", **about}))
        session = opened.header("mcp-session-id") or ""
        in_session(caller, session, tool_call("math__add"))
        told = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
        assert in_session(caller, session, told) == 202
        upstream.wait_for_method("notifications/roots/list_changed")
        assert unused.connections == 0


@pytest.mark.requirement("F-704")
def test_a_session_behind_a_modern_client_is_shared_by_its_calls_and_ended_when_nobody_uses_it(
    cast: Cast, gateway: LiveGateway, settings: Any
) -> None:
    settings.MEMBER_SESSION_IDLE_SECONDS = 1
    with OlderMember(**TALKING) as upstream:
        bundle = virtual_server(cast, (older(cast, upstream), "math"))
        caller, stranger = (caller_for(gateway, bundle, who) for who in (cast.member, cast.member))
        for _ in range(2):
            assert done(caller.modern("tools/call", {"name": "math__add", "arguments": {}}).json())
        assert upstream.sessions == 1
        assert done(stranger.modern("tools/call", {"name": "math__add", "arguments": {}}).json())
        assert upstream.sessions == 2
        upstream.wait_for_http("DELETE")
        wait_until(lambda: not MemberSession.objects.exists(), "the rows are gone")
        assert done(caller.modern("tools/call", {"name": "math__add", "arguments": {}}).json())
        assert upstream.sessions == 3


def polling(upstream: OlderMember, request: Request) -> list[bytes]:
    """A call whose answer has to be fetched: the stream ends after an id and how long to wait."""
    upstream.answers["GET"] = lambda _: [
        STREAM_HEAD,
        chunk(b"id: e-2\ndata:\n\n"),
        chunk(event({"jsonrpc": "2.0", "id": request.json()["id"], "result": {"content": []}}, "e-3")),
        b"0\r\n\r\n",
    ]
    return [STREAM_HEAD, chunk(b"id: e-1\nretry: 50\ndata:\n\n"), b"0\r\n\r\n"]


@pytest.mark.requirement("F-605", "F-702")
@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_a_member_that_ends_the_stream_of_a_call_early_is_asked_for_the_rest(
    cast: Cast, gateway: LiveGateway, era: str
) -> None:
    with OlderMember(**TALKING) as upstream:
        upstream.answers["tools/call"] = lambda request: polling(upstream, request)
        caller = caller_for(gateway, virtual_server(cast, (older(cast, upstream), "math")), cast.member)
        if era == "modern":
            answer = caller.modern("tools/call", {"name": "math__add", "arguments": {}}).json()
        else:
            answer = in_session(caller, caller.open_session(), tool_call("math__add"))
        assert answer["result"]["content"] == []
        fetched = upstream.wait_for_http("GET")
        assert (fetched.header("last-event-id"), fetched.header("mcp-session-id")) == ("e-1", "session-1")
        assert len(upstream.asked("tools/call")) == 1


@pytest.mark.requirement("F-605")
def test_a_stream_that_ends_early_and_cannot_be_taken_up_is_an_honest_error(cast: Cast, gateway: LiveGateway) -> None:
    with OlderMember(**TALKING) as upstream:
        upstream.answers["tools/call"] = lambda request: polling(upstream, request)
        bundle = virtual_server(cast, (older(cast, upstream), "math"))
        caller = caller_for(gateway, bundle, cast.member)
        session = caller.open_session()

        def polling_in_vain(request: Request) -> list[bytes]:
            pieces = polling(upstream, request)
            upstream.answers["GET"] = lambda _: json_answer({}, 405)
            return pieces

        upstream.answers["tools/call"] = polling_in_vain
        answer = in_session(caller, session, tool_call("math__add"))
        assert answer["result"]["isError"]
        assert "may have run" in answer["result"]["content"][0]["text"]
        assert len(upstream.asked("tools/call")) == 1
