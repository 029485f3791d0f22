"""A member's `requestState` on its way through clients: sealed, and good for one person, call and time (T43)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from proxy.engine import member_states
from servers.models import AccessRule, Server
from tests.conftest import Cast
from tests.support.calls import CAPABILITIES_KEY, Caller, caller_for, modern, modern_headers
from tests.support.gateway import LiveGateway
from tests.support.upstream import Answer, Request, Upstream, json_answer
from tests.support.virtual import add_server, set_catalogue, tool, virtual_server

pytestmark = pytest.mark.django_db(transaction=True)
QUESTION = {"mode": "form", "message": "Sure?", "requestedSchema": {"type": "object", "properties": {}}}


def careful(request: Request) -> Answer:
    """A member that asks once, and then says with what it was called."""
    sent = request.json()
    params = sent["params"]
    result: dict[str, Any] = {"resultType": "complete", "content": [{"type": "text", "text": "done"}]}
    if "inputResponses" not in params:
        asked = {"ok": {"method": "elicitation/create", "params": QUESTION}}
        result = {"resultType": "input_required", "inputRequests": asked, "requestState": "theirs"}
    return json_answer({"jsonrpc": "2.0", "id": sent["id"], "result": result})


def call(caller: Caller, name: str = "m__do", arguments: Any = None, **more: Any) -> Any:
    """A modern tools/call of a client that can show forms."""
    body = modern("tools/call", {"name": name, "arguments": arguments or {}, **more})
    body["params"]["_meta"][CAPABILITIES_KEY] = {"elicitation": {"form": {}}}
    return caller.post(body, modern_headers(body)).json()


ANSWERS = {"ok": {"action": "accept", "content": {}}}


@pytest.fixture
def bundle(cast: Cast) -> Any:
    with Upstream(careful) as upstream:
        server = add_server(cast, "m", f"{upstream.origin}/mcp", eras="modern")
        set_catalogue(server, {"tool": [tool("do"), tool("undo")]})
        virtual = virtual_server(cast, (server, "m"))
        virtual.upstream = upstream  # type: ignore[attr-defined]
        yield virtual


@pytest.mark.requirement("T43", "F-702")
def test_the_member_gets_its_own_state_back_and_the_client_never_sees_it(
    gateway: LiveGateway, cast: Cast, bundle: Any
) -> None:
    caller = caller_for(gateway, bundle, cast.member)
    asked = call(caller)["result"]
    assert asked["resultType"] == "input_required"
    assert asked["inputRequests"]["ok"]["params"]["message"] == "M: Sure?"
    assert "theirs" not in asked["requestState"]
    done = call(caller, inputResponses=ANSWERS, requestState=asked["requestState"])["result"]
    assert done["content"][0]["text"] == "done"
    assert bundle.upstream.requests[-1].json()["params"]["requestState"] == "theirs"
    assert bundle.upstream.requests[-1].json()["params"]["inputResponses"] == ANSWERS


MISUSES: dict[str, Callable[[Caller, str], Any]] = {
    "with other arguments": lambda caller, state: call(
        caller, arguments={"x": 1}, inputResponses=ANSWERS, requestState=state
    ),
    "for another tool": lambda caller, state: call(caller, "m__undo", inputResponses=ANSWERS, requestState=state),
    "edited": lambda caller, state: call(caller, inputResponses=ANSWERS, requestState=state[:-3] + "abc"),
    "the member's own text": lambda caller, _: call(caller, inputResponses=ANSWERS, requestState="theirs"),
    "no text": lambda caller, _: call(caller, inputResponses=ANSWERS, requestState=5),
}


@pytest.mark.requirement("T43")
@pytest.mark.parametrize("misuse", MISUSES)
def test_a_state_is_good_for_its_own_request_alone(gateway: LiveGateway, cast: Cast, bundle: Any, misuse: str) -> None:
    caller = caller_for(gateway, bundle, cast.member)
    state = call(caller)["result"]["requestState"]
    assert MISUSES[misuse](caller, state)["error"]["code"] == -32602
    assert len(bundle.upstream.requests) == 1


@pytest.mark.requirement("T43")
def test_nobody_can_use_the_state_of_another(gateway: LiveGateway, cast: Cast, bundle: Server) -> None:
    state = call(caller_for(gateway, bundle, cast.member))["result"]["requestState"]
    for server in (bundle, bundle.members.get().server):
        AccessRule.objects.create(server=server, user=cast.outsider)
    thief = caller_for(gateway, bundle, cast.outsider)
    assert call(thief, inputResponses=ANSWERS, requestState=state)["error"]["code"] == -32602
    another_key = caller_for(gateway, bundle, cast.member)
    assert call(another_key, inputResponses=ANSWERS, requestState=state)["error"]["code"] == -32602


@pytest.mark.requirement("T43")
def test_a_state_ends(gateway: LiveGateway, cast: Cast, bundle: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    caller = caller_for(gateway, bundle, cast.member)
    monkeypatch.setattr(member_states, "LIFETIME_SECONDS", -1)
    state = call(caller)["result"]["requestState"]
    assert call(caller, inputResponses=ANSWERS, requestState=state)["error"]["code"] == -32602


@pytest.mark.requirement("T43", "T46")
def test_a_right_that_was_taken_meanwhile_ends_the_exchange(gateway: LiveGateway, cast: Cast, bundle: Any) -> None:
    caller = caller_for(gateway, bundle, cast.member)
    state = call(caller)["result"]["requestState"]
    AccessRule.objects.filter(server=bundle.members.get().server).delete()
    assert call(caller, inputResponses=ANSWERS, requestState=state)["error"]["message"] == "Unknown tool: m__do"
    assert len(bundle.upstream.requests) == 1
