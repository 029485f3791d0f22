"""The transparent path: our header list, the client's own bytes, the answer streamed back as it comes.

Nothing of the body is changed in either direction, so every protocol revision that client and upstream share
works, including ones that do not exist yet.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import time
from typing import Final
from urllib.parse import urljoin

from django.conf import settings

from proxy import era_probing, errors, upstream_refusal
from proxy.breaker import BreakerOpen
from proxy.exchanges import exchange
from proxy.headers import TO_CLIENT, Headers
from proxy.in_flight import ActiveCall, Phase
from proxy.messages import Kind, Message
from proxy.request_head import RequestHead
from proxy.runtime import Plan, Runtime
from proxy.upstream import Phase as UpstreamPhase
from proxy.upstream import Response, UpstreamError
from servers import egress
from servers.errors import DestinationRefused, GatewayError

__all__ = ["BodyCut", "exchange", "fail_upstream", "forward", "say", "upstream_failure"]

log = logging.getLogger(__name__)

_WHAT_FAILED: Final[Mapping[UpstreamPhase, str]] = {
    UpstreamPhase.ADDRESS: "is at an address that the gateway may not call (phase: address)",
    UpstreamPhase.CONNECT: "cannot be reached: no connection (phase: connect)",
    UpstreamPhase.TLS: "has a TLS certificate that the gateway does not trust (phase: TLS)",
    UpstreamPhase.RESPONSE: "broke off before it answered; the call may have run (phase: response)",
    UpstreamPhase.BODY: "broke off in the middle of its answer; the call may have run (phase: body)",
}
_SMALLEST_SETTING: Final = 1024


class BodyCut(Exception):
    """The answer had begun and cannot be completed; the client's connection has to be closed."""


async def forward(call: ActiveCall, runtime: Runtime, head: RequestHead, session: bytes | None, body: bytes) -> None:
    """Send the call upstream and its answer back.

    `session` is the upstream's own session id, or None. Raises BodyCut when an answer cannot be completed, Refused
    when the caller's credential is refused and somebody can do something about it, and NoSharedEra when the server
    does not speak the client's protocol era and the request has not run.
    """
    assert call.prepared is not None  # noqa: S101
    server = call.prepared.server
    try:
        plan = runtime.plan_for(call.prepared)
        response = await exchange(call, plan, _request(call, plan, head, session, body))
        if response.status in (307, 308):
            response = await _follow(call, runtime, plan, response, head, session, body)
        if response.status == 401 and call.prepared.credential.renew is not None:
            response = await _with_a_new_token(call, runtime, response, head, session, body)
    except UpstreamError as error:
        await fail_upstream(call, error)
        return
    except (DestinationRefused, GatewayError) as error:
        log.warning("no request possible", extra={"server": server.slug, "detail": error.public_message})
        await _fail(call, errors.secret_unavailable(server.name))
        return
    try:
        if response.status >= 400 or not plan.known.settled:
            await era_probing.look_at(call, runtime, response, body)
        await _relay(call, runtime, response)
    except UpstreamError as error:
        # In the middle of a body that nothing was passed on of.
        await _fail(call, errors.upstream_failed(server.name, _WHAT_FAILED[error.phase], f"upstream_{error.phase}"))
    finally:
        if not response.complete:
            response.close()


async def fail_upstream(call: ActiveCall, error: UpstreamError) -> None:
    """Answer that the server could not be reached or broke off."""
    failure = upstream_failure(call, error)
    if isinstance(error, BreakerOpen):
        return await say(call, failure)
    await _fail(call, failure)


def upstream_failure(call: ActiveCall, error: UpstreamError) -> errors.Failure:
    """What is said of a server that could not be reached or broke off; the detail is for the log."""
    assert call.prepared is not None  # noqa: S101
    server = call.prepared.server
    if isinstance(error, BreakerOpen):
        return errors.breaker_open(server.name, error.cause, lasting=error.lasting, next_try=error.next_try)
    log.warning("upstream failed", extra={"server": server.slug, "phase": error.phase, "detail": error.detail})
    return errors.upstream_failed(server.name, _WHAT_FAILED[error.phase], f"upstream_{error.phase}")


async def _with_a_new_token(
    call: ActiveCall, runtime: Runtime, response: Response, head: RequestHead, session: bytes | None, body: bytes
) -> Response:
    """The same request once more: a 401 says that it was not carried out (CL-21). Raises Refused."""
    call.upstream_status = response.status
    if not response.complete:
        response.close()
    if not await upstream_refusal.renew(call, runtime):
        return response
    assert call.prepared is not None  # noqa: S101
    plan = runtime.plan_for(call.prepared)
    response = await exchange(call, plan, _request(call, plan, head, session, body))
    if response.status in (307, 308):
        response = await _follow(call, runtime, plan, response, head, session, body)
    return response


def _request(call: ActiveCall, plan: Plan, head: RequestHead, session: bytes | None, body: bytes) -> bytes:
    """The client's request as it goes upstream."""
    request = [plan.heads[call.http_method], head.upstream_lines(plan)]
    if session is not None:
        request.append(b"mcp-session-id: %b\r\n" % session)
        last_event = head.headers.get(b"last-event-id")
        if last_event is not None and call.http_method == "GET":
            request.append(b"last-event-id: %b\r\n" % last_event)
    request.append(b"content-length: %d\r\n\r\n" % len(body) if call.http_method == "POST" else b"\r\n")
    request.append(body)
    return b"".join(request)


async def _follow(
    call: ActiveCall,
    runtime: Runtime,
    plan: Plan,
    response: Response,
    head: RequestHead,
    session: bytes | None,
    body: bytes,
) -> Response:
    """Follow one redirect within the origin (a missing slash, mostly); any other is left as it is (T28)."""
    location = (response.headers.get(b"location") or b"").decode("latin-1")
    try:
        destination = egress.parse_destination(urljoin(plan.server.url, location))
    except (DestinationRefused, ValueError):
        return response
    before = plan.destination
    if (destination.scheme, destination.host, destination.port) != (before.scheme, before.host, before.port):
        return response
    if not response.complete:
        response.close()
    plan = runtime.redirected(plan, destination.target)
    return await exchange(call, plan, _request(call, plan, head, session, body))


async def _relay(call: ActiveCall, runtime: Runtime, response: Response) -> None:
    assert call.prepared is not None  # noqa: S101
    server, message = call.prepared.server, call.message
    status = call.upstream_status = response.status
    if status in (401, 403, 407):
        await _credential_refused(call, message, response)
        return
    if 300 <= status < 400:
        runtime.plan_for(call.prepared).gate.not_mcp(f"it redirects (HTTP {status})")
        await _fail(call, errors.upstream_failed(server.name, "redirects to another address", "upstream_redirect"))
        return
    if status >= 500 and not (status == 503 and response.headers.get(b"retry-after")):
        what = f"answered with an error of its own (HTTP {status})"
        await _fail(call, errors.upstream_failed(server.name, what, "upstream_error"))
        return
    if status in (202, 204) or (call.http_method == "DELETE" and (status < 300 or status == 404)):
        # Nothing of a body is of use here; a session that is already gone is an ended session.
        await call.answer(204 if status == 404 else status, [], b"")
        return
    if (response.headers.get(b"content-encoding") or b"identity").lower() != b"identity":
        runtime.plan_for(call.prepared).gate.not_mcp("it compresses its answers though it is asked not to")
        what = "compressed its answer though it was asked not to"
        await _fail(call, errors.upstream_failed(server.name, what, "upstream_encoded"))
        return
    content_type = (response.headers.get(b"content-type") or b"").lower()
    is_stream = content_type.startswith(b"text/event-stream")
    if not is_stream and not content_type.startswith(b"application/json"):
        if status < 300 and (content_type or await response.chunk()):
            runtime.plan_for(call.prepared).gate.not_mcp("neither JSON nor an event stream")
            what = "did not answer as an MCP server (neither JSON nor an event stream)"
            await _fail(call, errors.upstream_failed(server.name, what, "upstream_not_mcp"))
            return
        content_type = b"text/plain; charset=utf-8" if content_type else b""
    headers = _client_headers(call, runtime, response, content_type, is_stream)
    if is_stream:
        await _relay_stream(call, runtime, response, headers)
    else:
        await _relay_body(call, response, headers)


def _client_headers(
    call: ActiveCall, runtime: Runtime, response: Response, content_type: bytes, is_stream: bool
) -> Headers:
    headers: Headers = [(name, response.headers[name]) for name in TO_CLIENT if name in response.headers]
    if content_type:
        headers.append((b"content-type", content_type))
    if response.status == 405 and (allow := response.headers.get(b"allow")):
        headers.append((b"allow", allow))
    if is_stream:
        headers.append((b"cache-control", b"no-cache, no-transform"))
        headers.append((b"x-accel-buffering", b"no"))
    else:
        headers.append((b"cache-control", b"no-store"))
    headers.append((b"x-content-type-options", b"nosniff"))
    if call.message.method == "initialize" and response.status == 200 and not call.message.modern:
        upstream_id = response.headers.get(b"mcp-session-id")
        if upstream_id and call.prepared is not None:
            sealed = runtime.sessions.seal(
                upstream_id.decode("latin-1"),
                principal=call.prepared.principal,
                server=call.prepared.server,
                credential=call.prepared.credential,
                opens_pages=call.opens_pages,
                now=time(),
            )
            headers.append((b"mcp-session-id", sealed))
    return headers


async def _relay_body(call: ActiveCall, response: Response, headers: Headers) -> None:
    # As long as nothing was passed on, a failure can still be answered in words.
    data = response.take() if response.complete else await response.chunk()
    if _is_too_large(response.received) or _is_too_large(response.length or 0):
        await _too_large(call)
        return
    if response.complete:
        await call.answer(response.status, headers, data)
        return
    if response.length is not None:
        headers.append((b"content-length", b"%d" % response.length))
    timeout = call.prepared.server.response_timeout if call.prepared else 0
    await call.start(response.status, headers)
    try:
        while data:
            if _is_too_large(response.received):
                call.outcome = "upstream_too_large"
                raise BodyCut
            await call.piece(data)
            call.enter(Phase.RESPONSE, timeout)
            data = await response.chunk()
    except UpstreamError as error:
        call.outcome = f"upstream_{error.phase}"
        raise BodyCut from error
    await call.finish()


def _is_too_large(size: int) -> bool:
    # The setting is at least a kilobyte; most answers are smaller and need not look it up.
    return size > _SMALLEST_SETTING and size > settings.MAX_RESPONSE_BYTES


async def _relay_stream(call: ActiveCall, runtime: Runtime, response: Response, headers: Headers) -> None:
    if not runtime.in_flight.begin_stream(call):
        await _fail(call, errors.STREAM_LIMIT)
        return
    await call.start(response.status, headers)
    if not response.received:
        # Servers keep the head back until the body begins, and the first event may be hours away.
        await call.flush()
    try:
        while data := await response.chunk():
            await call.piece(data)
    except UpstreamError as error:
        # The end of the stream without a result is what a broken stream looks like to every client.
        call.outcome = f"upstream_{error.phase}"
    await call.finish()


async def _credential_refused(call: ActiveCall, message: Message, response: Response) -> None:
    """The upstream's 401 or 403 is about our credential or its lack, never about the client's (finding 4, T32)."""
    assert call.prepared is not None  # noqa: S101
    call.outcome, text = await upstream_refusal.explained(call, response)
    slug = call.prepared.server.slug
    log.warning("upstream refused the request", extra={"server": slug, "outcome": call.outcome})
    await say(call, errors.Failure(502, errors.UPSTREAM_FAILED, text, call.outcome))


async def say(call: ActiveCall, failure: errors.Failure) -> None:
    """Answer that the call did not happen: in a tool result, which the model reads, where it was a tool call."""
    message = call.message
    if message.kind is not Kind.REQUEST or message.method != "tools/call":
        await _fail(call, failure)
        return
    call.outcome = failure.outcome
    headers: Headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    await call.answer(200, headers, errors.tool_error(message.id, failure.message, modern=message.modern))


async def _too_large(call: ActiveCall) -> None:
    assert call.prepared is not None  # noqa: S101
    what = f"sent an answer larger than {settings.MAX_RESPONSE_BYTES} bytes"
    await _fail(call, errors.upstream_failed(call.prepared.server.name, what, "upstream_too_large"))


async def _fail(call: ActiveCall, failure: errors.Failure) -> None:
    call.outcome = failure.outcome
    await call.answer(*errors.render(failure, call.message.id))
