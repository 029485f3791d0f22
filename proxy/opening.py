"""The opening of a server whose person is not connected yet: normal answers instead of a closed door (spec 3.4a).

A client that gets no answer to `initialize`, `server/discover` or a list gives the whole server up. So the gateway
answers these as a server with one tool, whose call says what the person has to do. Once they have done it, requests
without a session simply go to the server; a session that began here gets one of the server's own with its next
request, and any replica can continue it.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from django.conf import settings
from jiter import from_json

from authflows.outbound.credential_results import NotObtained
from proxy import errors, forward, member_sessions, threads, upstream_refusal
from proxy.era_evidence import answer_in
from proxy.in_flight import ActiveCall
from proxy.member_sessions import Member, Unopened
from proxy.messages import FIRST_MODERN_VERSION, Message
from proxy.pipeline import NoToken
from proxy.request_head import RequestHead
from proxy.runtime import AGENT, Plan, Runtime
from proxy.sessions import Session
from proxy.upstream import Response, UpstreamError
from proxy.upstream_refusal import Refused
from servers.errors import DestinationRefused, GatewayError
from servers.models import Server
from servers.registry import ServerFacts
from servers.request_id import set_request_id

LEGACY_VERSIONS: Final = ("2025-11-25", "2025-06-18", "2025-03-26")
METHOD_NOT_FOUND: Final = -32601
UNSUPPORTED_VERSION: Final = -32022
_CAPABILITIES: Final = {"tools": {"listChanged": True}, "prompts": {}, "resources": {}}
CONNECT: Final = "connect_"
_MOST_PARAMETER_BYTES: Final = 64 * 1024
_MOST_ANSWER_BYTES: Final = 1024 * 1024
_SERVER_INFO: Final = "io.modelcontextprotocol/serverInfo"
LIST_CHANGED: Final = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}


def connect_tool(server: ServerFacts) -> str:
    """Name of the one tool that a server has before its person is connected."""
    return f"{CONNECT}{server.slug.replace('-', '_')}"[:64]


def known_versions(server: ServerFacts) -> tuple[str, ...]:
    """Protocol versions that clients may use through the gateway; none when nobody could ask the server yet.

    Where client and server share no era the engine translates, so that an older client may open whatever it is.
    """
    newer = (FIRST_MODERN_VERSION,)
    if server.path is Server.Path.ENGINE:
        return newer + LEGACY_VERSIONS
    match server.eras:
        case Server.Eras.LEGACY:
            return server.versions or LEGACY_VERSIONS
        case Server.Eras.MODERN:
            return newer if server.path is Server.Path.TRANSPARENT else newer + LEGACY_VERSIONS
        case Server.Eras.DUAL:
            return newer + (server.versions or LEGACY_VERSIONS)
    return ()


class Refusal(Exception):
    """A JSON-RPC error instead of a result, with its HTTP status."""

    def __init__(self, status: int, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"code": code, "message": message, **({"data": data} if data is not None else {})}


def result_of(message: Message, body: bytes, server: ServerFacts, sentence: str, versions: tuple[str, ...]) -> Any:
    """The result of a request that opens, lists or keeps alive; raises Refusal for what only the server can do."""
    tool = {
        "name": connect_tool(server),
        "title": f"Connect {server.name}",
        "description": f"{sentence} Call this tool to learn what to do; the server's own tools come afterwards.",
        "inputSchema": {"type": "object", "properties": {}},
    }
    match message.method:
        case "initialize" if not message.modern:
            return _initialized(body, server, sentence, versions)
        case "server/discover" if message.modern:
            return _discovered(message, server, sentence, versions)
        case "tools/list":
            result: dict[str, Any] = {"tools": [tool]}
        case "prompts/list":
            result = {"prompts": []}
        case "resources/list":
            result = {"resources": []}
        case "resources/templates/list":
            result = {"resourceTemplates": []}
        case "completion/complete":
            result = {"completion": {"values": []}}
        case "ping" | "logging/setLevel" if not message.modern:
            return {}
        case _:
            what = f"{server.name} cannot do this yet. {sentence}"
            raise Refusal(404 if message.modern else 200, METHOD_NOT_FOUND, what)
    if not message.modern:
        return result
    if message.method != "completion/complete":
        result |= {"ttlMs": 0, "cacheScope": "private"}
    return {**result, "resultType": "complete", "_meta": {_SERVER_INFO: _info(server)}}


def _info(server: ServerFacts) -> dict[str, str]:
    return {"name": server.name, "version": settings.VERSION}


def _initialized(body: bytes, server: ServerFacts, sentence: str, versions: tuple[str, ...]) -> dict[str, Any]:
    asked = parameters_of(body).get("protocolVersion")
    if versions and not any(version < FIRST_MODERN_VERSION for version in versions):
        what = (
            f"{server.name} speaks MCP {', '.join(versions)} only, and this client opened with initialize. "
            "Update the client."
        )
        raise Refusal(400, UNSUPPORTED_VERSION, what, {"supported": list(versions), "requested": str(asked)[:40]})
    return {
        "protocolVersion": asked if asked in LEGACY_VERSIONS else LEGACY_VERSIONS[0],
        "capabilities": _CAPABILITIES,
        "serverInfo": _info(server),
        "instructions": sentence,
    }


def _discovered(message: Message, server: ServerFacts, sentence: str, versions: tuple[str, ...]) -> dict[str, Any]:
    if versions and FIRST_MODERN_VERSION not in versions:
        data = {"supported": list(versions), "requested": message.version}
        raise Refusal(400, UNSUPPORTED_VERSION, "Unsupported protocol version", data)
    return {
        "resultType": "complete",
        "supportedVersions": list(versions or (FIRST_MODERN_VERSION, *LEGACY_VERSIONS)),
        "capabilities": _CAPABILITIES,
        "instructions": sentence,
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": {_SERVER_INFO: _info(server)},
    }


def parameters_of(body: bytes) -> dict[str, Any]:
    """`params` of a body that was parsed before; empty where it has none."""
    parsed = from_json(body)
    found = parsed.get("params") if isinstance(parsed, dict) else None
    return found if isinstance(found, dict) else {}


def kept_parameters(body: bytes) -> dict[str, Any]:
    """What of `initialize` the server will be told once there is a way to it."""
    found = parameters_of(body)
    kept: dict[str, Any] = {
        name: found[name] for name in ("protocolVersion", "capabilities", "clientInfo") if name in found
    }
    if len(json.dumps(kept)) > _MOST_PARAMETER_BYTES:
        kept.pop("clientInfo", None)
        kept["capabilities"] = {}
    return kept


# A session that began here, once the person is connected


async def resumed(
    call: ActiveCall, runtime: Runtime, session: Session, head: RequestHead
) -> tuple[bytes | None, RequestHead] | None:
    """The server's own session id and the headers for it; None when this answered the call. Raises Refused."""
    assert call.prepared is not None  # noqa: S101
    name = call.prepared.server.name
    if call.http_method == "DELETE" and runtime.member_sessions.find(session.member) is None:
        found = await threads.run_or_give_up(member_sessions.load, session.member)
        if not isinstance(found, Member):
            await threads.run_or_give_up(member_sessions.end, session.member)
            await call.answer(204, [], b"")
            return None
    if call.message.method == "notifications/initialized":
        await call.answer(202, [], b"")
        return None
    set_request_id(call.request_id)
    failure = errors.SESSION_NOT_FOUND
    try:
        member = await _continued(call, runtime, session)
    except UpstreamError as error:
        await forward.fail_upstream(call, error)
        return None
    except (DestinationRefused, GatewayError):
        member, failure = None, errors.secret_unavailable(name)
    except NotOpened:
        member, failure = None, errors.upstream_failed(name, "did not open a session", "upstream_not_opened")
    if member is None:
        call.outcome = failure.outcome
        await call.answer(*errors.render(failure, call.message.id))
        return None
    version = member.version.encode("ascii", "replace")
    if version and head.headers.get(b"mcp-protocol-version", version) != version:
        # What was agreed with the client was agreed without the server.
        head = head.saying(b"mcp-protocol-version", version)
    return member.upstream_id or None, head


async def _continued(call: ActiveCall, runtime: Runtime, session: Session) -> Member | None:
    """The server's own session behind one that began here, opened now if need be; None: the session is over."""
    assert call.prepared is not None  # noqa: S101
    member = runtime.member_sessions.find(session.member)
    if member is None:
        found = await threads.run_or_give_up(member_sessions.load, session.member)
        if found is None:
            return None
        member = await _opened_once(call, runtime, session, found) if isinstance(found, Unopened) else found
        if member is None:
            return None
        runtime.member_sessions.keep(session.member, member)
    return member if member.epoch == call.prepared.credential.epoch else None


async def _opened_once(call: ActiveCall, runtime: Runtime, session: Session, begun: Unopened) -> Member | None:
    lock = runtime.member_locks.setdefault(session.member, asyncio.Lock())
    try:
        async with lock:
            if (known := runtime.member_sessions.find(session.member)) is not None:
                return known
            member = await _open(call, runtime, begun)
            if await threads.run_or_give_up(member_sessions.opened, session.member, member):
                return runtime.member_sessions.keep(session.member, member)
            # Another replica was faster, or the client ended the session meanwhile.
            found = await threads.run_or_give_up(member_sessions.load, session.member)
            return found if isinstance(found, Member) else None
    finally:
        if not lock.locked():
            runtime.member_locks.pop(session.member, None)


async def _open(call: ActiveCall, runtime: Runtime, begun: Unopened) -> Member:
    """`initialize` and `notifications/initialized` in the client's name. Raises Refused and UpstreamError."""
    body = {"jsonrpc": "2.0", "id": "gatehouse-initialize", "method": "initialize", "params": begun.parameters}
    response = await _post(call, runtime, json.dumps(body).encode(), b"")
    if response.status == 401 and await upstream_refusal.renew(call, runtime):
        response = await _post(call, runtime, json.dumps(body).encode(), b"")
    assert call.prepared is not None  # noqa: S101
    call.upstream_status = response.status
    if response.status in (401, 403, 407):
        _, text = await upstream_refusal.explained(call, response)
        raise Refused(NoToken(call.prepared.principal, call.prepared.server, NotObtained(False, "refused", text)))
    answer = await _answer(response)
    result = answer.get("result") if answer is not None else None
    if response.status != 200 or not isinstance(result, dict):
        raise NotOpened
    upstream_id = response.headers.get(b"mcp-session-id", b"")
    version = str(result.get("protocolVersion", ""))
    member = Member(upstream_id, version, call.prepared.credential.epoch)
    lines = b"mcp-session-id: %b\r\n" % upstream_id if upstream_id else b""
    lines += b"mcp-protocol-version: %b\r\n" % version.encode("ascii", "replace")
    done = await _post(call, runtime, b'{"jsonrpc":"2.0","method":"notifications/initialized"}', lines)
    if not done.complete:
        done.close()
    return member


class NotOpened(Exception):
    """The server did not open a session."""


async def _post(call: ActiveCall, runtime: Runtime, body: bytes, lines: bytes) -> Response:
    assert call.prepared is not None  # noqa: S101
    plan: Plan = runtime.plan_for(call.prepared)
    head = (
        b"accept: application/json, text/event-stream\r\ncontent-type: application/json\r\nuser-agent: %b\r\n" % AGENT
    )
    data = plan.heads["POST"] + head + lines + b"content-length: %d\r\n\r\n" % len(body) + body
    return await forward.exchange(call, plan, data, repeatable=True)


async def _answer(response: Response) -> dict[str, Any] | None:
    """The JSON-RPC answer in a response, be it JSON or the first answer of an event stream."""
    is_stream = (response.headers.get(b"content-type") or b"").lower().startswith(b"text/event-stream")
    data = b""
    try:
        while len(data) <= _MOST_ANSWER_BYTES:
            piece = await response.chunk()
            data += piece
            if is_stream and (found := _answer_in(data)) is not None:
                return found
            if not piece:
                return None if is_stream else answer_in("application/json", data)
        return None
    finally:
        if not response.complete:
            response.close()


def _answer_in(stream: bytes) -> dict[str, Any] | None:
    # The last event may not have come to its end yet.
    events = stream.replace(b"\r\n", b"\n")
    return answer_in("text/event-stream", events[: events.rfind(b"\n\n") + 2])
