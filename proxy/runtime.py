"""What one event loop keeps between calls: connection pools, ready-made request heads, calls in flight."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from time import time
from typing import Any, Final
from uuid import UUID
from weakref import WeakKeyDictionary

from django.conf import settings
from django.core.exceptions import ValidationError

from authflows.outbound.credential_results import Credential
from proxy import item_decisions, threads
from proxy.admissions import Admissions
from proxy.engine.refresh import Refreshing
from proxy.engine.state import EngineState
from proxy.eras import Known, known_for
from proxy.gates import Gate, gate_for
from proxy.in_flight import ActiveCall, EndedBy, InFlight
from proxy.member_sessions import MemberSessions
from proxy.obtaining import Obtaining
from proxy.pipeline import NotConnected, Outcome, Prepared, TokenDue, prepare_again
from proxy.pool import Pool
from proxy.record import recorder
from proxy.sessions import Sessions
from servers import changes, egress
from servers.catalogue.facts import catalogue_of
from servers.errors import DestinationRefused, SecretUnavailable
from servers.header_names import check_header_name, check_public_header_name
from servers.models import Server
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
    known: Known
    """Which protocol eras the server speaks."""
    gate: Gate


@dataclass(slots=True)
class Runtime:
    """State of one event loop. Nothing here is shared between processes or needs to survive one."""

    loop: asyncio.AbstractEventLoop
    sessions: Sessions = field(default_factory=Sessions)
    admissions: Admissions = field(default_factory=Admissions)
    obtaining: Obtaining = field(default_factory=Obtaining)
    catalogues: Refreshing = field(default_factory=Refreshing)
    member_sessions: MemberSessions = field(default_factory=MemberSessions)
    member_locks: dict[str, asyncio.Lock] = field(default_factory=dict)
    engine: EngineState = field(default_factory=EngineState)
    probing: dict[Hashable, asyncio.Task[Server.Eras]] = field(default_factory=dict)
    """Servers that are being asked which protocol eras they speak."""
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
        return replace(plan, destination=destination, heads=heads, reserved=reserved)

    def pool_for(self, destination: egress.Destination, ca_certificate: str = "") -> Pool:
        """The connections to a destination's host and port, made only to checked addresses."""
        key = (destination.scheme, destination.host, destination.port, ca_certificate)
        pool = self._pools.get(key)
        if pool is None:
            idle = float(settings.UPSTREAM_IDLE_SECONDS)
            pool = self._pools[key] = Pool(destination, ca_certificate, idle)
        return pool

    def spawn(self, coroutine: Any) -> None:
        """Run something beside the calls, to its end."""
        self.in_flight.spawn(coroutine)

    def close(self) -> None:
        """End every call and close every connection."""
        self.in_flight.close()
        self.catalogues.close()
        for pool in self._pools.values():
            pool.close()

    def _make_plan(self, server: ServerFacts, credential: Credential) -> Plan:
        destination = egress.parse_destination(server.url)
        pool = self.pool_for(destination, server.ca_certificate)
        heads, reserved = _request_heads(server, credential, destination)
        # The forms check these names; whatever else wrote the row, the caller's key never travels on (promise 1).
        allowed = frozenset(
            n for n in server.allowed_request_headers if _is_legal(check_public_header_name, n.decode())
        )
        known, gate = known_for(server, credential), gate_for(server, credential)
        return Plan(server, credential, destination, pool, heads, reserved, allowed, known, gate)

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
            goes_on = await _goes_on(call, before, after)
        except threads.NoAnswer:
            call.stop(EndedBy.REVOKED)
            return
        except Exception:
            call.stop(EndedBy.REVOKED)
            raise
        if not goes_on or not isinstance(after, Prepared | TokenDue | NotConnected):
            call.stop(EndedBy.REVOKED)
            return
        if call.waiting is not None:
            call.waiting.set()
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


async def _goes_on(call: ActiveCall, before: Prepared, after: Outcome) -> bool:
    """Whether an open call may go on: the way is still free, leads to the same place, and the item is still theirs."""
    if call.waiting is not None or call.outcome == "not_connected":
        # What is answered in the server's place needs the right to use it and nothing more.
        return isinstance(after, Prepared | TokenDue | NotConnected)
    if not isinstance(after, Prepared | TokenDue) or _leads_elsewhere(before, after):
        return False
    return not await _lost_its_item(call, after)


async def _lost_its_item(call: ActiveCall, after: Prepared | TokenDue) -> bool:
    """Whether an open stream is for a tool, prompt or resource that was taken from its caller (T46).

    A call without one is bounded and was decided as it came; one that a virtual server passed on has another name
    there.
    """
    server, allowed = after.server, after.allowed
    if not call.streaming or server.virtual or (call.prepared is not None and call.prepared.again is not None):
        return False
    if not server.restricted and allowed.rights.unlimited:
        return False
    try:
        catalogue = catalogue_of(server.id, may_load=False)
    except changes.NotCached:
        catalogue = await threads.run_or_give_up(catalogue_of, server.id)
    return item_decisions.lost(allowed, catalogue, call.message)


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
