"""The end of a call: what its client still hears when the gateway ended it, and what is recorded."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from time import monotonic, time
from typing import Final

from proxy import errors
from proxy.forward import say
from proxy.in_flight import ActiveCall, EndedBy, Phase
from proxy.messages import Kind
from proxy.record import CallRow

_FAREWELL_SECONDS: Final = 1.0


async def answer_ended(call: ActiveCall) -> None:
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
        if call.prepared.again is not None:
            # One member of several was slow: that is the result of this call, and the whole still works.
            return await say(call, failure)
        call.outcome = failure.outcome
        await call.answer(*errors.render(failure, call.message.id))
    elif call.ended_by is EndedBy.REVOKED:
        await call.answer(*errors.render(errors.UNKNOWN_SERVER, call.message.id))


def row_of(call: ActiveCall) -> CallRow:
    """What is recorded of a call that has ended."""
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
