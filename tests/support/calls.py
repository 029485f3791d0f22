"""A caller's side of the path: a server row in front of an upstream, a key, and requests with it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from django.utils import timezone

from authflows.inbound.api_keys import create_key
from servers import changes
from servers.models import Server
from tests.conftest import Cast, allow_private
from tests.support.gateway import LiveGateway
from tests.support.process_gateway import ProcessGateway
from tests.support.raw_http import Pairs, RawConnection, Response, encoded, request
from tests.support.upstream import Upstream

MODERN = "2026-07-28"
LEGACY = "2025-11-25"
VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities"


def point_at(server: Server, upstream: Upstream, *, path: str = "/mcp", **fields: Any) -> None:
    """Let a server row lead to the scripted upstream; `fields` are set on the row too."""
    server.url = upstream.origin + path
    for name, value in fields.items():
        setattr(server, name, value)
    server.save()
    allow_private(server.url)


def speaking(server: Server, eras: Server.Eras = Server.Eras.DUAL, versions: tuple[str, ...] = (LEGACY,)) -> None:
    """Let it be known which protocol eras the server speaks, as after a test of its connection."""
    older = [] if eras is Server.Eras.MODERN else list(versions)
    Server.objects.filter(pk=server.pk).update(eras=eras, eras_at=timezone.now(), versions=older)
    changes.forget_everything()


def message(method: str, params: dict[str, Any] | None = None, *, id: Any = 1) -> dict[str, Any]:
    """A legacy JSON-RPC request."""
    return {"jsonrpc": "2.0", "id": id, "method": method} | ({"params": params} if params is not None else {})


def tool_call(name: str = "echo", arguments: Any = None, *, id: Any = 1) -> dict[str, Any]:
    """A legacy tools/call."""
    return message("tools/call", {"name": name, "arguments": arguments or {}}, id=id)


def modern(method: str, params: dict[str, Any] | None = None, *, id: Any = 1) -> dict[str, Any]:
    """A 2026-07-28 request: with its version and capabilities in `_meta`."""
    meta = {VERSION_KEY: MODERN, CAPABILITIES_KEY: {}}
    return message(method, {**(params or {}), "_meta": meta}, id=id)


def modern_headers(body: dict[str, Any]) -> list[tuple[str, str]]:
    """The routing headers that a 2026-07-28 client sends with a body."""
    headers = [("MCP-Protocol-Version", MODERN), ("Mcp-Method", body["method"])]
    name_key = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}.get(body["method"])
    if name_key is not None:
        headers.append(("Mcp-Name", body["params"][name_key]))
    return headers


class Caller:
    """Somebody with a key, calling one server of a gateway."""

    def __init__(self, url: str, key: str) -> None:
        self.url = url
        self.key = key

    @property
    def headers(self) -> list[tuple[str, str]]:
        """What every request of an MCP client carries."""
        return [
            ("Authorization", f"Bearer {self.key}"),
            ("Accept", "application/json, text/event-stream"),
            ("Content-Type", "application/json"),
        ]

    def post(self, body: Any, headers: Pairs = ()) -> Response:
        """POST a message (or bytes) with further headers."""
        return request("POST", self.url, [*self.headers, *headers], self.encode(body))

    def post_on(self, connection: RawConnection, body: Any, headers: Pairs = ()) -> Response:
        """The same on a connection that stays open."""
        connection.send(encoded("POST", self.url, [*self.headers, *headers], self.encode(body)))
        return connection.read()

    def send(self, method: str, headers: Pairs = (), body: bytes | None = None) -> Response:
        """Any other request with the key."""
        return request(method, self.url, [*self.headers, *headers], body)

    def modern(self, method: str, params: dict[str, Any] | None = None, headers: Pairs = ()) -> Response:
        """A 2026-07-28 request with its routing headers."""
        body = modern(method, params)
        return self.post(body, [*modern_headers(body), *headers])

    def open_session(self, version: str = LEGACY) -> str:
        """`initialize`, and the session id that came back."""
        params = {"protocolVersion": version, "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        response = self.post(message("initialize", params))
        assert response.status == 200, response.body
        session = response.header("Mcp-Session-Id")
        assert session is not None
        return session

    @staticmethod
    def encode(body: Any) -> bytes:
        """A message as compact JSON; bytes stay as they are."""
        return body if isinstance(body, bytes) else json.dumps(body).encode()


def caller_for(
    gateway: LiveGateway,
    server: Server,
    owner: Any,
    *,
    endpoint: str = "server",
    limited_to: Iterable[Server] | None = None,
) -> Caller:
    """A caller with a new key of `owner`."""
    _, key = create_key(
        owner=owner, name="test", actor="test", servers=list(limited_to) if limited_to is not None else None
    )
    return Caller(gateway.mcp_url(server, endpoint), key)


def caller_at(process: ProcessGateway, server: Server, owner: Any) -> Caller:
    """The same at a gateway in a process of its own."""
    _, key = create_key(owner=owner, name="test", actor="test")
    return Caller(f"{process.origin}/{server.tenant.slug}/mcp/{server.slug}/server", key)


def member_of(gateway: LiveGateway, cast: Cast, endpoint: str = "server") -> Caller:
    """The member of the cast, calling the cast's server."""
    return caller_for(gateway, cast.server, cast.member, endpoint=endpoint)
