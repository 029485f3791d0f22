"""Work at a member beside the requests of clients: with limits of its own, and only while its caller may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from proxy.engine.engaged import Engaged
from proxy.engine.entering import enter
from proxy.engine.sink import Sink
from proxy.in_flight import ActiveCall, EndedBy
from proxy.messages import NO_BODY, Message
from proxy.pipeline import Prepared
from servers.virtual.facts import MemberFacts


class Stopped(Exception):
    """The work was ended: its time was up, or its caller may not have it any more."""

    def __init__(self, why: EndedBy) -> None:
        super().__init__(why)
        self.why = why


class NotReady(Exception):
    """The member cannot be called in the caller's name now."""


@asynccontextmanager
async def beside(
    engaged: Engaged, member: MemberFacts, *, http_method: str = "POST", message: Message = NO_BODY
) -> AsyncIterator[Engaged]:
    """A call of ours to this member, in the present task, for the caller of `engaged`. Raises Stopped and NotReady.

    It is looked after like every other call, but it is no call of the client's: it has no record and no stream.
    """
    runtime = engaged.runtime
    call = ActiveCall(
        http_method, engaged.call.knock, runtime.next_request_id(), _nothing_comes, _dropped, runtime.loop
    )
    call.message = message
    call.prepared = engaged.virtual
    runtime.in_flight.begin(call)
    try:
        if not isinstance(await enter(call, runtime, engaged.virtual, member), Prepared):
            raise NotReady
        yield replace(engaged, call=call, message=message)
    except asyncio.CancelledError:
        if call.ended_by in (None, EndedBy.SHUTDOWN) or call.task is None or call.task.uncancel():
            raise
        assert call.ended_by is not None  # noqa: S101
        raise Stopped(call.ended_by) from None
    finally:
        runtime.in_flight.end(call)


def at_rest(engaged: Engaged) -> Engaged:
    """The same for work that may outlast the request: without its body and its connection."""
    call, runtime = engaged.call, engaged.runtime
    quiet = ActiveCall(call.http_method, call.knock, call.request_id, _nothing_comes, _dropped, runtime.loop)
    quiet.task = None
    quiet.prepared = engaged.virtual
    return replace(engaged, call=quiet, body=b"", params={}, sink=Sink(quiet, runtime))


async def _nothing_comes() -> Any:
    await asyncio.get_running_loop().create_future()


async def _dropped(_: Any) -> None:
    """Nobody waits for an answer."""
