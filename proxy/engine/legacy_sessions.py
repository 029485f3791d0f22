"""Sessions of the engine at older members: opened with the first call, kept in rows, found by any replica (F-704)."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any, Final

from proxy import member_sessions, threads
from proxy.engine import session_notes
from proxy.engine.clients import Client
from proxy.engine.requests import Head, request_bytes
from proxy.engine.wire import LEGACY_VERSIONS, encoded
from proxy.era_evidence import answer_in
from proxy.exchanges import exchange
from proxy.in_flight import ActiveCall
from proxy.member_sessions import Member
from proxy.pipeline import Prepared
from proxy.runtime import AGENT, Runtime
from proxy.upstream import Phase as UpstreamPhase
from proxy.upstream import Response, UpstreamError
from servers.virtual.facts import MemberFacts

_MOST_ANSWER_BYTES: Final = 1024 * 1024


class NotOpened(Exception):
    """The member does not open a session; the response says why."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


def session_name(client: Client, prepared: Prepared, member: MemberFacts) -> str:
    """Under which name the session of this client at this member is kept.

    An older client has one for each of its own sessions. A modern one, and an older one without a session, share
    one per caller, credential and what the client can do; it is never another person's (T47).
    """
    if client.session:
        return f"{client.session}:{member.id}"
    name: str | None = prepared.kept.get("session")
    if name is None:
        name = prepared.kept["session"] = _shared_name(prepared, member)
    return name


def _shared_name(prepared: Prepared, member: MemberFacts) -> str:
    bound = (
        prepared.principal.user_id,
        prepared.principal.credential,
        str(member.id),
        str(prepared.server.id),
        prepared.server.session_epoch,
        prepared.credential.epoch,
    )
    return f"shared:{hashlib.sha256(repr(bound).encode()).hexdigest()}"


async def open_session(
    call: ActiveCall, runtime: Runtime, head: Head, client: Client, member: MemberFacts, capabilities: dict[str, Any]
) -> Member:
    """The session for this call, an open one or a new one. Raises NotOpened and UpstreamError."""
    prepared = _prepared(call)
    name = session_name(client, prepared, member)
    found = runtime.member_sessions.find(name)
    if found is not None and found.epoch == prepared.credential.epoch:
        return found
    lock = runtime.member_locks.setdefault(name, asyncio.Lock())
    try:
        async with lock:
            kept = runtime.member_sessions.find(name)
            loaded: Any = kept or await threads.run_or_give_up(member_sessions.load, name)
            if isinstance(loaded, Member) and loaded.epoch == prepared.credential.epoch:
                return runtime.member_sessions.keep(name, loaded)
            opened = await _initialize(call, runtime, head, client, member, capabilities)
            kept = await threads.run_or_give_up(
                member_sessions.adopt, name, prepared.principal.user_id, prepared.server.id, opened
            )
            return runtime.member_sessions.keep(name, kept)
    finally:
        if not lock.locked():
            runtime.member_locks.pop(name, None)


async def forget_session(call: ActiveCall, runtime: Runtime, client: Client, member: MemberFacts, lost: Member) -> None:
    """The member does not know the session any more. One that another process has opened since is kept."""
    name = session_name(client, _prepared(call), member)
    runtime.member_sessions.forget(name)
    await threads.run_or_give_up(member_sessions.lose, name, lost)


async def _initialize(
    call: ActiveCall, runtime: Runtime, head: Head, client: Client, member: MemberFacts, capabilities: dict[str, Any]
) -> Member:
    prepared = _prepared(call)
    plan = runtime.plan_for(prepared)
    info = dict(client.info) or {"name": "gatehouse", "version": AGENT.decode().partition("/")[2]}
    info.setdefault("version", "")
    asked = client.version if not client.modern else LEGACY_VERSIONS[0]
    params = {"protocolVersion": asked, "capabilities": capabilities, "clientInfo": info}
    message = {"jsonrpc": "2.0", "id": runtime.engine.next_id(), "method": "initialize", "params": params}
    response = await exchange(call, plan, request_bytes(plan, head, {}, encoded(message)), repeatable=False)
    if response.status != 200:
        raise NotOpened(response)
    result = _result_of(await _whole(response), response)
    upstream_id = response.headers.get(b"mcp-session-id", b"")
    version = result.get("protocolVersion")
    opened = Member(
        upstream_id,
        version if isinstance(version, str) and version in LEGACY_VERSIONS else LEGACY_VERSIONS[0],
        prepared.credential.epoch,
    )
    told = encoded({"jsonrpc": "2.0", "method": "notifications/initialized"})
    data = request_bytes(plan, head, session_headers(opened), told)
    response = await exchange(call, plan, data, repeatable=False)
    if not response.complete:
        response.close()
    for message in await _reminders(client, member, result.get("capabilities")):
        text = encoded({"jsonrpc": "2.0", "id": runtime.engine.next_id(), **message})
        data = request_bytes(plan, head, session_headers(opened), text)
        response = await exchange(call, plan, data, repeatable=False)
        if not response.complete:
            await _whole(response)
    return opened


async def _reminders(client: Client, member: MemberFacts, offered: Any) -> list[dict[str, Any]]:
    """What an older client has said in its session that a new session at a member has to know."""
    notes, offered = await session_notes.notes_of(client.session), offered if isinstance(offered, dict) else {}
    found: list[dict[str, Any]] = []
    if notes.level and "logging" in offered:
        found.append({"method": "logging/setLevel", "params": {"level": notes.level}})
    resources = offered.get("resources")
    if isinstance(resources, dict) and resources.get("subscribe"):
        watched = notes.watched_at(member.id)
        found += [{"method": "resources/subscribe", "params": {"uri": uri}} for uri in watched]
    return found


def session_headers(session: Member) -> dict[bytes, bytes]:
    """What a request within the session carries."""
    headers = {b"mcp-protocol-version": session.version.encode("latin-1")}
    if session.upstream_id:
        headers[b"mcp-session-id"] = session.upstream_id
    return headers


async def _whole(response: Response) -> bytes:
    """The body of a short answer. An event stream is read up to its first event with a response."""
    pieces: list[bytes] = []
    is_stream = (response.headers.get(b"content-type") or b"").lower().startswith(b"text/event-stream")
    size = 0
    while piece := await response.chunk():
        pieces.append(piece)
        size += len(piece)
        if size > _MOST_ANSWER_BYTES:
            response.close()
            raise UpstreamError(UpstreamPhase.BODY, "an answer to initialize larger than a mebibyte", sent=True)
        if is_stream and piece.endswith((b"\n\n", b"\r\n\r\n")) and b'"result"' in b"".join(pieces):
            break
    if not response.complete:
        response.close()
    return b"".join(pieces)


def _result_of(body: bytes, response: Response) -> dict[str, Any]:
    answer = answer_in((response.headers.get(b"content-type") or b"").decode("latin-1"), body)
    found = answer.get("result") if answer is not None else None
    if not isinstance(found, dict):
        raise UpstreamError(UpstreamPhase.RESPONSE, "no result to initialize", sent=True)
    return found


def _prepared(call: ActiveCall) -> Prepared:
    assert call.prepared is not None  # noqa: S101
    return call.prepared
