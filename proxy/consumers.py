"""The Channels consumer of MCP endpoints: from an ASGI scope to an answer and a record.

It has its own `__call__`: the stock one hops threads for every message and does not see a client leave while it
streams. Here the server's own task is the call; a disconnect, a timeout or a revocation cancels it.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from time import monotonic, time
from typing import Any, Final, Literal

from channels.consumer import AsyncConsumer
from django.conf import settings

from authflows.inbound.bearer import Unauthenticated
from proxy import browsers, errors, runtime, threads
from proxy.forward import BodyCut, forward
from proxy.in_flight import ActiveCall, EndedBy, Phase, changes_seen
from proxy.messages import Kind, Rejected, is_modern, peek
from proxy.pipeline import Knock, NoCredential, NotAllowed, Outcome, Prepared, UnknownServer, prepare_call
from proxy.record import CallRow, recorder
from proxy.request_head import RequestHead, request_head
from servers import changes
from servers.request_id import set_request_id

log = logging.getLogger(__name__)

Endpoint = Literal["server", "mcp", "key"]
ENDPOINTS: Final = ("server", "mcp", "key")
_BODY_SECONDS: Final = 60.0
_SMALLEST_SETTING: Final = 1024
_BODY_QUICK_SECONDS: Final = 1.0
_FAREWELL_SECONDS: Final = 1.0
_started = False


def mcp_route(path: str) -> tuple[str, str, str] | None:
    """Tenant, server and endpoint of `/<tenant>/mcp/<server>/server` (or `/mcp`, `/key`), else None."""
    parts = path.split("/")
    if len(parts) == 5 and parts[2] == "mcp" and parts[4] in ENDPOINTS and parts[1] and parts[3]:
        return parts[1], parts[3], parts[4]
    return None


class ClientGone(Exception):
    """The client left before its request was complete."""


class BodyTooLarge(Exception):
    """The request body is larger than allowed."""


class McpConsumer(AsyncConsumer):
    """One request to an MCP endpoint."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if not _started:
            await _start()
        here = runtime.runtime_of(scope)
        head = request_head(scope)
        call = ActiveCall(scope["method"], head.knock, here.next_request_id(), receive, send, here.loop)
        call.client = head.client
        here.in_flight.begin(call)
        try:
            await _serve(call, here, head)
        except asyncio.CancelledError:
            if call.ended_by is None:
                call.ended_by = EndedBy.SHUTDOWN
                raise
            if call.task is not None:
                call.task.uncancel()
            await _answer_ended(call)
        except ClientGone:
            call.ended_by = EndedBy.CLIENT
        except threads.NoAnswer:
            await _refuse(call, errors.FEED_STALE)
        except BodyCut:
            # Returning without the rest makes the server close the connection, which is the message.
            pass
        except Exception:
            set_request_id(call.request_id)
            log.exception("call failed")
            call.outcome = errors.BROKEN.outcome
            if not call.started:
                await call.answer(*errors.render(errors.BROKEN, call.message.id))
        finally:
            here.in_flight.end(call)
            recorder.add(_row(call))


async def _serve(call: ActiveCall, here: runtime.Runtime, head: RequestHead) -> None:
    headers = head.headers
    if not browsers.is_our_host(headers.get(b"host")):
        return await _refuse(call, errors.FOREIGN_HOST)
    origin = headers.get(b"origin")
    if origin is not None:
        if not browsers.is_allowed_origin(origin):
            return await _refuse(call, errors.FOREIGN_ORIGIN)
        if call.http_method == "OPTIONS":
            wanted = headers.get(b"access-control-request-headers", b"")
            return await call.answer(204, browsers.preflight_headers(origin, wanted), b"")
        call.cors = browsers.cross_origin_headers(origin)
    if not changes.feed.is_fresh():
        return await _refuse(call, errors.FEED_STALE)
    known = here.admissions.find(call.knock, now=time(), changes=call.changes_seen)
    outcome: Outcome = known if known is not None else await _prepare(call, here)
    if isinstance(outcome, Unauthenticated):
        return await _refuse_stranger(call, outcome)
    if head.duplicated is not None:
        return await _refuse(call, errors.duplicated_header(head.duplicated))
    _note_caller(call, outcome)
    body, modern = b"", False
    if call.http_method == "POST":
        try:
            body = await _read_body(call, head.length, outcome)
        except BodyTooLarge:
            return await _refuse(call, errors.too_large(_body_limit(outcome)))
        if call.changes_seen != changes_seen() or monotonic() - call.began > _BODY_QUICK_SECONDS:
            # While the body came, the caller may have lost the right to send it.
            outcome = await _prepare(call, here)
            if isinstance(outcome, Unauthenticated):
                return await _refuse_stranger(call, outcome)
            _note_caller(call, outcome)
        message = peek(headers, body)
        if isinstance(message, Rejected):
            if isinstance(outcome, Prepared):
                return await _reject(call, outcome, message)
        else:
            call.message, modern = message, message.modern
    elif call.http_method in ("GET", "DELETE"):
        modern = is_modern(headers.get(b"mcp-protocol-version", b"").decode("latin-1"))
    else:
        return await _refuse(call, errors.method_not_allowed(call.http_method))
    if not isinstance(outcome, Prepared):
        return await _refuse_caller(call, outcome)
    call.prepared = outcome
    call.decision = "allowed"
    session = None
    sealed = headers.get(b"mcp-session-id")
    if sealed is not None and not modern and call.message.method != "initialize":
        session = here.sessions.open(
            sealed,
            principal=outcome.principal,
            server=outcome.server,
            credential=outcome.credential,
            now=time(),
        )
        if session is None:
            return await _refuse(call, errors.SESSION_NOT_FOUND)
    call.watchable = True
    await forward(call, here, head, session, body)


async def _read_body(call: ActiveCall, declared: bytes | None, outcome: Outcome) -> bytes:
    """The whole body; raises BodyTooLarge as soon as it is known, ClientGone when the client leaves."""
    if declared is not None and declared.isdigit() and _is_too_large(int(declared), outcome):
        raise BodyTooLarge
    call.deadline = call.began + _BODY_SECONDS
    pieces: list[bytes] = []
    while True:
        event = await call.receive()
        if event["type"] == "http.disconnect":
            raise ClientGone
        piece: bytes = event.get("body", b"")
        call.bytes_in += len(piece)
        if _is_too_large(call.bytes_in, outcome):
            raise BodyTooLarge
        if not event.get("more_body"):
            return b"".join((*pieces, piece)) if pieces else piece
        pieces.append(piece)


def _is_too_large(size: int, outcome: Outcome) -> bool:
    own = outcome.server.max_request_bytes if isinstance(outcome, Prepared) else None
    if own is not None and size > own:
        return True
    # The setting is at least a kilobyte; most calls are smaller, and looking it up costs more than it seems.
    return size > _SMALLEST_SETTING and size > settings.MAX_REQUEST_BYTES


async def _prepare(call: ActiveCall, here: runtime.Runtime) -> Outcome:
    now, seen = time(), changes_seen()
    try:
        outcome = prepare_call(call.knock, now=now, may_load=False)
    except changes.NotCached:
        set_request_id(call.request_id)
        return await threads.run_or_give_up(_prepare_loading, call.knock)
    if isinstance(outcome, Prepared):
        here.admissions.keep(call.knock, outcome, now=now, changes=seen)
    return outcome


def _prepare_loading(knock: Knock) -> Outcome:
    return prepare_call(knock, now=time(), may_load=True)


def _note_caller(call: ActiveCall, outcome: Outcome) -> None:
    if isinstance(outcome, Unauthenticated):
        return
    principal = outcome.principal
    call.principal_id, call.principal_label, call.credential = principal.user_id, principal.label, principal.credential
    if not isinstance(outcome, UnknownServer):
        call.server_id = outcome.server.id


def _body_limit(outcome: Outcome) -> int:
    limit: int = settings.MAX_REQUEST_BYTES
    own = outcome.server.max_request_bytes if isinstance(outcome, Prepared) else None
    return limit if own is None else min(limit, own)


async def _reject(call: ActiveCall, prepared: Prepared, rejection: Rejected) -> None:
    call.prepared = prepared
    call.decision = "allowed"
    failure = errors.rejected(rejection)
    call.outcome = failure.outcome
    await call.answer(*errors.render(failure, rejection.id))


async def _refuse_stranger(call: ActiveCall, outcome: Unauthenticated) -> None:
    path = f"/{call.knock.tenant}/mcp/{call.knock.slug}/{call.knock.endpoint}"
    await _refuse(call, errors.unauthenticated(outcome, path, discoverable=call.knock.endpoint != "key"))


async def _refuse_caller(call: ActiveCall, outcome: Outcome) -> None:
    if isinstance(outcome, NotAllowed):
        failure = errors.denied(outcome.decision, outcome.server.name)
    elif isinstance(outcome, NoCredential):
        call.decision = "allowed"
        set_request_id(call.request_id)
        log.warning("no credential", extra={"server": outcome.server.slug, "detail": outcome.error.public_message})
        failure = errors.secret_unavailable(outcome.server.name)
    else:
        failure = errors.UNKNOWN_SERVER
    await _refuse(call, failure)


async def _refuse(call: ActiveCall, failure: errors.Failure) -> None:
    call.decision = call.decision or failure.outcome
    call.outcome = failure.outcome
    await call.answer(*errors.render(failure, call.message.id))


async def _answer_ended(call: ActiveCall) -> None:
    """The gateway ended the call; say so where an answer can still be given."""
    call.outcome = str(call.ended_by)
    if call.ended_by in (EndedBy.CLIENT, EndedBy.STALLED):
        return
    if call.started:
        if call.streaming:
            # A client that does not read is not waited for: without its end the connection is closed.
            with suppress(TimeoutError):
                async with asyncio.timeout(_FAREWELL_SECONDS):
                    await call.finish()
        return
    if call.ended_by is EndedBy.TIMEOUT and call.phase is Phase.REQUEST:
        call.outcome = errors.SLOW_REQUEST.outcome
        await call.answer(*errors.render(errors.SLOW_REQUEST, None))
        return
    if call.ended_by is EndedBy.TIMEOUT and call.prepared is not None:
        server = call.prepared.server
        connecting = call.phase is Phase.CONNECT
        phase = "accept a connection" if connecting else "answer"
        seconds = server.connect_timeout if connecting else server.response_timeout
        failure = errors.upstream_timeout(server.name, phase, seconds)
        call.outcome = failure.outcome
        await call.answer(*errors.render(failure, call.message.id))
    elif call.ended_by is EndedBy.REVOKED:
        await call.answer(*errors.render(errors.UNKNOWN_SERVER, call.message.id))


def _row(call: ActiveCall) -> CallRow:
    message = call.message
    if call.ended_by is not None:
        call.outcome = call.outcome if call.outcome != "ok" else str(call.ended_by)
    elapsed = monotonic() - call.began
    # In the order of the columns, and past the named constructor: it costs three times as much.
    values = (
        time() - elapsed,
        call.request_id,
        call.knock.tenant[:63],
        call.knock.slug[:63],
        call.server_id,
        call.principal_label[:200],
        call.principal_id,
        call.credential,
        (message.client or call.client)[:200],
        call.http_method[:10],
        message.method[:100] if message.kind is not Kind.RESPONSE else "(response)",
        message.item[:300],
        message.version[:20],
        call.decision,
        call.status,
        call.upstream_status,
        call.outcome,
        call.bytes_in,
        call.bytes_out,
        int(elapsed * 1000),
    )
    return tuple.__new__(CallRow, values)


async def _start() -> None:
    """Under servers without lifespan events (Daphne) the first call starts what the path relies on."""
    global _started
    await runtime.start()
    _started = True
