"""One request to a member and the messages of its answer, in the era that the member speaks.

It is sent once. Sent again is only what was certainly not carried out: after a 401 with a new token, after a 404 for
a session that the member has forgotten (SE-9), after a redirect within the origin.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from django.conf import settings
from jiter import from_json

from proxy import era_probing, errors, upstream_refusal
from proxy.engine.clients import Client
from proxy.engine.legacy_sessions import NotOpened, forget_session, open_session, session_headers
from proxy.engine.parameter_headers import ParameterPaths, parameter_headers
from proxy.engine.requests import Head, legacy_params, modern_headers, modern_params, request_bytes
from proxy.engine.resuming import messages_of
from proxy.engine.sse import EventTooLarge
from proxy.engine.wire import encoded
from proxy.era_evidence import REFUSALS
from proxy.exchanges import exchange
from proxy.in_flight import ActiveCall
from proxy.member_sessions import Member as Session
from proxy.pipeline import Prepared
from proxy.runtime import Runtime
from proxy.upstream import Phase as UpstreamPhase
from proxy.upstream import Response, UpstreamError
from servers.virtual.facts import MemberFacts

log = logging.getLogger(__name__)

_READING: Final = frozenset(("completion/complete", "ping"))
"""What may be sent again on another connection: it reads and nothing else."""


class Failed(Exception):
    """The member gave no answer that could be passed on; the failure says so to the client."""

    def __init__(self, failure: errors.Failure, *, told: bool = False) -> None:
        super().__init__(failure.message)
        self.failure = failure
        self.told = told
        """It is about a credential: the model reads it as the result of its tool call."""


@dataclass(slots=True)
class MemberCall:
    """What is asked of whom."""

    call: ActiveCall
    runtime: Runtime
    head: Head
    client: Client
    member: MemberFacts
    modern: bool
    """The era in which the member is asked."""
    method: str
    params: Mapping[str, Any]
    capabilities: Mapping[str, Any]
    """What the member is told that the client can do: never more than we carry (CL-27)."""
    paths: ParameterPaths = ()
    id: str = ""
    session: Session | None = None
    response: Response | None = None
    questions: dict[Any, asyncio.Task[None]] = field(default_factory=dict)
    """What the member has asked and waits for, by the number that it gave."""
    answered: bool = False
    """The response is there, so that there is nothing to be cancelled any more."""
    rounds: int = 0
    """How often the call was sent again with answers of the client."""
    read_again: bool = False
    """The member's catalogue was read again for this call."""

    @property
    def prepared(self) -> Prepared:
        """The member's: set by whoever entered it."""
        assert self.call.prepared is not None  # noqa: S101
        return self.call.prepared

    async def send(self) -> None:
        """Send the request; returns when the head of its answer is there. Raises Failed, Refused, UpstreamError."""
        self.id = self.runtime.engine.next_id()
        response = await self._exchange()
        if response.status == 401 and self.prepared.credential.renew is not None:
            self._drop(response)
            if await upstream_refusal.renew(self.call, self.runtime):
                response = await self._exchange()
        if response.status == 404 and self.session is not None and self.session.upstream_id:
            self._drop(response)
            await forget_session(self.call, self.runtime, self.client, self.member, self.session)
            response = await self._exchange()
        self.response = response
        self.call.upstream_status = response.status
        if response.status in (401, 403, 407):
            raise Failed(await self._refused(response), told=True)
        if response.status >= 500 or 300 <= response.status < 400:
            what = f"answered with an error of its own (HTTP {response.status})"
            raise Failed(errors.upstream_failed(self.prepared.server.name, what, "upstream_error"))

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """What the member says: requests and notifications as they come, the response to ours as the last one.

        Raises UpstreamError when there is no response, Failed when there is something else in its place.
        """
        only = await self.only_message()
        if only is not None:
            yield only
            return
        try:
            async for message in messages_of(self):
                yield message
                if _is_response(message):
                    return
        except EventTooLarge:
            raise self._too_large() from None
        raise UpstreamError(UpstreamPhase.BODY, "the stream ended without a response", sent=True)

    async def only_message(self) -> dict[str, Any] | None:
        """The response to ours, where that is all that the member says; None: there is a stream of `messages`.

        Cheaper by far where it is, as with most calls. Raises as `messages` does.
        """
        response = self.response
        assert response is not None  # noqa: S101
        content_type = (response.headers.get(b"content-type") or b"").lower()
        if content_type.startswith(b"text/event-stream"):
            return None
        body = await self._body(response)
        answer = _parsed(body) if content_type.startswith(b"application/json") else None
        era_probing.doubt(self.call, self.runtime, response.status, answer, modern=self.modern)
        if answer is None or not _is_response(answer):
            if response.status < 300:
                self.runtime.plan_for(self.prepared).gate.not_mcp("neither JSON nor an event stream")
            what = f"did not answer as an MCP server (HTTP {response.status})"
            raise Failed(errors.upstream_failed(self.prepared.server.name, what, "upstream_not_mcp"))
        return answer

    async def tell(self, message: Mapping[str, Any]) -> None:
        """Send something that has no answer: a notification, or a response to the member's own request."""
        headers = {} if self.session is None else session_headers(self.session)
        plan = self.runtime.plan_for(self.prepared)
        connection = plan.pool.take_idle() or await plan.pool.connect()
        response = connection.send(request_bytes(plan, self.head, headers, encoded(message)))
        try:
            await response.head()
        finally:
            if not response.complete:
                response.close()

    def close(self) -> None:
        """Give up what has not come yet, which a modern member takes for a cancellation."""
        if self.response is not None and not self.response.complete:
            self.response.close()

    async def _exchange(self) -> Response:
        plan = self.runtime.plan_for(self.prepared)
        if self.modern:
            params = modern_params(self.params, self.client, self.capabilities)
            headers = modern_headers(self.method, params)
            if self.paths:
                headers |= parameter_headers(self.paths, params.get("arguments"))
        else:
            params = legacy_params(self.params)
            headers = session_headers(await self._open())
        message = {"jsonrpc": "2.0", "id": self.id, "method": self.method, "params": params}
        data = request_bytes(plan, self.head, headers, encoded(message))
        return await exchange(self.call, plan, data, repeatable=self.method in _READING)

    async def _open(self) -> Session:
        try:
            self.session = await open_session(
                self.call, self.runtime, self.head, self.client, self.member, dict(self.capabilities)
            )
        except NotOpened as failure:
            response = failure.response
            if response.status == 401 and self.prepared.credential.renew is not None:
                self._drop(response)
                if await upstream_refusal.renew(self.call, self.runtime):
                    return await self._open_once_more()
            raise Failed(await self._not_opened(response), told=response.status in (401, 403, 407)) from None
        return self.session

    async def _open_once_more(self) -> Session:
        try:
            self.session = await open_session(
                self.call, self.runtime, self.head, self.client, self.member, dict(self.capabilities)
            )
        except NotOpened as failure:
            raise Failed(await self._not_opened(failure.response), told=True) from None
        return self.session

    async def _not_opened(self, response: Response) -> errors.Failure:
        self.call.upstream_status = response.status
        if response.status in (401, 403, 407):
            return await self._refused(response)
        if response.status in REFUSALS:
            # It may speak another era by now.
            era_probing.probe_beside(self.call, self.runtime, self.prepared)
        self._drop(response)
        what = f"did not open a session (HTTP {response.status})"
        return errors.upstream_failed(self.prepared.server.name, what, "upstream_session")

    async def _refused(self, response: Response) -> errors.Failure:
        outcome, text = await upstream_refusal.explained(self.call, response)
        self._drop(response)
        log.warning("member refused the request", extra={"server": self.prepared.server.slug, "outcome": outcome})
        return errors.Failure(502, errors.UPSTREAM_FAILED, text, outcome)

    async def _body(self, response: Response) -> bytes:
        pieces: list[bytes] = []
        while piece := await response.chunk():
            pieces.append(piece)
            if response.received > settings.MAX_RESPONSE_BYTES:
                raise self._too_large()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _too_large(self) -> Failed:
        self.close()
        what = f"sent an answer larger than {settings.MAX_RESPONSE_BYTES} bytes"
        return Failed(errors.upstream_failed(self.prepared.server.name, what, "upstream_too_large"))

    @staticmethod
    def _drop(response: Response) -> None:
        if not response.complete:
            response.close()


def _parsed(data: bytes) -> dict[str, Any] | None:
    try:
        found = from_json(data)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _is_response(message: Mapping[str, Any]) -> bool:
    return "method" not in message and ("result" in message or "error" in message)
