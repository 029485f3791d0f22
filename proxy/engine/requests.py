"""Requests of the engine to members, as bytes. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from proxy.engine.clients import Client
from proxy.engine.parameter_headers import PREFIX
from proxy.engine.wire import (
    CAPABILITIES_KEY,
    CLIENT_INFO_KEY,
    LOG_LEVEL_KEY,
    MODERN_VERSION,
    PROTOCOL_PREFIX,
    VERSION_KEY,
)
from proxy.header_values import encode_header_value
from proxy.headers import upstream_lines
from proxy.messages import MIRRORED_NAMES
from proxy.request_head import RequestHead
from proxy.runtime import AGENT, Plan

Head = RequestHead
_OURS: Final = (b"mcp-session-id", b"last-event-id")
_LONGEST_KEPT: Final = 100
_VERSION: Final = MODERN_VERSION.encode()
_SAID: Final = frozenset((*_OURS, b"mcp-protocol-version", b"mcp-method", b"mcp-name"))
_PASSED_ON: Final = (b"traceparent", b"tracestate", b"user-agent", b"connection")


def request_bytes(plan: Plan, head: Head, headers: Mapping[bytes, bytes], body: bytes, method: str = "POST") -> bytes:
    """One HTTP request to a member: our headers, the caller's few that travel on, and the body."""
    kept = head.to_member
    if kept is None or kept[0] is not plan or kept[1] != method:
        kept = head.to_member = (plan, method, _lines_of(plan, head, method))
    parts = [plan.heads[method], kept[2]]
    for name, value in headers.items():
        # The session is ours alone, whatever a manager lets the gateway set.
        if name in _OURS or name not in plan.reserved:
            parts += (name, b": ", value.strip(b" \t"), b"\r\n")
    parts.append(b"content-length: %d\r\n\r\n" % len(body) if method == "POST" else b"\r\n")
    parts.append(body)
    return b"".join(parts)


def _lines_of(plan: Plan, head: Head, method: str) -> bytes:
    """What is the same for all requests of one caller to one member, but for the HTTP method."""
    client = head.headers
    lines = {name: client[name] for name in _PASSED_ON if name in client}
    lines |= {name: client[name] for name in plan.allowed if name in client and not _is_ours(name)}
    if method == "POST":
        lines[b"content-type"] = b"application/json"
        lines[b"accept"] = b"application/json, text/event-stream"
    else:
        lines[b"accept"] = b"text/event-stream"
    return upstream_lines(lines, plan.allowed, plan.reserved, AGENT)


def _is_ours(name: bytes) -> bool:
    """Whether the gateway itself says it in each request, so that what the client says of it is not passed on."""
    return name in _SAID or name.startswith(PREFIX.encode())


def modern_headers(method: str, params: Mapping[str, Any]) -> dict[bytes, bytes]:
    """The headers that mirror a modern request (SV-1, SV-2); parameters of tools are for `parameter_headers`."""
    headers = {b"mcp-protocol-version": _VERSION, b"mcp-method": method.encode()}
    named = MIRRORED_NAMES.get(method)
    name = params.get(named) if named is not None else None
    if isinstance(name, str):
        # URIs may be as long as a request; they are not kept.
        headers[b"mcp-name"] = _encoded_again(name) if len(name) <= _LONGEST_KEPT else _encoded(name)
    return headers


def _encoded(name: str) -> bytes:
    return encode_header_value(name).encode("latin-1")


_encoded_again = lru_cache(maxsize=2_000)(_encoded)


def modern_params(params: Mapping[str, Any], client: Client, capabilities: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters for a modern member: the protocol's own `_meta` keys are ours, all others stay the client's."""
    meta = {**_vendor_meta(params)}
    meta[VERSION_KEY] = MODERN_VERSION
    meta[CLIENT_INFO_KEY] = {"name": "unknown", "version": "", **client.info}
    meta[CAPABILITIES_KEY] = dict(capabilities)
    if client.level:
        meta[LOG_LEVEL_KEY] = client.level
    return {**params, "_meta": meta}


def legacy_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters for an older member, which would refuse `_meta` keys of a protocol that it does not know."""
    meta = _vendor_meta(params)
    found = {name: value for name, value in params.items() if name != "_meta"}
    return {**found, "_meta": meta} if meta else found


def _vendor_meta(params: Mapping[str, Any]) -> dict[str, Any]:
    meta = params.get("_meta")
    if not isinstance(meta, dict):
        return {}
    return {name: value for name, value in meta.items() if not name.startswith(PROTOCOL_PREFIX)}
