"""What one event loop keeps between calls: connection pools, ready-made request heads, calls in flight."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from time import time
from typing import Any, Final
from uuid import UUID
from weakref import WeakKeyDictionary

from django.conf import settings
from django.core.exceptions import ValidationError

from authflows.outbound.credential_results import Credential
from proxy import threads
from proxy.admissions import Admissions
from proxy.in_flight import ActiveCall, EndedBy, InFlight
from proxy.member_sessions import MemberSessions
from proxy.obtaining import Obtaining
from proxy.pipeline import NotConnected, Prepared, TokenDue, prepare_again
from proxy.pool import Pool
from proxy.record import recorder
from proxy.sessions import Sessions
from servers import changes, egress
from servers.errors import DestinationRefused, SecretUnavailable
from servers.header_names import check_header_name, check_public_header_name
from servers.registry import ServerFacts

AGENT: Final = f"gatehouse/{settings.VERSION}".encode()
STATE_KEY: Final = "gatehouse.runtime"
_HTTP_METHODS: Final = ("POST", "GET", "DELETE")


@dataclass(slots=True)
class Plan:
    """How requests to one server begin: made once, until server or credential change."""

    server: ServerFacts
    credential: Credential
    destination: egress.Destination
    pool: Pool
    heads: dict[str, bytes]
    reserved: frozenset[bytes]
    """Header names that the gateway sets for this server, so the client's are dropped."""
    allowed: frozenset[bytes]
    """Names of further client headers that the server's manager let through."""


@dataclass(slots=True)
class Runtime:
    """State of one event loop. Nothing here is shared between processes or needs to survive one."""

    loop: asyncio.AbstractEventLoop
    sessions: Sessions = field(default_factory=Sessions)
    admissions: Admissions = field(default_factory=Admissions)
    obtaining: Obtaining = field(default_factory=Obtaining)
    member_sessions: MemberSessions = field(default_factory=MemberSessions)
    member_locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    _pools: dict[tuple[str, str, int, str], Pool] = field(default_factory=dict)
    _plans: dict[UUID, Plan] = field(default_factory=dict)
    _rechecking: dict[ActiveCall, bool] = field(default_factory=dict)
    """Open calls that are being decided anew, and whether something changed since that began."""
    in_flight: InFlight = field(init=False)
    _numbers: Any = field(default_factory=lambda: itertools.count(1))
    _prefix: str = field(default_factory=lambda: secrets.token_urlsafe(6))

    def __post_init__(self) -> None:
        self.in_flight = InFlight(self._recheck, self._sweep)

    def next_request_id(self) -> str:
        """An id that is unique across processes and cheap to make."""
        return f"{self._prefix}-{next(self._numbers):x}"

    def plan_for(self, prepared: Prepared) -> Plan:
        """The plan for this call; raises DestinationRefused or SecretUnavailable when none can be made."""
        plan: Plan | None = prepared.plan
        if plan is None:
            server, credential = prepared.server, prepared.credential
            plan = self._plans.get(server.id)
            if plan is None or plan.server is not server or plan.credential is not credential:
                plan = self._plans[server.id] = self._make_plan(server, credential)
            prepared.plan = plan
        return plan

    def redirected(self, plan: Plan, target: str) -> Plan:
        """The same plan for another path of the same origin."""
        destination = egress.Destination(plan.destination.scheme, plan.destination.host, plan.destination.port, target)
        heads, reserved = _request_heads(plan.server, plan.credential, destination)
        return Plan(plan.server, plan.credential, destination, plan.pool, heads, reserved, plan.allowed)

    def close(self) -> None:
        """End every call and close every connection."""
        self.in_flight.close()
        for pool in self._pools.values():
            pool.close()

    def _make_plan(self, server: ServerFacts, credential: Credential) -> Plan:
        destination = egress.parse_destination(server.url)
        key = (destination.scheme, destination.host, destination.port, server.ca_certificate)
        pool = self._pools.get(key)
        if pool is None:
            idle = float(settings.UPSTREAM_IDLE_SECONDS)
            pool = self._pools[key] = Pool(destination, server.ca_certificate, idle)
        heads, reserved = _request_heads(server, credential, destination)
        # The forms check these names; whatever else wrote the row, the caller's key never travels on (promise 1).
        allowed = frozenset(
            n for n in server.allowed_request_headers if _is_legal(check_public_header_name, n.decode())
        )
        return Plan(server, credential, destination, pool, heads, reserved, allowed)

    def _sweep(self, now: float) -> None:
        for pool in self._pools.values():
            pool.sweep(now)

    async def _recheck(self, call: ActiveCall) -> None:
        """Something changed: end the call if its caller may not go on (T9, T10).

        What changes while the answer is awaited is asked about once more afterwards: a database that gives no
        answer would otherwise be waited for more and more often.
        """
        if call in self._rechecking:
            self._rechecking[call] = True
            return
        self._rechecking[call] = True
        try:
            while self._rechecking[call] and call.ended_by is None:
                self._rechecking[call] = False
                await self._decide_anew(call)
        finally:
            del self._rechecking[call]

    async def _decide_anew(self, call: ActiveCall) -> None:
        before = call.prepared
        if before is None:
            return
        try:
            try:
                after = prepare_again(before, call.knock, now=time(), may_load=False)
            except changes.NotCached:
                after = await threads.run_or_give_up(_prepare_loading, before, call)
        except threads.NoAnswer:
            call.stop(EndedBy.REVOKED)
            return
        except Exception:
            call.stop(EndedBy.REVOKED)
            raise
        if call.waiting is not None and isinstance(after, Prepared | TokenDue | NotConnected):
            call.waiting.set()
        elif not isinstance(after, Prepared | TokenDue) or _leads_elsewhere(before, after):
            call.stop(EndedBy.REVOKED)
            return
        if call.streaming:
            call.rights_end(after)


def _is_legal(check: Callable[[str], str], name: str) -> bool:
    try:
        check(name)
    except ValidationError:
        return False
    return True


def _leads_elsewhere(before: Prepared, after: Prepared | TokenDue) -> bool:
    """Whether an open call belongs to an identity or an address that is no longer the server's (SE-4)."""
    was, is_now = before.server, after.server
    epoch = after.credential.epoch if isinstance(after, Prepared) else after.due.epoch
    return (was.id, was.session_epoch, before.credential.epoch) != (
        is_now.id,
        is_now.session_epoch,
        epoch,
    )


def _prepare_loading(before: Prepared, call: ActiveCall) -> Any:
    return prepare_again(before, call.knock, now=time(), may_load=True)


def _request_heads(
    server: ServerFacts, credential: Credential, destination: egress.Destination
) -> tuple[dict[str, bytes], frozenset[bytes]]:
    headers = {name.lower(): value for name, value in server.static_headers if _is_legal(check_header_name, name)}
    headers |= {name.lower(): value for name, value in credential.headers}
    if any(ord(c) < 32 or ord(c) == 127 for name, value in headers.items() for c in name + value):
        raise SecretUnavailable("A header of this server holds control characters. Set it again.")
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()
    heads = {
        method: f"{method} {destination.target} HTTP/1.1\r\nhost: {destination.authority}\r\n"
        "accept-encoding: identity\r\n".encode()
        + lines
        for method in _HTTP_METHODS
    }
    return heads, frozenset(name.encode() for name in headers)


_runtimes: WeakKeyDictionary[asyncio.AbstractEventLoop, Runtime] = WeakKeyDictionary()


def current_runtime() -> Runtime:
    """The runtime of the running event loop, made when it is first asked for."""
    loop = asyncio.get_running_loop()
    runtime = _runtimes.get(loop)
    if runtime is None:
        runtime = _runtimes[loop] = Runtime(loop)
    return runtime


def runtime_of(scope: Any) -> Runtime:
    """The runtime for a request: from its lifespan state where the server has one, since looking costs time."""
    state = scope.get("state")
    found: Runtime | None = state.get(STATE_KEY) if state else None
    return found or current_runtime()


async def start() -> None:
    """Start what the path relies on: the change feed and the writer of call records. Safe to call again."""
    await threads.run(changes.feed.start)
    recorder.start()


async def stop() -> None:
    """End calls, write the records, stop the feed."""
    current_runtime().close()
    await asyncio.sleep(0)
    await threads.run(recorder.stop)
    await threads.run(changes.feed.stop)


__all__ = ["AGENT", "DestinationRefused", "Plan", "Runtime", "current_runtime", "start", "stop"]
