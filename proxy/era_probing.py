"""Asking a server which protocol eras it speaks, with the caller's own credential, and learning it from answers.

Only what was refused is a reason to ask: nothing goes to a server whose answers are fine. A `tools/call` is never
sent again, whatever is found out.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Hashable, Mapping
from dataclasses import replace
from time import time
from typing import Any, Final

from django.conf import settings

from proxy import eras
from proxy.era_evidence import (
    NEWEST_LEGACY,
    NOTHING,
    REFUSALS,
    Evidence,
    NoVerdict,
    answer_in,
    combine,
    from_discover,
    from_initialize,
    verdict,
)
from proxy.eras import DISCOVER, Known
from proxy.exchanges import exchange
from proxy.headers import upstream_lines
from proxy.in_flight import ActiveCall, EndedBy, Event, Phase
from proxy.messages import FIRST_MODERN_VERSION, Kind, Message
from proxy.pipeline import Prepared
from proxy.runtime import AGENT, Plan, Runtime
from proxy.upstream import Response, UpstreamError
from servers.errors import DestinationRefused, GatewayError
from servers.models import Server
from servers.request_id import set_request_id

log = logging.getLogger(__name__)

_ANSWER_SECONDS: Final = 10
"""How long the answer to a question of ours may take; a server's own limit may be shorter."""
_MOST_BYTES: Final = 1024 * 1024
_LEGACY: Final = Server.Eras.LEGACY
_MODERN: Final = Server.Eras.MODERN


class NoSharedEra(Exception):
    """The server speaks no era of the client. Nothing was sent to the client yet, and the request did not run."""


async def probe(call: ActiveCall, runtime: Runtime, prepared: Prepared, *, both: bool = False) -> Server.Eras:
    """What the server speaks, asked with the credential of the call, once for all who wait for it.

    UNKNOWN where the answer is no evidence. A modern server is asked about the other era only with `both`.
    """
    server = prepared.server
    key = _key(prepared, both=both)
    task = runtime.probing.get(key)
    if task is None:
        task = runtime.probing[key] = asyncio.ensure_future(_probe(call, runtime, prepared, both=both))
        task.add_done_callback(lambda _: runtime.probing.pop(key, None))
    # Two exchanges at most, each of which has a limit of its own.
    call.enter(Phase.RESPONSE, 2 * (server.connect_timeout + _ANSWER_SECONDS))
    found: Server.Eras = await asyncio.shield(task)
    return found


def _key(prepared: Prepared, *, both: bool) -> Hashable:
    return prepared.server.id, prepared.server.url, prepared.credential.kind, both


def probe_beside(call: ActiveCall, runtime: Runtime, prepared: Prepared) -> None:
    """Ask about both eras while the call goes on, unless that was done just now."""
    if eras.known_of(prepared).may_ask(now=time()):
        runtime.spawn(probe(_beside(call, runtime), runtime, prepared, both=True))


def doubt(call: ActiveCall, runtime: Runtime, status: int, answer: Mapping[str, Any] | None, *, modern: bool) -> None:
    """The engine asked in this era and was refused: ask anew what the server speaks, if that does not fit."""
    prepared = _prepared(call)
    if status in REFUSALS and eras.contradicts(eras.known_of(prepared), status, answer, modern=modern):
        probe_beside(call, runtime, prepared)


async def look_at(call: ActiveCall, runtime: Runtime, response: Response, body: bytes) -> None:
    """Learn from an answer before it is passed on; `body` is the request's.

    Raises NoSharedEra when it shows that only the engine can serve the request, and UpstreamError.
    """
    message, prepared = call.message, _prepared(call)
    known = eras.known_of(prepared)
    refused = eras.is_doubtful(response.status, message)
    if message.kind is not Kind.REQUEST or not (refused or (_tells(message) and not known.settled)):
        return
    answer = await _peeked(response)
    translates = prepared.server.path is Server.Path.AUTO
    if message.method == DISCOVER:
        found = verdict(response.status, "", answer)
        eras.note(prepared, from_discover(found))
    elif message.method == "initialize":
        eras.note(prepared, _of_initialize(response, answer, body))
        if refused and translates and known.evidence.legacy is not True:
            await _settle(call, runtime, known, wanted=_MODERN)
    elif not translates or (
        known.evidence.modern and not eras.contradicts(known, response.status, answer, modern=True)
    ):
        return
    elif message.method == "tools/call":
        probe_beside(call, runtime, prepared)
    else:
        await _settle(call, runtime, known, wanted=_LEGACY)


async def _settle(call: ActiveCall, runtime: Runtime, known: Known, *, wanted: Server.Eras) -> None:
    """Raise NoSharedEra if the server speaks the other era only, which is asked if it is not known."""
    prepared = _prepared(call)
    under_way = _key(prepared, both=True) in runtime.probing
    if known.eras is not wanted and (under_way or known.may_ask(now=time())):
        await probe(call, runtime, prepared, both=True)
    if known.eras is wanted:
        raise NoSharedEra


def _tells(message: Message) -> bool:
    return message.method == DISCOVER if message.modern else message.method == "initialize"


def _of_initialize(response: Response, answer: dict[str, Any] | None, body: bytes) -> Evidence:
    request = answer_in("", body) or {}
    params = request.get("params")
    asked = params.get("protocolVersion") if isinstance(params, dict) else None
    return from_initialize(response.status, answer, asked=str(asked), ours=False)


async def _peeked(response: Response) -> dict[str, Any] | None:
    """The JSON-RPC answer of a response that is to be passed on afterwards as it came. Raises UpstreamError."""
    data = await _read(response)
    response.put_back(data)
    return answer_in(_content_type(response), data)


async def _read(response: Response) -> bytes:
    """The body; of an event stream, what comes until its answer is there; of too large a one, its beginning."""
    content_type = _content_type(response)
    is_stream = content_type.startswith("text/event-stream")
    data = b""
    while len(data) <= _MOST_BYTES and (piece := await response.chunk()):
        data += piece
        if is_stream and data.endswith((b"\n\n", b"\r\n\r\n")) and answer_in(content_type, data) is not None:
            break
    return data


def _content_type(response: Response) -> str:
    return (response.headers.get(b"content-type") or b"").decode("latin-1").lower()


# The questions


async def _probe(asker: ActiveCall, runtime: Runtime, prepared: Prepared, *, both: bool) -> Server.Eras:
    known = eras.known_of(prepared)
    call = _beside(asker, runtime)
    call.prepared = prepared
    runtime.in_flight.begin(call)
    set_request_id(asker.request_id)
    try:
        plan = runtime.plan_for(prepared)
        seconds = min(plan.server.response_timeout, _ANSWER_SECONDS)
        plan = replace(plan, server=replace(plan.server, response_timeout=seconds))
        found = verdict(*await _ask(call, plan, DISCOVER))
        if isinstance(found, NoVerdict):
            log.info("no verdict on eras", extra={"server": prepared.server.slug, "detail": found.reason})
            return known.eras
        evidence = from_discover(found)
        if evidence.legacy is None and (both or not evidence.modern):
            evidence = combine(evidence, await _initialized(call, plan))
        eras.note(prepared, evidence)
    except (UpstreamError, DestinationRefused, GatewayError) as error:
        log.info("no verdict on eras", extra={"server": prepared.server.slug, "detail": str(error)})
    except asyncio.CancelledError:
        # Its time was up, or whoever began to ask may no longer: others wait for it too, and go on without a verdict.
        if call.ended_by in (None, EndedBy.SHUTDOWN) or call.task is None:
            raise
        call.task.uncancel()
    finally:
        runtime.in_flight.end(call)
    return known.eras


async def _initialized(call: ActiveCall, plan: Plan) -> Evidence:
    """What `initialize` comes to; a session that it opens is ended at once."""
    try:
        response = await _post(call, plan, _initialize(), {})
        status, data = response.status, await _drained(response)
    except UpstreamError:
        return NOTHING
    answer = answer_in(_content_type(response), data)
    session = response.headers.get(b"mcp-session-id")
    if session and status == 200:
        head = [plan.heads["DELETE"], _lines(call, plan, {b"mcp-protocol-version": _version(answer)})]
        try:
            ended = await exchange(call, plan, b"".join((*head, b"mcp-session-id: %b\r\n\r\n" % session)))
        except UpstreamError:
            pass
        else:
            if not ended.complete:
                ended.close()
    return from_initialize(status, answer)


async def _ask(call: ActiveCall, plan: Plan, method: str) -> tuple[int, str, bytes]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": FIRST_MODERN_VERSION,
        "io.modelcontextprotocol/clientInfo": _client(),
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    message = {"jsonrpc": "2.0", "id": "gatehouse-discover", "method": method, "params": {"_meta": meta}}
    headers = {b"mcp-protocol-version": FIRST_MODERN_VERSION.encode(), b"mcp-method": method.encode()}
    response = await _post(call, plan, message, headers)
    return response.status, _content_type(response), await _drained(response)


def _initialize() -> dict[str, Any]:
    params = {"protocolVersion": NEWEST_LEGACY, "capabilities": {}, "clientInfo": _client()}
    return {"jsonrpc": "2.0", "id": "gatehouse-initialize", "method": "initialize", "params": params}


async def _post(call: ActiveCall, plan: Plan, message: dict[str, Any], headers: dict[bytes, bytes]) -> Response:
    body = json.dumps(message).encode()
    head = (plan.heads["POST"], _lines(call, plan, headers), b"content-length: %d\r\n\r\n" % len(body))
    return await exchange(call, plan, b"".join((*head, body)), repeatable=True)


def _lines(call: ActiveCall, plan: Plan, headers: dict[bytes, bytes]) -> bytes:
    """Our headers, and those of the caller that the server's manager lets through."""
    client: Mapping[bytes, bytes] = call.knock.headers
    passed = {name: client[name] for name in plan.allowed if name in client}
    own = {b"content-type": b"application/json", b"accept": b"application/json, text/event-stream", **headers}
    return upstream_lines({**passed, **own}, plan.allowed, plan.reserved, AGENT)


async def _drained(response: Response) -> bytes:
    try:
        return await _read(response)
    finally:
        if not response.complete:
            response.close()


def _version(answer: dict[str, Any] | None) -> bytes:
    result = (answer or {}).get("result")
    version = result.get("protocolVersion") if isinstance(result, dict) else None
    return str(version or NEWEST_LEGACY)[:40].encode("ascii", "replace").translate(None, b"\r\n\0")


def _client() -> dict[str, str]:
    return {"name": "gatehouse", "version": settings.VERSION}


def _beside(call: ActiveCall, runtime: Runtime) -> ActiveCall:
    """A call of our own, with limits of its own: it goes on when its asker leaves."""
    return ActiveCall("POST", call.knock, call.request_id, _nobody, _nowhere, runtime.loop)


async def _nobody() -> Event:
    return {"type": "http.disconnect"}


async def _nowhere(_: Event) -> None:
    return


def _prepared(call: ActiveCall) -> Prepared:
    assert call.prepared is not None  # noqa: S101
    return call.prepared
