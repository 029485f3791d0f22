"""What a client hears whose person has to connect an account first, in whichever way it can take it (spec 3.1, 3.2).

A client that can open pages gets one to open: as an `input_required` result (2026-07-28) or as error -32042
(2025-11-25). Every other gets a tool result with the address in plain text. What opens or lists is answered
normally (`opening.py`). The address is of a page of ours that works for the same person only, for 15 minutes.
"""

from __future__ import annotations

import asyncio
import json
from time import time
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import get_user_model
from django.urls import reverse

from authflows.outbound.credential_results import Credential, NeedsConnection
from authflows.outbound.needs import missing
from proxy import errors, member_sessions, opening, request_state, threads
from proxy.connect_answers import Way, elicitation_error, event, find_way, input_required, told
from proxy.eras import opened_in_place_of
from proxy.headers import Headers
from proxy.in_flight import ActiveCall
from proxy.messages import INVALID_PARAMS, Kind, Message
from proxy.opening import CONNECT, Refusal, connect_tool, parameters_of
from proxy.pipeline import NotConnected, Outcome, Prepared, TokenDue, prepare_again
from proxy.request_state import Asked
from proxy.runtime import Runtime
from servers.models import Server
from servers.registry import ServerFacts
from servers.request_id import set_request_id

ASKING_METHODS: Final = ("tools/call", "prompts/get", "resources/read")
WAIT_SECONDS: Final = 25.0
MOST_TIMES: Final = 5
_VERSION_WITH_PAGES: Final = "2025-11-25"
_CAPABILITIES: Final = "io.modelcontextprotocol/clientCapabilities"
NOTHING: Final = Credential(headers=(), epoch="", shared=False)


def opens_pages(parameters: dict[str, Any], *, modern: bool) -> bool:
    """Whether a client declared URL elicitation: in `initialize`, or with each request."""
    holder = parameters.get("_meta") if modern else parameters
    capabilities = holder.get(_CAPABILITIES if modern else "capabilities") if isinstance(holder, dict) else None
    elicitation = capabilities.get("elicitation") if isinstance(capabilities, dict) else None
    return isinstance(elicitation, dict) and isinstance(elicitation.get("url"), dict)


async def serve(
    call: ActiveCall, runtime: Runtime, outcome: NotConnected, body: bytes, *, sealed: bytes | None
) -> None:
    """Answer a request whose person is not connected. `sealed` is the session id of an older client, if it sent one."""
    set_request_id(call.request_id)
    message, member = call.message, ""
    call.prepared = Prepared(outcome.principal, outcome.server, NOTHING)
    call.outcome = "not_connected"
    if message.modern:
        opened_in_place_of(outcome.server)
    if sealed is not None:
        session = runtime.sessions.open(
            sealed, principal=outcome.principal, server=outcome.server, credential=None, now=time()
        )
        if session is None:
            call.outcome = errors.SESSION_NOT_FOUND.outcome
            return await call.answer(*errors.render(errors.SESSION_NOT_FOUND, message.id))
        call.opens_pages, member = session.opens_pages and message.version >= _VERSION_WITH_PAGES, session.member
    if call.http_method == "DELETE":
        if member:
            await threads.run_or_give_up(member_sessions.end, member)
        return await call.answer(204, [], b"")
    if call.http_method == "GET":
        return await _listen(call, runtime)
    if message.kind is Kind.BATCH:
        answers = [
            await _result(call, outcome, element, b"", None)
            for element in message.elements
            if element.kind is Kind.REQUEST
        ]
        return await _send(call, 200, answers) if answers else await call.answer(202, [], b"")
    if message.kind is not Kind.REQUEST:
        return await call.answer(202, [], b"")
    if message.method == "initialize" and not message.modern:
        return await _initialize(call, runtime, outcome, body)
    await ask(call, runtime, outcome, body)


async def ask(call: ActiveCall, runtime: Runtime, outcome: NotConnected, body: bytes) -> None:
    """Answer one request, other than `initialize`, whose person has to connect something first."""
    message = call.message
    if message.modern and message.method in ASKING_METHODS:
        parameters = parameters_of(body)
        call.opens_pages = opens_pages(parameters, modern=True)
        if request_state.is_ours(parameters):
            return await _asked_before(call, runtime, outcome, parameters)
    try:
        await _send(call, 200, await _result(call, outcome, message, body, None))
    except Refusal as refusal:
        await _send(call, refusal.status, {"jsonrpc": "2.0", "id": message.id, "error": refusal.error})


async def resumed(call: ActiveCall, runtime: Runtime, body: bytes) -> bytes | None:
    """A request that comes back after its person was asked, while the server can be called: its body as it was
    before, or None when it was answered here."""
    assert call.prepared is not None  # noqa: S101
    prepared, parameters = call.prepared, parameters_of(body)
    if not request_state.is_ours(parameters):
        return body
    set_request_id(call.request_id)
    still = await threads.run_or_give_up(_still_missing, prepared, call)
    if still is None:
        state = request_state.read(
            parameters,
            principal=prepared.principal,
            server=prepared.server,
            method=call.message.method,
            now=time(),
        )
        try:
            if state is not None and _action(parameters, prepared.server) not in ("decline", "cancel"):
                return request_state.without_state(body)
        except ValueError:
            state = None
        if state is None:
            await _bad_state(call)
        else:
            await _declined(call, prepared.server)
        return None
    call.opens_pages = opens_pages(parameters, modern=True)
    await _asked_before(call, runtime, still, parameters)
    return None


def is_connect_tool(message: Message, server: ServerFacts) -> bool:
    """Whether a tool call is to the one tool that the server had before its person was connected."""
    name = message.item
    return name.startswith(CONNECT) and message.method == "tools/call" and name == connect_tool(server)


async def already_connected(call: ActiveCall, server: ServerFacts) -> None:
    """Answer a call of that tool after all is done."""
    text = f"{server.name} is connected. List the tools again: they are those of {server.name} now."
    result: dict[str, Any] = {"content": [{"type": "text", "text": text}], "isError": False}
    if call.message.modern:
        result["resultType"] = "complete"
    await _send(call, 200, {"jsonrpc": "2.0", "id": call.message.id, "result": result})


async def _initialize(call: ActiveCall, runtime: Runtime, outcome: NotConnected, body: bytes) -> None:
    parameters, server = parameters_of(body), outcome.server
    versions = opening.known_versions(server)
    try:
        result = opening.result_of(call.message, body, server, outcome.answer.need.sentence, versions)
    except Refusal as refusal:
        error = {"jsonrpc": "2.0", "id": call.message.id, "error": refusal.error}
        return await _send(call, refusal.status, error)
    key = await threads.run_or_give_up(
        member_sessions.begin, outcome.principal.user_id, server.id, opening.kept_parameters(body)
    )
    sealed = runtime.sessions.seal(
        "",
        principal=outcome.principal,
        server=server,
        credential=None,
        opens_pages=opens_pages(parameters, modern=False),
        member=key,
        now=time(),
    )
    answer = {"jsonrpc": "2.0", "id": call.message.id, "result": result}
    await _send(call, 200, answer, (b"mcp-session-id", sealed))


async def _listen(call: ActiveCall, runtime: Runtime) -> None:
    """An idle stream that tells when there is something else to list."""
    if not await _begin_stream(call, runtime):
        call.outcome = errors.STREAM_LIMIT.outcome
        return await call.answer(*errors.render(errors.STREAM_LIMIT, None))
    if await _until_connected(call):
        await call.piece(event(opening.LIST_CHANGED))
    await call.finish()


async def _asked_before(call: ActiveCall, runtime: Runtime, outcome: NotConnected, parameters: dict[str, Any]) -> None:
    """The client says what became of the page that it was to open: wait a little, then ask again or give up."""
    message, server = call.message, outcome.server
    asked = request_state.read(
        parameters, principal=outcome.principal, server=server, method=message.method, now=time()
    )
    if asked is None:
        return await _bad_state(call)
    action = _action(parameters, server)
    if action in ("decline", "cancel"):
        return await _declined(call, server)
    streaming = action == "accept" and await _begin_stream(call, runtime)
    if streaming and await _until_connected(call, WAIT_SECONDS):
        # The client sends its request again by itself, and this time it goes to the server.
        answer = input_required(message, outcome, asked, parameters, with_request=False)
    else:
        answer = await _result(call, outcome, message, b"", asked, parameters)
    if streaming:
        await call.piece(event(answer))
        await call.finish()
    else:
        await _send(call, 200, answer)


def _action(parameters: dict[str, Any], server: ServerFacts) -> str:
    responses = parameters.get("inputResponses")
    response = responses.get(connect_tool(server)) if isinstance(responses, dict) else None
    action = response.get("action") if isinstance(response, dict) else None
    return action if isinstance(action, str) else ""


async def _bad_state(call: ActiveCall) -> None:
    error = {
        "code": INVALID_PARAMS,
        "message": "The requestState is not of this request, or has expired. Send the request again without it.",
    }
    await _send(call, 200, {"jsonrpc": "2.0", "id": call.message.id, "error": error})


async def _declined(call: ActiveCall, server: ServerFacts) -> None:
    # Some clients say no by themselves, so the person still has to learn where the way is.
    way = Way(
        f"{server.name} was not called: the user chose not to connect it. Do not ask again for this request. "
        f"It can be connected at any time at {settings.PUBLIC_URL}{reverse('my-connections')}"
    )
    await _send(call, 200, told(call.message, way, server))


async def _begin_stream(call: ActiveCall, runtime: Runtime) -> bool:
    if not runtime.in_flight.begin_stream(call):
        return False
    call.watchable = True
    call.waiting = asyncio.Event()
    headers: Headers = [
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"no-cache, no-transform"),
        (b"x-accel-buffering", b"no"),
        (b"x-content-type-options", b"nosniff"),
    ]
    await call.start(200, headers)
    await call.flush()
    return True


async def _until_connected(call: ActiveCall, seconds: float | None = None) -> bool:
    """Wait until nothing is missing any more; False when that did not happen within so many seconds."""
    assert call.waiting is not None  # noqa: S101
    assert call.prepared is not None  # noqa: S101
    try:
        async with asyncio.timeout(seconds):
            while True:
                call.waiting.clear()
                if await threads.run_or_give_up(_still_missing, call.prepared, call) is None:
                    return True
                await call.waiting.wait()
    except TimeoutError:
        return False


def _still_missing(prepared: Prepared, call: ActiveCall) -> NotConnected | None:
    """What the person still has to do, in a thread that may load; None when the server can be called."""
    outcome: Outcome = prepare_again(prepared, call.knock, now=time(), may_load=True)
    if isinstance(outcome, NotConnected):
        return outcome
    if not isinstance(outcome, Prepared | TokenDue):
        return None  # refused for another reason, which the next request is told
    # The token that there is may lack what a call asked for (step-up).
    user = get_user_model()._default_manager.filter(pk=outcome.principal.user_id).first()
    server = Server.objects.select_related("auth_config").filter(pk=outcome.server.id).first()
    found = missing(user, server) if user is not None and server is not None else None
    if found is None:
        return None
    return NotConnected(outcome.principal, outcome.server, NeedsConnection(found))


async def _result(
    call: ActiveCall,
    outcome: NotConnected,
    message: Message,
    body: bytes,
    asked: Asked | None,
    parameters: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The JSON-RPC answer to one request. Raises Refusal outside of batches."""
    server, need = outcome.server, outcome.answer.need
    if message.method not in ASKING_METHODS:
        versions = opening.known_versions(server)
        try:
            result = opening.result_of(message, body, server, need.sentence, versions)
        except Refusal as refusal:
            if call.message.kind is not Kind.BATCH:
                raise
            return {"jsonrpc": "2.0", "id": message.id, "error": refusal.error}
        return {"jsonrpc": "2.0", "id": message.id, "result": result}
    if asked is not None and asked.times >= MOST_TIMES:
        call.opens_pages = False
    way = await threads.run_or_give_up(find_way, outcome, message.client or call.client, asked, call.knock)
    if not way.link or not call.opens_pages:
        return told(message, way, server)
    if not message.modern:
        return elicitation_error(message, way, server)
    again = asked.again() if asked is not None else Asked(1, way.link, way.url, way.ends)
    return input_required(message, outcome, again, parameters or parameters_of(body), way=way)


async def _send(call: ActiveCall, status: int, answer: Any, *headers: tuple[bytes, bytes]) -> None:
    lines: Headers = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *headers,
    ]
    await call.answer(status, lines, json.dumps(answer).encode())
