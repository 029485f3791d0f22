"""One request to a server and the head of its answer, on a kept connection or a new one, past the server's breaker."""

from __future__ import annotations

from time import monotonic
from typing import Final

from proxy.in_flight import ActiveCall, Phase
from proxy.messages import Kind
from proxy.runtime import Plan
from proxy.upstream import Response, UpstreamError

# Reading only: sending one again cannot do a thing twice (T50). A tool call is never among them.
_REPEATABLE: Final = frozenset(
    (
        "completion/complete",
        "ping",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
        "server/discover",
        "tools/list",
    )
)


async def exchange(call: ActiveCall, plan: Plan, data: bytes, *, repeatable: bool | None = None) -> Response:
    """Send one request as it stands; returns when its response's head is there.

    `repeatable`: whether it may be sent again on another connection; None: as the call itself. Raises UpstreamError,
    and BreakerOpen, which is one, when the server is left alone because it has failed too often.
    """
    server, gate = plan.server, plan.gate
    if gate.shut:
        gate.admit(plan.credential)
    fresh = False
    try:
        connection = plan.pool.take_idle()
        if connection is not None:
            call.enter(Phase.RESPONSE, server.response_timeout)
            call.response = response = connection.send(data)
            try:
                await response.head()
            except UpstreamError:
                # The upstream may have closed the kept connection just as we wrote.
                if response.head_complete or not (_is_repeatable(call) if repeatable is None else repeatable):
                    raise
                connection = None
            except BaseException:
                response.close()
                raise
        if connection is None:
            fresh = True
            call.enter(Phase.CONNECT, server.connect_timeout)
            connection = await plan.pool.connect()
            if gate.shut:
                gate.connected()
            call.enter(Phase.RESPONSE, server.response_timeout)
            call.response = response = connection.send(data)
            try:
                await response.head()
            except BaseException:
                response.close()
                raise
    except UpstreamError as error:
        gate.failed(error, fresh=fresh)
        raise
    except BaseException:
        gate.ended(call)
        raise
    took = monotonic() - call.deadline + server.response_timeout
    if response.status != 200 or took > gate.slow_after or gate.watching:
        gate.answered(call, plan.credential, response, took)
    return response


def _is_repeatable(call: ActiveCall) -> bool:
    if call.http_method == "GET":
        return True
    return call.message.kind is Kind.REQUEST and call.message.method in _REPEATABLE
