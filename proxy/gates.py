"""What stands between a call and its server: the breaker, and what calls show of the server's health.

One for each server, address, set of authorities and kind of credential, in this process. As long as all is well a
call costs two looks at it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime
from time import monotonic, time
from typing import Any, Final
from uuid import UUID

from django.conf import settings

from authflows.outbound.credential_results import Credential, Kind
from proxy import threads
from proxy.breaker import (
    BUSY,
    SERVER_ERROR,
    TIMEOUT_CONNECT,
    TIMEOUT_RESPONSE,
    Breaker,
    BreakerOpen,
    Limits,
)
from proxy.conditions import Condition
from proxy.in_flight import ActiveCall, EndedBy
from proxy.in_flight import Phase as CallPhase
from proxy.upstream import Phase, Response, UpstreamError
from servers import changes, health
from servers.models import Server
from servers.registry import ServerFacts

log = logging.getLogger(__name__)

Health = Server.Health
_MOST_KNOWN: Final = 10_000
_WRITE_SECONDS: Final = 5.0
_GATEWAYS_OWN: Final = (Kind.SHARED, Kind.CLIENT_CREDENTIALS)
"""Credentials whose refusal is the server's manager's business; a person's own is theirs."""
_KINDS: Final = {
    Phase.ADDRESS: Health.UNREACHABLE,
    Phase.CONNECT: Health.UNREACHABLE,
    Phase.TLS: Health.TLS,
    Phase.RESPONSE: Health.PROTOCOL,
    Phase.BODY: Health.PROTOCOL,
}
_WORDS: Final = {
    Phase.ADDRESS: "its address may not be called or has no name",
    Phase.CONNECT: "no connection",
    Phase.TLS: "its TLS certificate is not trusted, or TLS fails",
    Phase.RESPONSE: "it breaks off before it answers",
    Phase.BODY: "it breaks off in the middle of answers",
}


def limits() -> Limits:
    """As the operator set them."""
    return Limits(
        settings.BREAKER_FAILURES,
        settings.BREAKER_WINDOW_SECONDS,
        settings.BREAKER_OPEN_SECONDS,
        max(settings.BREAKER_LONGEST_SECONDS, settings.BREAKER_OPEN_SECONDS),
    )


class Gate:
    """The breaker of one server and kind of credential, and the condition that all kinds share."""

    __slots__ = ("_health", "_resting", "_server", "breaker", "shut", "slow_after")

    def __init__(self, server: ServerFacts, keeper: _HealthKeeper) -> None:
        self.breaker = Breaker(limits())
        self.slow_after: float = settings.SLOW_SECONDS
        self._health = keeper
        self._resting: dict[UUID, tuple[float, float]] = {}
        """Personal credentials that the server asked to pause with: since when, until when."""
        self.shut = False
        """A call has to ask before it goes through."""
        self._server = server

    @property
    def watching(self) -> bool:
        """Something was wrong a moment ago, so that a good answer is news."""
        return not self._health.steady or self.breaker.failures > 0 or self.shut

    def admit(self, credential: Credential) -> None:
        """Let a call through, or raise BreakerOpen."""
        now = monotonic()
        resting = self._resting.get(credential.id) if credential.id is not None else None
        if resting is not None and now < resting[1]:
            raise BreakerOpen(BUSY, lasting=now - resting[0], next_try=max(resting[1] - now, 1.0))
        self._resting = {key: value for key, value in self._resting.items() if now < value[1]}
        self.breaker.admit(now)
        self._settle()

    def connected(self) -> None:
        """A connection was made."""
        self.breaker.connected(monotonic())
        self._settle()

    def answered(self, call: ActiveCall, credential: Credential, response: Response, took: float) -> None:
        """The head of an answer came, after `took` seconds."""
        status, now = response.status, monotonic()
        waits = _retry_after(response) if status in (429, 503) else None
        if waits is not None:
            if status == 429 and credential.kind not in _GATEWAYS_OWN:
                if credential.id is not None and waits > 0:
                    self._resting[credential.id] = (now, now + min(waits, settings.BREAKER_LONGEST_SECONDS))
                self.breaker.nothing_learned()
            else:
                self.breaker.rest(waits, now)
        elif status >= 500:
            self.breaker.failed(SERVER_ERROR, now)
            self._health.failed(Health.FAILING, f"HTTP {status}")
        else:
            self.breaker.succeeded(now)
            if status in (401, 407):
                if credential.kind in _GATEWAYS_OWN:
                    self._health.failed(Health.AUTH, f"HTTP {status}")
            elif _is_mcp(response):
                self._health.succeeded(slow=took > self.slow_after and not _may_wait(call))
        self._settle()

    def failed(self, error: UpstreamError, *, fresh: bool) -> None:
        """An exchange failed. On a connection that was kept (not `fresh`) that says little: it may have been stale."""
        if not fresh:
            self.breaker.nothing_learned()
            return
        self.breaker.failed(error.phase, monotonic())
        self._health.failed(_KINDS[error.phase], _WORDS[error.phase])
        self._settle()

    def ended(self, call: ActiveCall) -> None:
        """The call was ended before there was an answer: its time was up, or nobody wants the answer any more."""
        if call.ended_by is not EndedBy.TIMEOUT or _may_wait(call):
            self.breaker.nothing_learned()
            return
        server = self._server
        if call.phase is CallPhase.CONNECT:
            self.breaker.failed(TIMEOUT_CONNECT, monotonic())
            self._health.failed(Health.UNREACHABLE, f"no connection within {server.connect_timeout} seconds")
        else:
            self.breaker.failed(TIMEOUT_RESPONSE, monotonic())
            self._health.too_slow(f"no answer within {server.response_timeout} seconds")
        self._settle()

    def not_mcp(self, words: str) -> None:
        """The server answered, but not as an MCP server."""
        self._health.failed(Health.PROTOCOL, words)

    def _settle(self) -> None:
        self.shut = not self.breaker.closed or bool(self._resting)


def _may_wait(call: ActiveCall) -> bool:
    """Whether a server may keep the head of its answer back until there is something to say."""
    return call.http_method == "GET" or call.message.method == "subscriptions/listen"


def _is_mcp(response: Response) -> bool:
    headers = response.headers
    if (headers.get(b"content-encoding") or b"identity").lower() != b"identity":
        return False
    kind = (headers.get(b"content-type") or b"").lower()
    return kind.startswith((b"application/json", b"text/event-stream")) or response.status in (202, 204)


def _retry_after(response: Response) -> float | None:
    """Seconds, or None when it says nothing that can be understood (RFC 9110 10.2.3)."""
    text = (response.headers.get(b"retry-after") or b"").decode("latin-1").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(when.replace(tzinfo=when.tzinfo or UTC).timestamp() - time(), 0.0)


class _HealthKeeper:
    """The condition of one server, and its way into the row: on a change of state only, and not while a call waits."""

    __slots__ = ("_condition", "_kept", "_server", "_url", "_written_at", "steady")

    def __init__(self, server: ServerFacts) -> None:
        self._condition = Condition()
        self._server, self._url = server.id, server.url
        self._kept: Server.Health | None = None
        self._written_at = float("-inf")
        self.steady = False
        """All is well and the row says so: a quick good answer changes nothing."""

    def succeeded(self, *, slow: bool) -> None:
        self._condition.succeeded(slow=slow)
        self._keep()

    def failed(self, kind: Server.Health, words: str) -> None:
        self._condition.failed(kind, words)
        self._keep()

    def too_slow(self, words: str) -> None:
        self._condition.too_slow(words)
        self._keep()

    def asked_anew(self) -> None:
        self._condition.asked_anew()
        self._kept = None
        self.steady = False

    def _keep(self) -> None:
        state, now = self._condition.state, monotonic()
        if state is not None and state is not self._kept and now - self._written_at >= _WRITE_SECONDS:
            self._kept, self._written_at = state, now
            _in_background(health.keep_from_calls, self._server, self._url, state, self._condition.words)
        self.steady = self._condition.steady and self._kept is Health.OK


_writing: set[asyncio.Future[Any]] = set()


def _in_background(function: Callable[..., Any], *arguments: Any) -> None:
    task = asyncio.ensure_future(threads.run(_logging, function, *arguments))
    _writing.add(task)
    task.add_done_callback(_writing.discard)


def _logging(function: Callable[..., Any], *arguments: Any) -> None:
    try:
        function(*arguments)
    except Exception:  # whatever the database says: calls go on, and the next change of state is written again
        log.exception("the health of a server cannot be kept")


_gates: dict[tuple[Any, ...], Gate] = {}
_keepers: dict[tuple[UUID, str], _HealthKeeper] = {}


def gate_for(server: ServerFacts, credential: Credential) -> Gate:
    """The gate before a server for this kind of credential. Asked for when the server's facts are new."""
    keeper = _keepers.get((server.id, server.url))
    if keeper is None:
        if len(_keepers) >= _MOST_KNOWN:
            _keepers.clear()
            _gates.clear()
        keeper = _keepers[server.id, server.url] = _HealthKeeper(server)
    key = (server.id, server.url, server.ca_certificate, credential.kind)
    gate = _gates.get(key)
    if gate is None:
        gate = _gates[key] = Gate(server, keeper)
    return gate


def _on_change(kind: str, key: str) -> None:
    if kind == "private_destinations":
        # What could not be called may be called now.
        for gate in tuple(_gates.values()):
            gate.breaker.forgive((Phase.ADDRESS,))
    elif kind == "server":
        # Its health may have been tested, or forgotten.
        for (server_id, _), keeper in tuple(_keepers.items()):
            if str(server_id) == key:
                keeper.asked_anew()


changes.listen(_on_change)
