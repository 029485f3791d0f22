"""Rights to single items on the transparent path: what is answered, what is recorded, and what costs nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from authflows.models import Connection
from servers.catalogue import decisions
from servers.models import AccessRule, Hints, Items, Role, Server, VirtualMember, VirtualSelection
from tests.conftest import Cast
from tests.proxy.test_disconnects import the_record
from tests.proxy.wire import Stage
from tests.support import rights
from tests.support.calls import LEGACY, Caller, caller_for, member_of, message, modern, modern_headers, tool_call
from tests.support.catalogues import item, tool
from tests.support.connected import guarded
from tests.support.gateway import LiveGateway
from tests.support.offering import offer
from tests.support.rights import RULES
from tests.support.upstream import Upstream
from tests.support.virtual import virtual_server

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requirement("F-502")]
BATCH = [("MCP-Protocol-Version", "2025-03-26")]


@pytest.fixture
def upstream(cast: Cast) -> Iterator[Upstream]:
    with rights.CREDENTIALS["none"](cast) as server:
        rights.fill_catalogue(cast.server)
        yield server


def limit(cast: Cast, name: str) -> None:
    rights.hold(cast.server, rights.user_rule(cast), next(rule for rule in RULES if rule.name == name))


def methods(upstream: Upstream) -> list[str]:
    """What the server was asked for."""
    return [request.json()["method"] for request in upstream.requests]


@pytest.mark.requirement("T46", "F-801")
@pytest.mark.parametrize(("name", "reason"), [("except", "no_item_rule"), ("disabled", "item_not_served")])
def test_a_refused_call_is_recorded_with_the_reason_that_the_caller_is_not_told(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, name: str, reason: str
) -> None:
    limit(cast, name)
    response = member_of(gateway, cast).post(tool_call("wipes"))
    assert (response.status, response.json()["error"]) == (200, {"code": -32602, "message": "Unknown tool: wipes"})
    assert upstream.requests == []
    the_record(method="tools/call", item="wipes", decision="denied", outcome=reason, status=200, upstream_status=None)


@pytest.mark.requirement("T46")
def test_a_modern_refusal_has_the_status_of_its_code(gateway: LiveGateway, cast: Cast, upstream: Upstream) -> None:
    from mcp.shared.inbound import ERROR_CODE_HTTP_STATUS

    limit(cast, "except")
    response = member_of(gateway, cast).modern("resources/read", {"uri": "note://secret"})
    assert response.json()["error"] == {"code": -32602, "message": "Unknown resource: note://secret"}
    assert response.status == ERROR_CODE_HTTP_STATUS[-32602]


@pytest.mark.requirement("T39", "T46")
def test_a_batch_with_one_forbidden_call_is_refused_as_a_whole(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    limit(cast, "except")
    body = [tool_call("reads", id=1), tool_call("wipes", id="two"), {"jsonrpc": "2.0", "method": "notifications/x"}]
    answers = member_of(gateway, cast).post(body, BATCH).json()
    assert [(one["id"], one["error"]["code"]) for one in answers] == [(1, -32602), ("two", -32602)]
    assert "Unknown tool: wipes" in answers[0]["error"]["message"]
    assert upstream.requests == []
    the_record(item="wipes", decision="denied", outcome="no_item_rule")


@pytest.mark.requirement("T46")
@pytest.mark.parametrize("body", [
    {"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "wipes"}},
    [{"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "wipes"}}],
])  # fmt: skip
def test_a_call_that_wants_no_answer_is_refused_too(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, body: Any
) -> None:
    limit(cast, "except")
    response = member_of(gateway, cast).post(body, BATCH)
    assert response.status == 400
    assert "Unknown tool: wipes" in response.json()["error"]["message"]
    assert upstream.requests == []


@pytest.mark.requirement("T38", "T46")
@pytest.mark.parametrize(
    "params",
    [
        {"ref": {"type": "ref/prompt", "name": "greet", "Name": "scold"}},
        {"ref": {"type": "ref/prompt", "name": "greet"}, "Ref": {"type": "ref/prompt", "name": "scold"}},
        {"ref": {"type": "ref/prompt", "name": ["scold"]}},
        {"ref": {"type": "ref/tool", "name": "greet"}},
        {"ref": ["ref/prompt", "scold"]},
        {},
    ],
)
def test_a_reference_that_could_be_read_in_two_ways_is_refused(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, params: dict[str, Any]
) -> None:
    limit(cast, "except")
    response = member_of(gateway, cast).post(message("completion/complete", params))
    assert response.json()["error"]["code"] == -32602
    assert upstream.requests == []


@pytest.mark.requirement("T38", "T46")
@pytest.mark.parametrize(
    "notifications",
    [
        {"resourceSubscriptions": ["note://open", "note://secret"]},
        {"resourceSubscriptions": ["note://open"], "ResourceSubscriptions": ["note://secret"]},
        {"resourceSubscriptions": "note://secret"},
        {"resourceSubscriptions": [["note://secret"]]},
        ["note://secret"],
    ],
)
def test_a_stream_of_a_hidden_resources_changes_is_refused(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, notifications: Any
) -> None:
    limit(cast, "except")
    response = member_of(gateway, cast).modern("subscriptions/listen", {"notifications": notifications})
    assert (response.status, response.json()["error"]["code"]) == (400, -32602)
    assert upstream.requests == []


def test_without_limits_everything_is_passed_through(gateway: LiveGateway, cast: Cast, upstream: Upstream) -> None:
    caller = member_of(gateway, cast)
    assert "result" in caller.post(tool_call("not in the catalogue")).json()
    listed = caller.post(message("tools/list")).json()["result"]
    assert listed["tools"] == rights.DEFINITIONS["tool"]
    assert methods(upstream) == ["tools/call", "tools/list"]


def test_a_manager_has_everything_of_a_server_that_is_not_restricted(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    limit(cast, "only nothing")
    assert "result" in caller_for(gateway, cast.server, cast.manager).post(tool_call("wipes")).json()
    assert "error" in member_of(gateway, cast).post(tool_call("wipes")).json()


@pytest.mark.requirement("T34", "T46")
def test_nobody_calls_what_is_disabled(gateway: LiveGateway, cast: Cast, upstream: Upstream) -> None:
    limit(cast, "disabled")
    for person in (cast.manager, cast.member):
        assert "error" in caller_for(gateway, cast.server, person).post(tool_call("wipes")).json()
    assert upstream.requests == []


def test_what_several_rules_open_adds_up(gateway: LiveGateway, cast: Cast, upstream: Upstream) -> None:
    limit(cast, "read_only")
    caller = member_of(gateway, cast)
    assert names(caller) == ["reads"]
    more = {"role": Role.USER, "items": Items.ONLY, "item_names": ["tool:adds"]}
    rule = AccessRule.objects.create(server=cast.server, user=cast.member, **more)
    assert names(caller) == ["reads", "adds"]
    rule.delete()
    assert names(caller) == ["reads"]


def names(caller: Caller) -> list[str]:
    return [tool["name"] for tool in caller.post(message("tools/list")).json()["result"]["tools"]]


@pytest.mark.requirement("T9")
def test_a_right_that_is_taken_away_is_gone_with_the_next_request(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    caller = member_of(gateway, cast)
    for rule, listed in (
        ("all", ["reads", "adds", "wipes"]),
        ("except", ["reads", "adds"]),
        ("disabled", ["reads", "adds"]),
    ):
        limit(cast, rule)
        assert names(caller) == listed
        assert ("result" in caller.post(tool_call("wipes")).json()) is ("wipes" in listed)


@pytest.mark.requirement("T40")
def test_a_list_is_not_answered_on_the_session_of_somebody_else(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    limit(cast, "disabled")
    session = caller_for(gateway, cast.server, cast.manager).open_session()
    headers = [("Mcp-Session-Id", session), ("MCP-Protocol-Version", LEGACY)]
    response = member_of(gateway, cast).post(message("tools/list"), headers)
    assert (response.status, response.json()["error"]["code"]) == (404, 1440)
    assert methods(upstream) == ["initialize"]


def test_before_the_catalogue_was_read_people_are_told_what_to_do(gateway: LiveGateway, cast: Cast) -> None:
    with rights.CREDENTIALS["none"](cast) as upstream:
        Server.objects.filter(pk=cast.server.pk).update(url=upstream.origin + "/nothing-there")
        rule = rights.user_rule(cast)
        rule.items, rule.item_names = Items.ONLY, ["tool:reads"]
        rule.save()
        upstream.script = lambda _: b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
        caller = member_of(gateway, cast)
        listed = caller.post(message("tools/list"))
        assert (listed.status, listed.json()["error"]["code"]) == (503, 1503)
        assert "ask its manager to read the catalogue" in listed.json()["error"]["message"]
        called = caller.post(tool_call("reads")).json()["result"]
        assert called["isError"]
        assert "ask its manager to read the catalogue" in called["content"][0]["text"]
        assert "tools/call" not in methods(upstream)


@pytest.mark.requirement("F-314", "T46")
def test_a_session_that_began_before_its_person_was_connected_asks_the_server_for_nothing_hidden(
    gateway: LiveGateway, cast: Cast
) -> None:
    with guarded(cast) as drive:
        drive.script = rights.everything
        rights.fill_catalogue(cast.server)
        limit(cast, "except")
        caller = member_of(gateway, cast)
        headers = [("Mcp-Session-Id", caller.open_session()), ("MCP-Protocol-Version", LEGACY)]
        assert not Connection.objects.exists()
        connect_tool = caller.post(message("tools/list"), headers).json()["result"]["tools"][0]["name"]
        drive.connect(cast.member)
        assert "is connected" in caller.post(tool_call(connect_tool), headers).body.decode()
        assert "Unknown tool" in caller.post(tool_call("wipes"), headers).body.decode()
        assert drive.upstream.requests == []
        assert "result" in caller.post(tool_call("reads"), headers).json()


@pytest.mark.requirement("T46")
def test_a_modern_persons_connect_tool_answers_after_all_is_done(gateway: LiveGateway, cast: Cast) -> None:
    with guarded(cast) as drive:
        rights.fill_catalogue(cast.server)
        limit(cast, "except")
        drive.connect(cast.member)
        body = modern("tools/call", {"name": "connect_calculator", "arguments": {}})
        response = member_of(gateway, cast).post(body, modern_headers(body))
        assert "is connected" in json.dumps(response.json())
        assert drive.upstream.requests == []


@pytest.mark.requirement("T10", "T46")
@pytest.mark.parametrize("how", ["rule", "disabled"])
def test_a_call_under_way_ends_when_its_tool_is_taken_from_the_caller(stage: Stage, cast: Cast, how: str) -> None:
    row = item(cast.server, tool("add"))
    item(cast.server, tool("other"))
    caller, asked = stage.stream()
    other, asked_other = stage.call(tool="other")
    asked_other.start_stream()
    other.read_head()
    if how == "rule":
        rule = rights.user_rule(cast)
        rule.items, rule.item_names = Items.EXCEPT, ["tool:add"]
        rule.save()
    else:
        decisions.disable([row.pk], person=cast.manager)
    assert caller.chunk() == b""
    assert asked.left_by_gateway()
    asked_other.piece(b"data: {}\n\n")
    assert other.event() == b"data: {}\n\n"
    the_record(outcome="access_ended", item="add")


# Rules on a virtual server


@pytest.fixture
def bundle(cast: Cast, upstream: Upstream) -> Server:
    return virtual_server(cast, (cast.server, "math"))


def limit_bundle(bundle: Server, **fields: Any) -> None:
    rule = AccessRule.objects.get(server=bundle)
    for name, value in {"items": Items.ALL, "item_names": [], "hints": Hints.ANY, **fields}.items():
        setattr(rule, name, value)
    rule.save()


@pytest.mark.requirement("T46", "F-605")
def test_a_rule_on_a_virtual_server_is_about_the_names_that_it_shows(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, bundle: Server
) -> None:
    caller = caller_for(gateway, bundle, cast.member)
    assert names(caller) == ["math__reads", "math__adds", "math__wipes"]
    limit_bundle(bundle, items=Items.ONLY, item_names=["tool:math__adds", "tool:wipes", "resource:note://open"])
    assert names(caller) == ["math__adds"]
    assert "result" in caller.post(tool_call("math__adds")).json()
    assert caller.post(tool_call("math__wipes")).json()["error"]["message"] == "Unknown tool: math__wipes"
    for uri, opens in (("note://open", True), ("note://secret", False), ("shelf://x", False), ("new://x", False)):
        assert ("result" in caller.post(message("resources/read", {"uri": uri})).json()) is opens, uri
    limit_bundle(bundle, hints=Hints.READ_ONLY)
    assert names(caller) == ["math__reads"]
    assert "error" in caller.post(tool_call("math__adds")).json()


@pytest.mark.requirement("T46", "F-605")
def test_who_is_limited_on_the_member_is_limited_on_the_virtual_server(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, bundle: Server
) -> None:
    limit_bundle(bundle, items=Items.EXCEPT, item_names=["tool:math__reads"])
    limit(cast, "except")
    caller = caller_for(gateway, bundle, cast.member)
    assert names(caller) == ["math__adds"]
    upstream.requests.clear()
    for hidden in ("math__reads", "math__wipes", "adds", "math__never"):
        assert caller.post(tool_call(hidden)).json()["error"]["message"] == f"Unknown tool: {hidden}"
    assert upstream.requests == []


@pytest.mark.requirement("T46", "F-605")
def test_a_resource_that_the_virtual_server_does_not_show_is_not_read_through_a_template_that_it_shows(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, bundle: Server
) -> None:
    member = VirtualMember.objects.get(virtual=bundle)
    VirtualSelection.objects.create(member=member, kind="resource", key="shelf://secret", chosen=False)
    caller = caller_for(gateway, bundle, cast.member)
    for uri, opens in (("shelf://x", True), ("shelf://secret", False), ("shelf://Secret", False), ("new://x", True)):
        assert ("result" in caller.post(message("resources/read", {"uri": uri})).json()) is opens, uri


@pytest.mark.requirement("T46", "F-801")
def test_a_refusal_of_the_engine_is_recorded_with_its_reason(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, bundle: Server
) -> None:
    limit(cast, "except")
    caller_for(gateway, bundle, cast.member).post(tool_call("math__wipes"))
    the_record(item="math__wipes", decision="denied", outcome="no_item_rule", server="bundle")


@pytest.mark.requirement("T38", "T46")
def test_a_reference_in_two_cases_is_refused_by_the_engine_too(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, bundle: Server
) -> None:
    params = {"ref": {"type": "ref/prompt", "name": "math__greet", "Name": "scold"}}
    response = caller_for(gateway, bundle, cast.member).post(message("completion/complete", params))
    assert response.json()["error"]["code"] == -32602


@pytest.mark.requirement("T46", "F-605")
def test_among_very_many_resources_and_templates_the_same_is_decided(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, bundle: Server
) -> None:
    offer(
        cast.server,
        resources=[f"many://{number}" for number in range(300)],
        templates=[f"wide://{number}/{{x}}" for number in range(300)],
    )
    limit(cast, "except")
    for server in (bundle, cast.server):
        caller = caller_for(gateway, server, cast.member)
        expected = {
            "many://7": True,
            "wide://7/x": True,
            "shelf://x": True,
            "shelf://secret": False,
            "never://x": False,
        }
        for uri, opens in expected.items():
            assert ("result" in caller.post(message("resources/read", {"uri": uri})).json()) is opens, (server, uri)
