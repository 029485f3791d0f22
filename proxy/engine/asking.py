"""Questions that a member asks in the middle of a call, on their way to the client and back (the matrix of 2.3).

Both old: the member's request goes out on the stream of the client's call under a number of ours, and the client's
answer comes back in a request of its own. Member new, client old: its `input_required` becomes such questions, and
the call is sent again with the answers. Both new: passed on, with the member's state sealed. Client new, member old:
the client could only be asked by ending its request, while the member's call stays half done; so nothing is declared,
and a member that asks all the same stops its call with an honest error.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from time import time
from typing import Any, Final

from proxy.engine import member_states, wire
from proxy.engine.engaged import Engaged
from proxy.engine.member_call import MemberCall
from proxy.engine.questions import Question, Unaskable, is_safe_page, question
from proxy.messages import INVALID_PARAMS
from proxy.upstream import UpstreamError
from servers.request_id import set_request_id

log = logging.getLogger(__name__)

MOST_ROUNDS: Final = 10
MOST_QUESTIONS: Final = 16
"""Of one call at a time."""
_BETWEEN_ROUNDS_SECONDS: Final = 0.5


class Unanswerable(Exception):
    """The member asked something that cannot be passed on; the call was stopped."""

    outcome = "member_asked"

    def __init__(self, why: str = "", url: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.url = url

    def sentence(self, name: str) -> str:
        """What the model reads (2.6 D)."""
        if self.url:
            return (
                f"The server '{name}' wants the user to open {self.url} in a browser before it goes on, and this "
                "client cannot be told so by itself. Ask the user to open it, then repeat the call."
            )
        why = f" ({self.why})" if self.why else ""
        return (
            f"The server '{name}' asked a question in the middle of this call, which cannot be passed on through this "
            f"connection{why}. The call was stopped. Part of its work may already be done; check before repeating it."
        )


async def relay(engaged: Engaged, member_call: MemberCall, asked: Mapping[str, Any]) -> None:
    """A request of the member while it works on the call; its answer goes back beside. Raises Unanswerable."""
    if asked.get("method") == "ping":
        await member_call.tell({"jsonrpc": "2.0", "id": asked["id"], "result": {}})
        return
    if engaged.client.modern:
        # Here a call could be parked instead, and resumed by the `requestState` of an `input_required` result.
        await _refuse(member_call, asked["id"], "The client cannot be asked in the middle of a call.")
        raise Unanswerable
    found = _question(engaged, asked.get("method"), asked.get("params"))
    if isinstance(found, Unaskable):
        await _refuse(member_call, asked["id"], f"The client cannot be asked this: {found.reason}.")
        return
    if len(member_call.questions) >= MOST_QUESTIONS:
        await _refuse(member_call, asked["id"], "Too many questions at a time.")
        return
    task = asyncio.ensure_future(_carry(engaged, member_call, asked["id"], found))
    member_call.questions[asked["id"]] = task
    task.add_done_callback(lambda _: member_call.questions.pop(asked["id"], None))


async def _carry(engaged: Engaged, member_call: MemberCall, asked_as: Any, found: Question) -> None:
    """Ask the client and give its answer to the member."""
    response = await _ask_client(engaged, found)
    outcome = {"error": response["error"]} if "error" in response else {"result": response.get("result", {})}
    with suppress(UpstreamError):
        await member_call.tell({"jsonrpc": "2.0", "id": asked_as, **outcome})


async def _ask_client(engaged: Engaged, found: Question) -> dict[str, Any]:
    """Put a question to an older client, on the stream of its call; returns its response."""
    number = engaged.runtime.engine.next_id()
    answer = engaged.runtime.engine.answers.expect(engaged.client.session, number)
    try:
        await engaged.sink.say({"jsonrpc": "2.0", "id": number, "method": found.method, "params": found.params})
        return await answer
    except asyncio.CancelledError:
        told = {"requestId": number, "reason": "The server does not need the answer any more."}
        if not engaged.call.task or not engaged.call.task.cancelling():
            with suppress(Exception):
                await engaged.sink.say({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": told})
        raise
    finally:
        answer.cancel()


async def _refuse(member_call: MemberCall, asked_as: Any, why: str) -> None:
    with suppress(UpstreamError):
        await member_call.tell(wire.error(asked_as, wire.METHOD_NOT_FOUND, why))


def withdrawn(member_call: MemberCall, params: Any) -> None:
    """The member does not want an answer to its question any more."""
    task = member_call.questions.get(params.get("requestId")) if isinstance(params, dict) else None
    if task is not None:
        task.cancel()


def _question(engaged: Engaged, method: Any, params: Any) -> Question | Unaskable:
    prepared = engaged.call.prepared
    assert prepared is not None  # noqa: S101
    # Who sees several servers behind one name has to be told which of them asks (T33).
    found = question(engaged.client, method, params, asked_by=prepared.server.name if engaged.server.virtual else "")
    set_request_id(engaged.call.request_id)
    if isinstance(found, Unaskable):
        log.warning("question not passed on", extra={"server": prepared.server.slug, "detail": found.reason})
    elif found.suspicious:
        log.warning("a server asks for what looks like a secret", extra={"server": prepared.server.slug})
    return found


# Members that ask by ending their answer (2026-07-28)


async def input_required(engaged: Engaged, member_call: MemberCall, result: dict[str, Any]) -> dict[str, Any] | None:
    """The response for a modern client; None when an older client was asked and the call has to be sent again.

    Raises Unanswerable.
    """
    requests = result.get("inputRequests")
    requests = requests if isinstance(requests, dict) else {}
    questions: dict[str, Question] = {}
    for key, asked in list(requests.items())[:MOST_QUESTIONS]:
        asked = asked if isinstance(asked, dict) else {}
        found = _question(engaged, asked.get("method"), asked.get("params"))
        if isinstance(found, Unaskable):
            raise Unanswerable(found.reason, found.url)
        questions[key] = found
    if engaged.client.modern:
        return wire.result(engaged.message.id, _passed_on(engaged, member_call, result, questions))
    member_call.rounds += 1
    if member_call.rounds > MOST_ROUNDS:
        raise Unanswerable("it asks again and again")
    if not questions:
        await asyncio.sleep(_BETWEEN_ROUNDS_SECONDS)
    responses = {key: await _answered(engaged, one) for key, one in questions.items()}
    params = {name: value for name, value in member_call.params.items() if name != "requestState"}
    params["inputResponses"] = responses
    if "requestState" in result:
        params["requestState"] = result["requestState"]
    member_call.params = params
    return None


async def _answered(engaged: Engaged, found: Question) -> Any:
    response = await _ask_client(engaged, found)
    if "error" in response:
        raise Unanswerable("the client did not answer")
    return response.get("result", {})


def _passed_on(
    engaged: Engaged, member_call: MemberCall, result: dict[str, Any], questions: Mapping[str, Question]
) -> dict[str, Any]:
    passed = dict(result)
    if questions:
        passed["inputRequests"] = {
            key: {"method": found.method, "params": found.params} for key, found in questions.items()
        }
    state = result.get("requestState")
    passed["requestState"] = member_states.seal(
        state if isinstance(state, str) else None,
        principal=engaged.virtual.principal,
        server=engaged.server.id,
        member=member_call.member.id,
        method=engaged.message.method,
        params=engaged.params,
        now=time(),
    )
    return passed


def restored(engaged: Engaged, member_id: Any, params: dict[str, Any], *, modern: bool) -> dict[str, Any]:
    """The parameters of a request that comes back with answers, with the member's own state. Raises Refusal."""
    if "requestState" not in params:
        return params
    try:
        state = member_states.read(
            params["requestState"],
            principal=engaged.virtual.principal,
            server=engaged.server.id,
            member=member_id,
            method=engaged.message.method,
            params=engaged.params,
            now=time(),
        )
    except member_states.BadState:
        text = "The requestState is not of this request, or has expired. Send the request again without it."
        raise wire.Refusal(INVALID_PARAMS, text) from None
    found = {name: value for name, value in params.items() if name != "requestState"}
    if not modern:
        # The member knows nothing of it: the call begins anew.
        found.pop("inputResponses", None)
    elif state is not None:
        found["requestState"] = state
    return found


# Older members that want a page opened first (-32042)


def pages_to_open(engaged: Engaged, member_call: MemberCall, error: dict[str, Any]) -> dict[str, Any]:
    """A member's own "open this page first", as the client can take it. Raises Unanswerable."""
    data = error.get("data")
    offered = data.get("elicitations") if isinstance(data, dict) else None
    pages = [one for one in offered if isinstance(one, dict)] if isinstance(offered, list) else []
    pages = [one for one in pages if isinstance(one.get("url"), str) and is_safe_page(one["url"])]
    if not pages:
        raise Unanswerable("it wants a page opened that is not an https one")
    questions: list[Question] = []
    for one in pages[:MOST_QUESTIONS]:
        found = _question(engaged, "elicitation/create", {**one, "mode": "url"})
        if isinstance(found, Unaskable):
            raise Unanswerable(found.reason, found.url)
        questions.append(found)
    if not engaged.client.modern:
        known = {**error, "data": {**(data or {}), "elicitations": [one.params for one in questions]}}
        return {"jsonrpc": "2.0", "id": engaged.message.id, "error": known}
    asked = {f"page_{number}": found for number, found in enumerate(questions, 1)}
    result = _passed_on(engaged, member_call, {"resultType": "input_required"}, asked)
    return wire.result(engaged.message.id, result)


async def take_response(engaged: Engaged, response: dict[str, Any]) -> None:
    """An answer of the client to a question that was passed on."""
    if engaged.client.session and isinstance(response.get("id"), str):
        await engaged.runtime.engine.answers.take(engaged.client.session, response)


def without_questions(member_call: MemberCall) -> None:
    """The call is over: nothing is delivered any more (T47)."""
    for task in tuple(member_call.questions.values()):
        task.cancel()
