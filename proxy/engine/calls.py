"""Requests that concern one item, and so one member: find it, decide, ask the member, give its answer back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from django.conf import settings

from authflows.outbound.credential_results import Kind as CredentialKind
from proxy import errors, forward, not_connected, request_state
from proxy.engine import asking, wire
from proxy.engine.engaged import Engaged
from proxy.engine.entering import enter
from proxy.engine.eras import member_is_modern
from proxy.engine.log_levels import wants
from proxy.engine.meetings import met
from proxy.engine.member_call import Failed, MemberCall
from proxy.engine.parameter_headers import ParameterPaths, annotated
from proxy.engine.questions import declared
from proxy.engine.request_checks import check_parameters
from proxy.engine.resources import item_of
from proxy.engine.sights import arranged
from proxy.engine.translate import error_for, result_for
from proxy.in_flight import EndedBy, Phase
from proxy.item_references import Unreadable, referred
from proxy.messages import HEADER_MISMATCH, INVALID_PARAMS
from proxy.opening import parameters_of
from proxy.pipeline import NotConnected, Outcome, Prepared
from proxy.refusals import failure_of
from proxy.upstream import UpstreamError
from proxy.upstream_refusal import Refused
from servers.items import ItemKind
from servers.virtual.arrangement import Arrangement, Entry
from servers.virtual.facts import MemberFacts

_PERSONAL: Final = (CredentialKind.CONNECTION, CredentialKind.OWN_KEY)
_NAMED: Final = {"tools/call": ("name", ItemKind.TOOL), "prompts/get": ("name", ItemKind.PROMPT)}
_CANCEL_SECONDS: Final = 5.0
_ENDING_SECONDS: Final = 2.0
"""So long a member has to end its call after its question was refused, before it is cancelled."""

METHODS: Final = frozenset(
    (
        "tools/call",
        "prompts/get",
        "resources/read",
        "completion/complete",
    )
)


class Answered(Exception):
    """The request was answered to its end by something that writes to the client itself."""


async def respond(engaged: Engaged) -> dict[str, Any]:
    """The JSON-RPC response to a request of `METHODS`. Raises Refusal, and Answered where it is out already."""
    entry, params = await _find(engaged)
    if engaged.client.modern and (paths := _paths(engaged.arrangement, entry)):
        check_parameters(paths, params.get("arguments"), engaged.head.headers)
    await enter_member(engaged, entry.member)
    if await _comes_back(engaged):
        entry, params = await _find(engaged)
    modern = await member_is_modern(engaged)
    params = asking.restored(engaged, entry.member.id, params, modern=modern)
    call = MemberCall(
        engaged.call,
        engaged.runtime,
        engaged.head,
        engaged.client,
        entry.member,
        modern,
        engaged.message.method,
        params,
        declared(engaged.client, member_modern=modern),
        _paths(engaged.arrangement, entry) if modern else (),
    )
    return await ask_member(engaged, call)


async def ask_member(engaged: Engaged, member_call: MemberCall) -> dict[str, Any]:
    """Send a request to the member that was entered, and make of its answer the client's."""
    name = member_call.prepared.server.name
    try:
        return await _ask(engaged, member_call)
    except Failed as failed:
        return _failure(engaged, failed.failure)
    except UpstreamError as error:
        return _failure(engaged, forward.upstream_failure(engaged.call, error))
    except Refused as refused:
        await _not_ready(engaged, refused.outcome)
        raise Answered from None
    except asking.Unanswerable as stopped:
        engaged.call.outcome = stopped.outcome
        if engaged.message.method != "tools/call":
            return wire.error(engaged.message.id, wire.INTERNAL_ERROR, stopped.sentence(name))
        return wire.tool_error(engaged.message.id, stopped.sentence(name), modern=engaged.client.modern)


async def _ask(engaged: Engaged, member_call: MemberCall) -> dict[str, Any]:
    call, message, client = engaged.call, engaged.message, engaged.client
    token = _take_progress_token(engaged, member_call)
    running = (client.session, message.id)
    if client.session:
        engaged.runtime.engine.running[running] = lambda: call.stop(EndedBy.CLIENT)
    try:
        while (answer := await _one_round(engaged, member_call, token)) is None:
            # The client has answered what the member wanted to know.
            pass
        return answer
    except asyncio.CancelledError:
        if call.ended_by is EndedBy.CLIENT and not member_call.modern and not member_call.answered:
            engaged.runtime.spawn(_cancel(member_call))
        raise
    except asking.Unanswerable:
        if not member_call.modern and not member_call.answered:
            engaged.runtime.spawn(_cancel(member_call))
        raise
    finally:
        asking.without_questions(member_call)
        member_call.close()
        engaged.runtime.engine.running.pop(running, None)


async def _one_round(engaged: Engaged, member_call: MemberCall, token: _Token | None) -> dict[str, Any] | None:
    """Send the call and take what the member says; None when it has to be sent again."""
    await member_call.send()
    member_call.answered = False
    met(engaged, member_call)
    only = await member_call.only_message()
    if only is not None:
        member_call.answered = True
        return await _answer(engaged, member_call, only)
    messages = member_call.messages()
    async for said in messages:
        if "method" not in said:
            member_call.answered = True
            return await _answer(engaged, member_call, said)
        try:
            await _take(engaged, member_call, said, token)
        except asking.Unanswerable:
            await _see_the_end(member_call, messages)
            raise
    raise AssertionError("messages() ends with a response")


async def _take(engaged: Engaged, member_call: MemberCall, said: Mapping[str, Any], token: _Token | None) -> None:
    """A request or notification of the member. Raises Unanswerable."""
    call = engaged.call
    if not call.streaming:
        # Whatever it says: not for longer than a stream may last (CL-26).
        left = call.began + settings.MAX_STREAM_SECONDS - monotonic()
        call.enter(Phase.RESPONSE, min(member_call.prepared.server.response_timeout, left))
    if "id" in said:
        await asking.relay(engaged, member_call, said)
    else:
        await _pass_on(engaged, member_call, said, token)


async def _see_the_end(member_call: MemberCall, messages: AsyncIterator[dict[str, Any]]) -> None:
    """A member whose question was refused ends its call by itself, in most cases.

    To cancel that as well does harm: the SDK 1.x loses its session over a cancellation that crosses its answer.
    """
    with suppress(TimeoutError, UpstreamError, Failed):
        async with asyncio.timeout(_ENDING_SECONDS):
            async for said in messages:
                if "method" not in said:
                    member_call.answered = True


async def _answer(engaged: Engaged, member_call: MemberCall, said: Mapping[str, Any]) -> dict[str, Any] | None:
    message, modern, to_modern = engaged.message, member_call.modern, engaged.client.modern
    if "error" in said:
        if await _mirrors_otherwise(engaged, member_call, said["error"]):
            return None
        found = error_for(said["error"], from_modern=modern, to_modern=to_modern)
        if found["code"] == wire.URL_ELICITATION_REQUIRED and not modern:
            return asking.pages_to_open(engaged, member_call, found)
        return {"jsonrpc": "2.0", "id": message.id, "error": found}
    result = said["result"] if isinstance(said["result"], dict) else {}
    if modern and result.get("resultType") == "input_required":
        return await asking.input_required(engaged, member_call, result)
    value = result_for(message.method, result, from_modern=modern, to_modern=to_modern)
    return wire.result(message.id, value)


async def _mirrors_otherwise(engaged: Engaged, member_call: MemberCall, error: Any) -> bool:
    """Whether a member that refused our headers mirrors other parameters than we knew of: then it is asked once more.

    It says by this error that the call was not carried out (CL-23).
    """
    refused = isinstance(error, dict) and error.get("code") == HEADER_MISMATCH
    if not refused or not member_call.modern or engaged.message.method != "tools/call" or member_call.read_again:
        return False
    member_call.read_again = True
    await engaged.runtime.catalogues.refresh(member_call.prepared, wait=True)
    arrangement = await arranged(engaged.virtual)
    entry = arrangement.find(ItemKind.TOOL, engaged.message.item)
    paths = _paths(arrangement, entry) if entry is not None else ()
    changed = paths != member_call.paths
    member_call.paths = paths
    return changed


async def _pass_on(engaged: Engaged, member_call: MemberCall, said: Mapping[str, Any], token: _Token | None) -> None:
    """A notification of the member while it works on the call."""
    method, params = said["method"], said.get("params")
    if method == "notifications/progress":
        if token is None or not isinstance(params, dict) or params.get("progressToken") != token.ours:
            return
        await engaged.sink.say({**said, "params": {**params, "progressToken": token.theirs}})
        return
    if method.endswith("/list_changed"):
        catalogues = getattr(engaged.runtime, "catalogues", None)
        if catalogues is not None:
            engaged.runtime.spawn(catalogues.refresh(member_call.prepared, wait=False))
        return
    if method == "notifications/cancelled":
        asking.withdrawn(member_call, params)
        return
    if not await wants(engaged.client, said):
        return
    await engaged.sink.say(_without_protocol_meta(said) if not engaged.client.modern else said)


def _without_protocol_meta(said: Mapping[str, Any]) -> Mapping[str, Any]:
    params = said.get("params")
    if not isinstance(params, dict) or not isinstance(params.get("_meta"), dict):
        return said
    meta = {name: value for name, value in params["_meta"].items() if not name.startswith(wire.PROTOCOL_PREFIX)}
    kept = {name: value for name, value in params.items() if name != "_meta"}
    return {**said, "params": {**kept, "_meta": meta} if meta else kept}


@dataclass(frozen=True, slots=True)
class _Token:
    """A progress token of the client, and ours in its place: they are unique for each sender, and we are one."""

    theirs: str | int
    ours: str


def _take_progress_token(engaged: Engaged, member_call: MemberCall) -> _Token | None:
    meta = member_call.params.get("_meta")
    theirs = meta.get("progressToken") if isinstance(meta, dict) else None
    if meta is None or isinstance(theirs, bool) or not isinstance(theirs, str | int):
        return None
    token = _Token(theirs, engaged.runtime.engine.next_id())
    member_call.params = {**member_call.params, "_meta": {**meta, "progressToken": token.ours}}
    return token


async def _cancel(member_call: MemberCall) -> None:
    told = {"requestId": member_call.id, "reason": "The client went away."}
    with suppress(UpstreamError, TimeoutError):
        async with asyncio.timeout(_CANCEL_SECONDS):
            await member_call.tell({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": told})


# Whose is it?


async def _find(engaged: Engaged) -> tuple[Entry, dict[str, Any]]:
    """The item and the parameters as its member knows them. Raises Refusal: unknown and hidden look alike (T46)."""
    message, params = engaged.message, dict(engaged.params)
    if (named := _NAMED.get(message.method)) is not None:
        key, kind = named
        entry = await item_of(engaged, kind, message.item)
        return entry, {**params, key: entry.item.key}
    if message.method == "completion/complete":
        return await _find_reference(engaged, params)
    return await item_of(engaged, ItemKind.RESOURCE, message.item), params


async def _find_reference(engaged: Engaged, params: dict[str, Any]) -> tuple[Entry, dict[str, Any]]:
    try:
        kind, name = referred(params)
    except Unreadable as error:
        raise wire.Refusal(INVALID_PARAMS, str(error)) from None
    entry = await item_of(engaged, kind, name)
    if kind is ItemKind.PROMPT:
        params["ref"] = {**params["ref"], "name": entry.item.key}
    return entry, params


def _paths(arrangement: Arrangement, entry: Entry) -> ParameterPaths:
    if "x-mcp-header" not in entry.text:
        return ()
    key = ("parameter headers", entry.name)
    found: ParameterPaths | None = arrangement.kept.get(key)
    if found is None:
        found = arrangement.kept[key] = annotated(entry.text)
    return found


# May it be called now?


async def _comes_back(engaged: Engaged) -> bool:
    """Whether the request is one whose person had to connect the member first; it is then as it was before.

    Raises Answered when something is missing still.
    """
    call = engaged.call
    assert call.prepared is not None  # noqa: S101
    personal = engaged.client.modern and call.prepared.credential.kind in _PERSONAL
    if not personal or request_state.PREFIX.encode() not in engaged.body:
        return False
    again = await not_connected.resumed(call, engaged.runtime, engaged.body)
    if again is None:
        raise Answered
    engaged.body = again
    engaged.params = parameters_of(again)
    return True


async def enter_member(engaged: Engaged, member: MemberFacts) -> None:
    """Make the call that of this member. Raises Answered, and Refusal when it is none of the caller's business."""
    outcome = await enter(engaged.call, engaged.runtime, engaged.virtual, member)
    if not isinstance(outcome, Prepared):
        await _not_ready(engaged, outcome)
        raise Answered


async def _not_ready(engaged: Engaged, outcome: Outcome) -> None:
    call = engaged.call
    if isinstance(outcome, NotConnected):
        call.prepared = Prepared(outcome.principal, outcome.server, not_connected.NOTHING)
        call.outcome = "not_connected"
        return await not_connected.ask(call, engaged.runtime, outcome, engaged.body)
    failure = failure_of(outcome)
    await engaged.sink.finish(_failure(engaged, failure))


def _failure(engaged: Engaged, failure: errors.Failure) -> dict[str, Any]:
    """A failure of one member is the result of that call, which the model reads; nothing else of the whole fails."""
    engaged.call.outcome = failure.outcome
    message = engaged.message
    if message.method == "tools/call":
        return wire.tool_error(message.id, failure.message, modern=engaged.client.modern)
    return wire.error(message.id, failure.code, failure.message)
