"""`subscriptions/listen` through the engine: one acknowledgement for all members, events, and its end."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from servers.models import Server
from tests.conftest import Cast
from tests.proxy.engine.test_get_streams import TALKING, older
from tests.support.calls import caller_at, caller_for
from tests.support.gateway import LiveGateway
from tests.support.members import ACKNOWLEDGED, SUBSCRIPTION_KEY, ModernMember, OlderMember
from tests.support.open_streams import OpenStream
from tests.support.process_gateway import ProcessGateway
from tests.support.upstream import Upstream
from tests.support.virtual import add_server, set_catalogue, tool, virtual_server

pytestmark = pytest.mark.django_db(transaction=True)

EVERYTHING = {"toolsListChanged": True, "promptsListChanged": True, "resourcesListChanged": True}


def new(cast: Cast, upstream: Upstream, slug: str, uri: str) -> Server:
    server = add_server(cast, slug, upstream.url, eras="modern")
    set_catalogue(server, {"tool": [tool("add")], "resource": [{"uri": uri, "name": uri}]}, capabilities=TALKING)
    return server


def old(cast: Cast, upstream: Upstream, slug: str, uri: str) -> Server:
    server = add_server(cast, slug, upstream.url, eras="legacy")
    set_catalogue(server, {"tool": [tool("add")], "resource": [{"uri": uri, "name": uri}]}, capabilities=TALKING)
    return server


def acknowledged(agreed: dict[str, Any], number: Any = 9) -> dict[str, Any]:
    params = {"notifications": agreed, "_meta": {SUBSCRIPTION_KEY: number}}
    return {"jsonrpc": "2.0", "method": ACKNOWLEDGED, "params": params}


@pytest.mark.requirement("F-605", "F-702", "SV-7")
def test_a_listen_is_acknowledged_once_for_members_of_both_eras(cast: Cast, gateway: LiveGateway) -> None:
    with ModernMember() as fresh, OlderMember(**TALKING) as aged, Upstream() as gone:
        gone.stop_listening()
        bundle = virtual_server(
            cast,
            (new(cast, fresh, "fresh", "new://a"), "fresh"),
            (old(cast, aged, "aged", "old://b"), "aged"),
            (old(cast, gone, "gone", "gone://c"), "gone"),
        )
        caller = caller_for(gateway, bundle, cast.member)
        wanted = {
            "toolsListChanged": True,
            "promptsListChanged": False,
            "resourceSubscriptions": ["new://a", "hidden://x", "old://b", "gone://c"],
            "unheardOf": True,
        }
        with OpenStream.listen(caller, wanted, id="nine") as stream:
            agreed = {"toolsListChanged": True, "resourceSubscriptions": ["new://a", "old://b"]}
            assert stream.next() == acknowledged(agreed, "nine")
            asked = [one["params"]["notifications"] for one in fresh.asked("subscriptions/listen")]
            assert {"resourceSubscriptions": ["new://a"]} in asked
            assert aged.asked("resources/subscribe")[0]["params"] == {"uri": "old://b"}
            listening = next(held for held in fresh.streams if "new://a" in held.request.body.decode())
            theirs = listening.request.json()["id"]
            about = {SUBSCRIPTION_KEY: theirs}
            listening.say("notifications/resources/updated", {"uri": "new://other", "_meta": about})
            listening.say("notifications/resources/updated", {"uri": "new://a", "_meta": about})
            ours = {"_meta": {SUBSCRIPTION_KEY: "nine"}}
            updated = {"jsonrpc": "2.0", "method": "notifications/resources/updated"}
            assert stream.next() == {**updated, "params": {"uri": "new://a", **ours}}
            aged.stream().say("notifications/resources/updated", {"uri": "old://b"})
            assert stream.next() == {**updated, "params": {"uri": "old://b", **ours}}
            set_catalogue(Server.objects.get(slug="aged"), {"tool": [tool("new")]}, capabilities=TALKING)
            assert stream.next() == {"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": ours}


@pytest.mark.slow
@pytest.mark.requirement("F-605")
def test_a_member_that_does_not_answer_is_left_out_of_the_acknowledgement(cast: Cast, gateway: LiveGateway) -> None:
    with ModernMember() as silent, ModernMember() as fresh:
        silent.answers["subscriptions/listen"] = silent.hold
        bundle = virtual_server(
            cast, (new(cast, silent, "silent", "silent://a"), "silent"), (new(cast, fresh, "fresh", "new://a"), "fresh")
        )
        caller = caller_for(gateway, bundle, cast.member)
        with OpenStream.listen(caller, {"resourceSubscriptions": ["silent://a", "new://a"]}) as stream:
            assert stream.next() == acknowledged({"resourceSubscriptions": ["new://a"]})
            silent.stream().say("notifications/resources/updated", {"uri": "silent://a"})
            fresh.stream().say("notifications/resources/updated", {"uri": "new://a"})
            assert stream.next()["params"]["uri"] == "new://a"


@pytest.mark.requirement("T49")
def test_streams_of_members_are_closed_when_the_client_leaves(cast: Cast, gateway: LiveGateway) -> None:
    with ModernMember() as fresh, OlderMember(**TALKING) as aged:
        bundle = virtual_server(
            cast, (new(cast, fresh, "fresh", "new://a"), "fresh"), (old(cast, aged, "aged", "old://b"), "aged")
        )
        caller = caller_for(gateway, bundle, cast.member)
        with OpenStream.listen(caller, {**EVERYTHING, "resourceSubscriptions": ["new://a", "old://b"]}) as stream:
            assert stream.next()["method"] == ACKNOWLEDGED
            held = [fresh.stream(1), fresh.stream(2), aged.stream(1)]
        assert all(one.left() for one in held)


@pytest.mark.requirement("F-605")
def test_many_listens_need_one_request_at_a_member_and_the_next_takes_over(cast: Cast, gateway: LiveGateway) -> None:
    with ModernMember() as fresh:
        bundle = virtual_server(cast, (new(cast, fresh, "fresh", "new://a"), "fresh"))
        caller = caller_for(gateway, bundle, cast.member)
        with OpenStream.listen(caller, EVERYTHING) as first:
            assert first.next() == acknowledged(EVERYTHING)
            with OpenStream.listen(caller, EVERYTHING) as second:
                assert second.next() == acknowledged(EVERYTHING)
                assert len(fresh.streams) == 1
                first.wire.close()
                assert fresh.stream(1).left()
                assert fresh.stream(2).request.json()["method"] == "subscriptions/listen"


@pytest.mark.requirement("F-605")
def test_a_member_that_ends_a_listen_is_listened_to_again_and_what_was_missed_counts_as_changed(
    cast: Cast, gateway: LiveGateway
) -> None:
    with ModernMember() as fresh:
        bundle = virtual_server(cast, (new(cast, fresh, "fresh", "new://a"), "fresh"))
        caller = caller_for(gateway, bundle, cast.member)
        with OpenStream.listen(caller, {"resourceSubscriptions": ["new://a"]}) as stream:
            assert stream.next() == acknowledged({"resourceSubscriptions": ["new://a"]})
            fresh.stream(1).end()
            assert stream.next()["params"]["uri"] == "new://a"
            assert fresh.stream(2).request.json()["params"]["notifications"] == {"resourceSubscriptions": ["new://a"]}


@pytest.mark.requirement("F-605")
def test_a_listen_ends_with_its_result_when_the_gateway_ends(cast: Cast) -> None:
    with ModernMember() as fresh, ProcessGateway() as process:
        bundle = virtual_server(cast, (new(cast, fresh, "fresh", "new://a"), "fresh"))
        caller = caller_at(process, bundle, cast.member)
        with OpenStream.listen(caller, {"toolsListChanged": True}) as stream:
            assert stream.next()["method"] == ACKNOWLEDGED
            process.ask_to_stop()
            about = {"_meta": {SUBSCRIPTION_KEY: 9}}
            assert stream.next() == {"jsonrpc": "2.0", "id": 9, "result": {"resultType": "complete", **about}}
            assert stream.ended()


@pytest.mark.requirement("F-605")
def test_a_listen_that_does_not_say_to_what_is_refused(cast: Cast, gateway: LiveGateway) -> None:
    with OlderMember() as aged:
        caller = caller_for(gateway, virtual_server(cast, (older(cast, aged), "aged")), cast.member)
        answer = caller.modern("subscriptions/listen", {})
        assert answer.status == 400
        assert answer.json()["error"]["code"] == -32602


@pytest.mark.requirement("F-605", "F-702")
def test_the_sdks_own_client_listens_through_a_virtual_server(cast: Cast, gateway: LiveGateway) -> None:
    with OlderMember(**TALKING) as aged:
        member = old(cast, aged, "aged", "old://b")
        caller = caller_for(gateway, virtual_server(cast, (member, "aged")), cast.member)

        async def heard() -> tuple[Any, Any, Any]:
            async with (
                httpx2.AsyncClient(headers={"Authorization": f"Bearer {caller.key}"}, timeout=40) as http,
                Client(streamable_http_client(caller.url, http_client=http), mode="2026-07-28") as client,
                client.listen(tools_list_changed=True, resource_subscriptions=["old://b"]) as listening,
            ):
                events = aiter(listening)
                await asyncio.to_thread(aged.stream(1).say, "notifications/resources/updated", {"uri": "old://b"})
                updated = await anext(events)
                await asyncio.to_thread(set_catalogue, member, {"tool": [tool("new")]}, capabilities=TALKING)
                return listening.honored, updated, await anext(events)

        honored, updated, changed = asyncio.run(heard())
    assert honored.tools_list_changed
    assert honored.resource_subscriptions == ["old://b"]
    assert updated.uri == "old://b"
    assert type(changed).__name__ == "ToolsListChanged"
