"""The Channels consumer of MCP endpoints: from an ASGI scope to an answer and a record.

It has its own `__call__`: the stock one hops threads for every message and does not see a client leave while it
streams. Here the server's own task is the call; a disconnect, a timeout or a revocation cancels it.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic, time
from typing import Any, Final, Literal

from channels.consumer import AsyncConsumer
from django.conf import settings

from authflows.inbound.bearer import Unauthenticated
from authflows.outbound.credential_results import Kind as CredentialKind
from proxy import (
    browsers,
    era_probing,
    eras,
    errors,
    item_rights,
    not_connected,
    opening,
    request_state,
    runtime,
    threads,
)
from proxy.endings import answer_ended, row_of
from proxy.engine import serve as engine
from proxy.forward import BodyCut, forward, say
from proxy.in_flight import ActiveCall, EndedBy, changes_seen
from proxy.messages import Rejected, is_modern, peek_with
from proxy.pipeline import (
    NoCredential,
    NotConnected,
    NoToken,
    Outcome,
    Prepared,
    TokenDue,
    UnknownServer,
    prepare_call,
    prepare_loading,
)
from proxy.record import recorder
from proxy.refusals import failure_of
from proxy.request_head import REQUEST_ID, RequestHead, request_head
from proxy.upstream_refusal import Refused
from servers import changes
from servers.request_id import set_request_id

log = logging.getLogger(__name__)

Endpoint = Literal["server", "mcp", "key"]
ENDPOINTS: Final = ("server", "mcp", "key")
_BODY_SECONDS: Final = 60.0
_SMALLEST_SETTING: Final = 1024
_BODY_QUICK_SECONDS: Final = 1.0
# What can be somebody's own, so that a server may have been "not connected" for them a moment ago.
_PERSONAL: Final = (CredentialKind.CONNECTION, CredentialKind.OWN_KEY)
_OPENINGS: Final = ("initialize", eras.DISCOVER)
_STATE: Final = request_state.PREFIX.encode()
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
        request_id = scope.get(REQUEST_ID) or here.next_request_id()
        call = ActiveCall(scope["method"], head.knock, request_id, receive, send, here.loop)
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
            await answer_ended(call)
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
            recorder.add(row_of(call), call.prepared.credential if call.prepared is not None else None)


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
        message, parsed = peek_with(headers, body)
        if isinstance(message, Rejected):
            if isinstance(outcome, Prepared | NotConnected):
                return await _reject(call, message)
        else:
            call.message, modern = message, message.modern
            if isinstance(outcome, Prepared) and outcome.server.virtual:
                call.parsed = parsed
        del parsed
    elif call.http_method in ("GET", "DELETE"):
        modern = is_modern(headers.get(b"mcp-protocol-version", b"").decode("latin-1"))
    else:
        return await _refuse(call, errors.method_not_allowed(call.http_method))
    sealed = headers.get(b"mcp-session-id")
    if modern or call.message.method == "initialize":
        sealed = None
    if isinstance(outcome, NotConnected):
        return await _serve_unconnected(call, here, outcome, body, sealed)
    if not isinstance(outcome, Prepared):
        return await _refuse_caller(call, outcome)
    call.prepared = outcome
    call.decision = "allowed"
    try:
        await _serve_prepared(call, here, head, outcome, body, sealed)
    except Refused as refused:
        if not isinstance(refused.outcome, NotConnected):
            return await _refuse_caller(call, refused.outcome)
        await _serve_unconnected(call, here, refused.outcome, body, sealed)


async def _serve_prepared(
    call: ActiveCall, here: runtime.Runtime, head: RequestHead, prepared: Prepared, body: bytes, sealed: bytes | None
) -> None:
    """Send the call on its way. Raises Refused when its caller's credential is refused."""
    if prepared.server.virtual:
        return await engine.serve(call, here, head, prepared, body, sealed)
    session = upstream_session = None
    message = call.message
    if message.method == "initialize":
        call.opens_pages = not_connected.opens_pages(opening.parameters_of(body), modern=False)
    if sealed is not None:
        session = here.sessions.open(
            sealed, principal=prepared.principal, server=prepared.server, credential=prepared.credential, now=time()
        )
        if session is None:
            return await _refuse(call, errors.SESSION_NOT_FOUND)
        if session.client is not None or eras.needs_engine(prepared, message):
            return await _serve_bridged(call, here, head, body, sealed)
        upstream_session = session.upstream_id
        if session.member and not_connected.is_connect_tool(message, prepared.server):
            return await not_connected.already_connected(call, prepared.server)
    elif message.modern and prepared.credential.kind in _PERSONAL:
        if _STATE in body:
            again = await not_connected.resumed(call, here, body)
            if again is None:
                return
            if again is not body:
                eras.opened_in_place_of(prepared.server)
            body = again
        if not_connected.is_connect_tool(message, prepared.server):
            return await not_connected.already_connected(call, prepared.server)
    if message.modern and (eras.owes_an_era(prepared) or (call.knock.ours and eras.is_open(prepared))):
        call.watchable = True
        await era_probing.probe(call, here, prepared)
    if sealed is None and eras.needs_engine(prepared, message):
        call.watchable = True
        return await _serve_bridged(call, here, head, body, None)
    if prepared.limited and await item_rights.answered(call, here, body):
        return
    if session is not None and session.member:
        found = await opening.resumed(call, here, session, head)
        if found is None:
            return
        upstream_session, head = found
    call.watchable = True
    if message.method in _OPENINGS and (refusal := eras.honest_refusal(prepared, message)) is not None:
        return await _refuse_era(call, *refusal, body)
    try:
        await forward(call, here, head, upstream_session, body)
    except era_probing.NoSharedEra:
        await _serve_bridged(call, here, head, body, None)


async def _serve_bridged(
    call: ActiveCall, here: runtime.Runtime, head: RequestHead, body: bytes, sealed: bytes | None
) -> None:
    """Serve what a server with an address of its own cannot be asked as it came."""
    prepared = call.prepared
    assert prepared is not None  # noqa: S101
    if eras.known_of(prepared).stale(time()):
        era_probing.probe_beside(call, here, prepared)
    catalogue = await item_rights.catalogue_for(call, here, prepared)
    if not catalogue.taken and call.message.method in item_rights.DECIDED:
        return await say(call, errors.no_catalogue(prepared.server.name))
    await engine.serve(call, here, head, prepared, body, sealed)


async def _refuse_era(call: ActiveCall, text: str, supported: list[str], body: bytes) -> None:
    asked = call.message.version if call.message.modern else str(opening.parameters_of(body).get("protocolVersion"))
    call.outcome = "era_not_shared"
    await call.answer(*errors.era_refusal(call.message.id, text, supported, asked))


async def _serve_unconnected(
    call: ActiveCall, here: runtime.Runtime, outcome: NotConnected, body: bytes, sealed: bytes | None
) -> None:
    call.decision = "allowed"
    await not_connected.serve(call, here, outcome, body, sealed=sealed)


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
        outcome = await threads.run_or_give_up(prepare_loading, call.knock)
        return await here.obtaining.settled(outcome, call.knock) if isinstance(outcome, TokenDue) else outcome
    if isinstance(outcome, Prepared):
        here.admissions.keep(call.knock, outcome, now=now, changes=seen)
    return await here.obtaining.settled(outcome, call.knock) if isinstance(outcome, TokenDue) else outcome


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


async def _reject(call: ActiveCall, rejection: Rejected) -> None:
    call.decision = "allowed"
    failure = errors.rejected(rejection)
    call.outcome = failure.outcome
    await call.answer(*errors.render(failure, rejection.id))


async def _refuse_stranger(call: ActiveCall, outcome: Unauthenticated) -> None:
    path = f"/{call.knock.tenant}/mcp/{call.knock.slug}/{call.knock.endpoint}"
    await _refuse(call, errors.unauthenticated(outcome, path, discoverable=call.knock.endpoint != "key"))


async def _refuse_caller(call: ActiveCall, outcome: Outcome) -> None:
    failure = failure_of(outcome)
    if isinstance(outcome, NoCredential | NoToken):
        call.decision = "allowed"
        set_request_id(call.request_id)
        log.warning("no credential", extra={"server": outcome.server.slug, "detail": failure.message})
    if isinstance(outcome, NoToken):
        return await say(call, failure)
    await _refuse(call, failure)


async def _refuse(call: ActiveCall, failure: errors.Failure) -> None:
    call.decision = call.decision or failure.outcome
    call.outcome = failure.outcome
    await call.answer(*errors.render(failure, call.message.id))


async def _start() -> None:
    """Under servers without lifespan events (Daphne) the first call starts what the path relies on."""
    global _started
    await runtime.start()
    _started = True
