"""The engine's door: one request to a virtual server, or to a server that shares no era with its client."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from time import time
from typing import Any, Final

from jiter import from_json

from proxy import errors, threads
from proxy.engine import asking, calls, cancels, listens, session_ends, streams, subscriptions, wire
from proxy.engine.calls import Answered
from proxy.engine.clients import WITHOUT_SESSION, Client, modern_client, opening_client, session_client
from proxy.engine.engaged import Engaged
from proxy.engine.handshake import capabilities, discovered, initialized
from proxy.engine.lists import LISTS, Sights, answer_list, list_result, pages_of
from proxy.engine.request_checks import check_modern, unknown_legacy_version
from proxy.engine.resources import Hidden
from proxy.engine.session_notes import begin as begin_notes
from proxy.engine.session_notes import notes_of
from proxy.engine.sights import arranged, instructions_of, sights_of
from proxy.engine.sink import Sink, TooManyStreams, json_headers
from proxy.in_flight import ActiveCall
from proxy.messages import INVALID_PARAMS, INVALID_REQUEST, Kind, Rejected
from proxy.pipeline import Prepared
from proxy.request_head import RequestHead
from proxy.runtime import Runtime

_SESSION_BYTES: Final = 24


async def serve(
    call: ActiveCall, runtime: Runtime, head: RequestHead, prepared: Prepared, body: bytes, sealed: bytes | None
) -> None:
    """Answer a request whose way is free. `sealed` is the session id of an older client, if it sent one."""
    call.watchable = True
    parsed, call.parsed = call.parsed, None
    params = _params(parsed or from_json(body)) if body else {}
    client = _client_of(call, runtime, prepared, params, sealed)
    notes = await notes_of(client.session) if client is not None else None
    if client is None or (notes is not None and notes.ended):
        call.outcome = errors.SESSION_NOT_FOUND.outcome
        return await call.answer(*errors.render(errors.SESSION_NOT_FOUND, call.message.id))
    if not client.modern and (wrong := unknown_legacy_version(call.message)):
        failure = errors.rejected(Rejected(INVALID_REQUEST, wrong))
        call.outcome = failure.outcome
        return await call.answer(*errors.render(failure, call.message.id))
    if notes is not None and notes.level:
        client = replace(client, level=notes.level)
    if client.session:
        # A cancellation may come to another process than the call.
        runtime.engine.bell.listen(runtime.engine.cancelling)
    arrangement = await arranged(prepared)
    sink = Sink(call, runtime)
    engaged = Engaged(call, runtime, head, prepared, body, client, arrangement, call.message, params, sink)
    if call.http_method == "DELETE":
        return await session_ends.end_session(engaged)
    if call.http_method == "GET":
        return await streams.stream(engaged)
    if call.message.kind is Kind.BATCH:
        await _see_to_catalogues(engaged)
        return await _answer_batch(engaged)
    if call.message.method in LISTS or call.message.method in calls.METHODS:
        await _see_to_catalogues(engaged)
    await _answer(engaged)


async def _see_to_catalogues(engaged: Engaged) -> None:
    """Members that were never read are read now, with the caller's credential."""
    virtual = engaged.virtual
    if await engaged.runtime.catalogues.before_listing(virtual, engaged.arrangement, engaged.call.knock):
        engaged.arrangement = await arranged(virtual)


async def _answer(engaged: Engaged) -> None:
    message, sink = engaged.message, engaged.sink
    try:
        if message.modern:
            check_modern(message, engaged.params)
        if message.kind is not Kind.REQUEST:
            await _take(engaged)
            await engaged.call.answer(202, [], b"")
        elif message.method == "initialize" and not message.modern:
            await _initialize(engaged)
        elif message.method in LISTS:
            sights = await _sights(engaged)
            await answer_list(engaged.call, engaged.server, engaged.arrangement, sights, engaged.body)
        elif message.method == "subscriptions/listen" and message.modern:
            await listens.listen(engaged)
        else:
            await sink.finish(await _respond(engaged))
    except wire.Refusal as refusal:
        _note_refusal(engaged, refusal)
        await sink.finish(refusal.message(message.id))
    except TooManyStreams:
        await sink.fail(errors.STREAM_LIMIT)
    except Answered:
        pass


def _note_refusal(engaged: Engaged, refusal: wire.Refusal) -> None:
    """For the record: of a batch it names the last that was refused."""
    call = engaged.call
    call.outcome = f"refused_{-refusal.code}"
    if isinstance(refusal, Hidden):
        call.decision, call.outcome = "denied", refusal.reason
        call.message.item = call.message.item or refusal.name


async def _respond(engaged: Engaged) -> dict[str, Any]:
    """The response to everything that is one value. Raises Refusal and Answered."""
    message, method = engaged.message, engaged.message.method
    if method in subscriptions.METHODS and not message.modern:
        return await subscriptions.respond(engaged)
    if method in calls.METHODS:
        return await calls.respond(engaged)
    if method == "server/discover" and message.modern:
        said = await _instructions(engaged)
        return wire.result(message.id, discovered(engaged.server, capabilities(engaged.arrangement), said))
    if method == "ping" and not message.modern:
        return wire.result(message.id, {})
    if method == "logging/setLevel" and not message.modern:
        return wire.result(message.id, await session_ends.set_level(engaged))
    raise wire.Refusal(wire.METHOD_NOT_FOUND, f"Method not found: {method[:100]}")


async def _take(engaged: Engaged) -> None:
    """A notification or response of the client: nothing is answered."""
    message = engaged.message
    if message.kind is Kind.RESPONSE:
        await asking.take_response(engaged, from_json(engaged.body))
    elif message.method == "notifications/cancelled":
        await cancels.cancel(engaged)
    elif message.method == "notifications/roots/list_changed":
        session_ends.roots_changed(engaged)


async def _answer_batch(engaged: Engaged) -> None:
    answers: list[dict[str, Any]] = []
    for message, parsed in zip(engaged.message.elements, from_json(engaged.body), strict=True):
        element = Engaged(
            engaged.call,
            engaged.runtime,
            engaged.head,
            engaged.virtual,
            wire.encoded(parsed),
            engaged.client,
            engaged.arrangement,
            message,
            _params(parsed),
            _Silent(engaged.call, engaged.runtime),
        )
        engaged.call.prepared = engaged.virtual
        if message.kind is not Kind.REQUEST:
            await _take(element)
            continue
        try:
            if message.method in LISTS:
                kind, field = LISTS[message.method]
                found = await threads.run(pages_of, engaged.arrangement, kind, await _sights(element))
                answers.append(wire.result(message.id, list_result(found, field)))
            else:
                answers.append(await _respond(element))
        except wire.Refusal as refusal:
            _note_refusal(element, refusal)
            answers.append(refusal.message(message.id))
        except Answered:
            return
    if answers:
        await engaged.call.answer(200, json_headers(), wire.encoded(answers))
    else:
        await engaged.call.answer(202, [], b"")


class _Silent(Sink):
    """In a batch nothing can be said before the answers."""

    async def say(self, message: Mapping[str, Any]) -> None:
        """Leave it out."""


# The client and its session


def _client_of(
    call: ActiveCall, runtime: Runtime, prepared: Prepared, params: Mapping[str, Any], sealed: bytes | None
) -> Client | None:
    """Who asks; None when the session id is not one of theirs (404)."""
    message = call.message
    if message.modern:
        return modern_client(params)
    if sealed is None:
        return WITHOUT_SESSION
    session = runtime.sessions.open(
        sealed, principal=prepared.principal, server=prepared.server, credential=prepared.credential, now=time()
    )
    if session is None or session.client is None:
        return None
    client: Client | None = session.known
    if client is None:
        client = session.known = session_client(session.client)
    return client


async def _initialize(engaged: Engaged) -> None:
    prepared, server = engaged.virtual, engaged.server
    client = opening_client(engaged.params, secrets.token_urlsafe(_SESSION_BYTES))
    if not isinstance(engaged.params.get("protocolVersion"), str):
        raise wire.Refusal(INVALID_PARAMS, "`params.protocolVersion` must name a protocol version.")
    sealed = engaged.runtime.sessions.seal(
        "",
        principal=prepared.principal,
        server=server,
        credential=prepared.credential,
        client=client.sealed(),
        now=time(),
    )
    begin_notes(client.session)
    offered = capabilities(engaged.arrangement)
    result = initialized(server, client.version, offered, await _instructions(engaged))
    await engaged.sink.finish(wire.result(engaged.message.id, result), (b"mcp-session-id", sealed))


async def _sights(engaged: Engaged) -> Sights:
    return await sights_of(engaged.virtual, engaged.arrangement, engaged.call.knock)


async def _instructions(engaged: Engaged) -> str:
    return await instructions_of(engaged.virtual, engaged.arrangement, engaged.call.knock)


def _params(parsed: Any) -> Mapping[str, Any]:
    params = parsed.get("params") if isinstance(parsed, dict) else None
    return params if isinstance(params, dict) else {}
