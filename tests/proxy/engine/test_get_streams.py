"""The GET stream of an older client through the engine: what comes on it, from where, and what does not."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from functools import partial
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPDeprecationWarning

from servers.models import AccessRule, Server
from tests.conftest import Cast
from tests.support.calls import LEGACY, Caller, caller_for, message, tool_call
from tests.support.gateway import LiveGateway
from tests.support.members import ModernMember, OlderMember
from tests.support.open_streams import OpenStream
from tests.support.upstream import Answer, Request, Upstream, result
from tests.support.virtual import add_server, set_catalogue, tool, virtual_server

pytestmark = pytest.mark.django_db(transaction=True)

TALKING = {"tools": {"listChanged": True}, "resources": {"subscribe": True}, "logging": {}}
NOTES = {"tool": [tool("add")], "resource": [{"uri": "note://a", "name": "a"}, {"uri": "note://b", "name": "b"}]}


def older(cast: Cast, upstream: Upstream, slug: str = "sums", **fields: Any) -> Server:
    server = add_server(cast, slug, upstream.url, eras="legacy", **fields)
    set_catalogue(server, NOTES, capabilities=TALKING)
    return server


def modern(cast: Cast, upstream: Upstream, slug: str = "sums") -> Server:
    server = add_server(cast, slug, upstream.url, eras="modern")
    set_catalogue(server, NOTES, capabilities=TALKING)
    return server


def in_session(caller: Caller, session: str, body: Any) -> Any:
    response = caller.post(body, [("Mcp-Session-Id", session), ("MCP-Protocol-Version", LEGACY)])
    return response.json() if response.body else response.status


@pytest.mark.requirement("F-605", "F-804")
def test_a_client_hears_of_a_change_in_exactly_the_lists_that_it_sees(cast: Cast, gateway: LiveGateway) -> None:
    with OlderMember() as upstream:
        member = older(cast, upstream)
        other = add_server(cast, "elsewhere", upstream.url, eras="legacy")
        caller = caller_for(gateway, virtual_server(cast, (member, "math")), cast.member)
        with OpenStream.get(caller, caller.open_session()) as stream:
            set_catalogue(other, NOTES)
            set_catalogue(member, NOTES, capabilities=TALKING)
            set_catalogue(member, {**NOTES, "tool": [tool("add"), tool("subtract")]}, capabilities=TALKING)
            assert stream.next()["method"] == "notifications/tools/list_changed"
            set_catalogue(member, {"tool": [tool("add"), tool("subtract")]}, capabilities=TALKING)
            assert stream.next() == {"jsonrpc": "2.0", "method": "notifications/resources/list_changed"}


@pytest.mark.requirement("F-605", "T9")
def test_a_client_hears_of_rights_that_it_loses_at_a_member(cast: Cast, gateway: LiveGateway) -> None:
    with OlderMember() as upstream:
        sums, rest = older(cast, upstream), older(cast, upstream, "rest")
        caller = caller_for(gateway, virtual_server(cast, (sums, "math"), (rest, "rest")), cast.member)
        with OpenStream.get(caller, caller.open_session()) as stream:
            AccessRule.objects.get(server=rest).delete()
            # Its resources are those of the other member too, so only the list of tools is another one.
            assert stream.next()["method"] == "notifications/tools/list_changed"
            AccessRule.objects.get(server__slug="bundle").delete()
            assert stream.ended()


@pytest.mark.requirement("T54", "SE-11")
def test_opening_a_server_of_twenty_members_and_its_stream_asks_none_of_them(cast: Cast, gateway: LiveGateway) -> None:
    with OlderMember() as old, ModernMember() as new:
        members = [older(cast, old, f"old-{number}") for number in range(10)]
        members += [modern(cast, new, f"new-{number}") for number in range(10)]
        bundle = virtual_server(cast, *((member, member.slug) for member in members))
        caller = caller_for(gateway, bundle, cast.member)
        session = caller.open_session()
        assert in_session(caller, session, {"jsonrpc": "2.0", "method": "notifications/initialized"}) == 202
        with OpenStream.get(caller, session) as stream:
            assert len(in_session(caller, session, message("tools/list"))["result"]["tools"]) == 20
            assert in_session(caller, session, message("ping"))["result"] == {}
            assert in_session(caller, session, message("logging/setLevel", {"level": "error"}))["result"] == {}
            set_catalogue(members[3], {"tool": []})
            assert stream.next()["method"] == "notifications/tools/list_changed"
        assert (old.connections, new.connections) == (0, 0)


@pytest.mark.requirement("F-605", "T47")
def test_what_a_member_says_outside_of_calls_reaches_the_session_that_has_it_open(
    cast: Cast, gateway: LiveGateway
) -> None:
    with OlderMember(**TALKING) as upstream, OlderMember() as rest:
        bundle = virtual_server(cast, (older(cast, upstream), "math"), (older(cast, rest, "rest"), "rest"))
        caller = caller_for(gateway, bundle, cast.member)
        session, bystander = caller.open_session(), caller.open_session()
        in_session(caller, session, tool_call("math__add"))
        with OpenStream.get(caller, bystander) as other, OpenStream.get(caller, session) as stream:
            held = upstream.stream()
            assert held.request.header("mcp-session-id") == "session-1"
            assert in_session(caller, session, message("resources/subscribe", {"uri": "note://a"}))["result"] == {}
            held.say("elicitation/create", {"message": "Your password?"}, id="q1")
            answer = upstream.wait_for_message(lambda one: one.get("id") == "q1")
            assert answer["error"]["code"] == -32601
            held.say("notifications/resources/updated", {"uri": "secret://elsewhere"})
            held.say("notifications/resources/updated", {"uri": "note://a"})
            held.say("notifications/message", {"level": "info", "data": "hello"})
            held.say("notifications/elicitation/complete", {"elicitationId": "e1"})
            assert stream.next()["params"] == {"uri": "note://a"}
            assert stream.next()["params"] == {"level": "info", "data": "hello"}
            assert stream.next()["params"] == {"elicitationId": "e1"}
            assert other.wire.silent()
        assert held.left()
        assert upstream.sessions == 1


@pytest.mark.requirement("F-605")
def test_a_member_that_is_called_while_the_stream_is_open_is_heard_from_then_on(
    cast: Cast, gateway: LiveGateway
) -> None:
    with OlderMember(**TALKING) as upstream:
        caller = caller_for(gateway, virtual_server(cast, (older(cast, upstream), "math")), cast.member)
        session = caller.open_session()
        with OpenStream.get(caller, session) as stream:
            in_session(caller, session, tool_call("math__add"))
            upstream.stream().say("notifications/message", {"level": "info", "data": "hello"})
            assert stream.next()["params"]["data"] == "hello"


@pytest.mark.requirement("F-605")
def test_a_member_without_a_stream_and_one_that_breaks_it_leave_the_clients_alone(
    cast: Cast, gateway: LiveGateway
) -> None:
    with OlderMember(**TALKING) as silent, OlderMember(**TALKING) as breaking:
        silent.answers["GET"] = lambda request: Answer(405, (("Allow", "POST"),))
        bundle = virtual_server(cast, (older(cast, silent), "math"), (older(cast, breaking, "rest"), "rest"))
        caller = caller_for(gateway, bundle, cast.member)
        session = caller.open_session()
        for name in ("math__add", "rest__add"):
            in_session(caller, session, tool_call(name))
        with OpenStream.get(caller, session) as stream:
            breaking.stream(1).send(b"id: e-7\nretry: 50\ndata:\n\n")
            breaking.stream(1).end()
            again = breaking.stream(2)
            assert again.request.header("last-event-id") == "e-7"
            again.say("notifications/message", {"level": "info", "data": "back"})
            assert stream.next()["params"]["data"] == "back"
            assert in_session(caller, session, message("ping"))["result"] == {}


def _answer_list(listed: dict[str, Any], request: Request) -> Answer:
    return result(request, listed)


@pytest.mark.requirement("F-605", "F-804")
@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_a_member_that_says_its_tools_have_changed_is_read_again_and_the_clients_are_told(
    cast: Cast, gateway: LiveGateway, era: str
) -> None:
    with OlderMember(**TALKING) if era == "legacy" else ModernMember() as upstream:
        found = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"} if era == "modern" else {}
        offered = {
            "tools/list": {"tools": [tool("add"), tool("new")]},
            "resources/list": {"resources": NOTES["resource"]},
            "resources/templates/list": {"resourceTemplates": []},
        }
        for method, listed in offered.items():
            upstream.answers[method] = partial(_answer_list, {**listed, **found})
        member = older(cast, upstream) if era == "legacy" else modern(cast, upstream)
        caller = caller_for(gateway, virtual_server(cast, (member, "math")), cast.member)
        session = caller.open_session()
        with OpenStream.get(caller, session) as stream:
            in_session(caller, session, tool_call("math__add"))
            upstream.stream().say("notifications/tools/list_changed")
            assert stream.next()["method"] == "notifications/tools/list_changed"
            found = in_session(caller, session, message("tools/list"))["result"]
        assert [one["name"] for one in found["tools"]] == ["math__add", "math__new"]


@pytest.mark.requirement("F-605", "F-702")
def test_the_sdks_own_older_client_hears_of_changes_and_messages(cast: Cast, gateway: LiveGateway) -> None:
    with OlderMember(**TALKING) as upstream:
        member = older(cast, upstream)
        caller = caller_for(gateway, virtual_server(cast, (member, "math")), cast.member)

        async def heard() -> tuple[str, Any]:
            changed, logged = asyncio.Event(), asyncio.Queue[Any]()

            async def handle(said: Any) -> None:
                if type(said).__name__ == "ToolListChangedNotification":
                    changed.set()

            async with (
                httpx2.AsyncClient(headers={"Authorization": f"Bearer {caller.key}"}, timeout=40) as http,
                Client(
                    streamable_http_client(caller.url, http_client=http),
                    mode="legacy",
                    message_handler=handle,
                    logging_callback=logged.put,
                ) as client,
            ):
                await client.call_tool("math__add", {})
                with pytest.warns(MCPDeprecationWarning):
                    await client.set_logging_level("warning")
                held = await asyncio.to_thread(upstream.stream)
                held.say("notifications/message", {"level": "info", "data": "small"})
                held.say("notifications/message", {"level": "error", "data": "large"})
                async with asyncio.timeout(20):
                    said = await logged.get()
                    await asyncio.to_thread(set_catalogue, member, {"tool": [tool("new")]}, capabilities=TALKING)
                    await changed.wait()
                return said.level, said.data

        assert asyncio.run(heard()) == ("error", "large")


@pytest.mark.requirement("T41")
def test_a_stream_has_no_event_ids_and_whoever_names_one_gets_a_fresh_stream(cast: Cast, gateway: LiveGateway) -> None:
    with OlderMember(**TALKING) as upstream:
        bundle = virtual_server(cast, (older(cast, upstream), "math"))
        caller = caller_for(gateway, bundle, cast.member)
        session = caller.open_session()
        in_session(caller, session, tool_call("math__add"))
        with OpenStream.get(caller, session, Last_Event_ID="e-1") as stream:
            assert upstream.stream().request.header("last-event-id") is None
            upstream.stream().say("notifications/message", {"level": "info", "data": "new"}, event_id="e-2")
            assert stream.next()["params"]["data"] == "new"
        stranger = caller_for(gateway, bundle, cast.admin)
        response = stranger.send("GET", [("Mcp-Session-Id", session), ("Last-Event-ID", "e-2")])
        assert response.status == 404 or response.status == 403


@pytest.mark.requirement("F-605")
def test_a_get_without_a_session_and_one_of_a_modern_client_are_refused(cast: Cast, gateway: LiveGateway) -> None:
    with OlderMember() as upstream:
        caller = caller_for(gateway, virtual_server(cast, (older(cast, upstream), "math")), cast.member)
        assert caller.send("GET").status == 405
        assert caller.send("GET", [("MCP-Protocol-Version", "2026-07-28")]).status == 405
        assert caller.send("DELETE").status == 405


@pytest.mark.requirement("F-605", "F-702")
def test_resources_of_a_modern_member_are_listened_to_while_the_stream_is_open(
    cast: Cast, gateway: LiveGateway
) -> None:
    with ModernMember() as upstream, OlderMember() as rest:
        bundle = virtual_server(cast, (modern(cast, upstream), "math"), (older(cast, rest, "rest"), "rest"))
        caller = caller_for(gateway, bundle, cast.member)
        session = caller.open_session()
        with OpenStream.get(caller, session) as stream:
            assert in_session(caller, session, message("resources/subscribe", {"uri": "note://a"}))["result"] == {}
            lists_and_resources = [upstream.stream(1), upstream.stream(2)]
            held = next(
                one
                for one in lists_and_resources
                if one.request.json()["params"]["notifications"] == {"resourceSubscriptions": ["note://a"]}
            )
            held.say("notifications/resources/updated", {"uri": "note://a", "_meta": {"x": 1}})
            assert stream.next() == {
                "jsonrpc": "2.0",
                "method": "notifications/resources/updated",
                "params": {"uri": "note://a"},
            }
            assert in_session(caller, session, message("resources/unsubscribe", {"uri": "note://a"}))["result"] == {}
            assert held.left()
        unknown = in_session(caller, session, message("resources/subscribe", {"uri": "other://x"}))
        assert unknown["error"]["code"] == -32602


@pytest.mark.requirement("F-605")
def test_a_log_level_holds_for_members_that_are_open_and_for_those_opened_later(
    cast: Cast, gateway: LiveGateway
) -> None:
    with ExitStack() as stack:
        first, later = (stack.enter_context(OlderMember(**TALKING)) for _ in range(2))
        new = stack.enter_context(ModernMember())
        bundle = virtual_server(
            cast,
            (older(cast, first), "first"),
            (older(cast, later, "later"), "later"),
            (modern(cast, new, "new"), "new"),
        )
        caller = caller_for(gateway, bundle, cast.member)
        session = caller.open_session()
        in_session(caller, session, tool_call("first__add"))
        with OpenStream.get(caller, session) as stream:
            bad = in_session(caller, session, message("logging/setLevel", {"level": "loud"}))
            assert bad["error"]["code"] == -32602
            in_session(caller, session, message("logging/setLevel", {"level": "warning"}))
            assert first.wait_for_method("logging/setLevel")["params"] == {"level": "warning"}
            in_session(caller, session, tool_call("later__add"))
            assert later.asked("logging/setLevel")[0]["params"] == {"level": "warning"}
            in_session(caller, session, tool_call("new__add"))
            meta = new.asked("tools/call")[0]["params"]["_meta"]
            assert meta["io.modelcontextprotocol/logLevel"] == "warning"
            held = first.stream()
            held.say("notifications/message", {"level": "notice", "data": "small"})
            held.say("notifications/message", {"level": "error", "data": "large"})
            assert stream.next()["params"]["data"] == "large"
