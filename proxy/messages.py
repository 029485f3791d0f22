"""One look at a request's body: parsed once, strictly, for policy and records. Pure.

The original bytes are what is forwarded. So that nobody can read them differently from us, the parse refuses
everything two parsers could disagree about: duplicate keys, keys that differ only in case (Go's parser takes
`Method` for `method`), a BOM, bad UTF-8, lone surrogates, NaN, trailing text, nesting deeper than 200 levels, ids
beyond 64 bits (T38). Header and body must agree, because upstreams and balancers may
act on the headers while policy reads the body (T37).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal

from jiter import from_json

from proxy.header_values import decode_header_value

JsonRpcId = str | int | None

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
INVALID_PARAMS: Final = -32602
HEADER_MISMATCH: Final = -32020

FIRST_MODERN_VERSION: Final = "2026-07-28"
BATCH_VERSION: Final = "2025-03-26"
_VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
_CLIENT_KEY: Final = "io.modelcontextprotocol/clientInfo"
_CAPABILITIES_KEY: Final = "io.modelcontextprotocol/clientCapabilities"
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")

# Which parameter names the thing a method acts on; the first three have to be mirrored in `Mcp-Name` (SV-2).
MIRRORED_NAMES: Final[Mapping[str, str]] = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
}
_OPTIONALLY_MIRRORED: Final[Mapping[str, str]] = {
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
_NAMES: Final[Mapping[str, str]] = {
    **MIRRORED_NAMES,
    **_OPTIONALLY_MIRRORED,
    "resources/subscribe": "uri",
    "resources/unsubscribe": "uri",
}
_ENVELOPE_KEYS: Final = frozenset(("jsonrpc", "id", "method", "params", "result", "error"))
_PARAMETER_KEYS: Final = frozenset(("_meta", "arguments", "name", "taskId", "uri"))
_FOLDED_ENVELOPE_KEYS: Final = frozenset(key.casefold() for key in _ENVELOPE_KEYS)
_FOLDED_PARAMETER_KEYS: Final = frozenset(key.casefold() for key in _PARAMETER_KEYS)


class Kind(StrEnum):
    """What a JSON-RPC body is."""

    REQUEST = "request"
    NOTIFICATION = "notification"
    RESPONSE = "response"
    BATCH = "batch"


@dataclass(slots=True)
class Message:
    """What policy and records need of a body; no argument values. Not frozen: one is made for every call."""

    kind: Kind
    id: JsonRpcId
    method: str
    item: str
    """Tool or prompt name, resource URI or task id; empty where the method has none."""
    modern: bool
    """True for 2026-07-28 and later: no session, disconnect cancels."""
    version: str
    client: str
    elements: tuple[Message, ...] = ()

    def __bool__(self) -> Literal[True]:
        return True


@dataclass(frozen=True, slots=True)
class Rejected:
    """A body that does not go upstream: the JSON-RPC error to answer with HTTP 400."""

    code: int
    message: str
    id: JsonRpcId = None

    def __bool__(self) -> Literal[False]:
        return False


NO_BODY: Final = Message(Kind.NOTIFICATION, None, "", "", modern=False, version="", client="")


def is_modern(version: str) -> bool:
    """Whether a protocol version is one without handshake; unknown later ones count."""
    return version >= FIRST_MODERN_VERSION and _DATE.fullmatch(version) is not None


def peek(headers: Mapping[bytes, bytes], body: bytes) -> Message | Rejected:
    """Parse a POST body and check it against the routing headers (keys in lower case).

    Checked in order, first failure wins: strict JSON (-32700); shape of one JSON-RPC message, or of a batch
    where the version allows one (-32600); agreement of version, method and name with the headers (-32020).
    """
    return peek_with(headers, body)[0]


def peek_with(headers: Mapping[bytes, bytes], body: bytes) -> tuple[Message | Rejected, Any]:
    """As `peek`, and the parsed body for who needs all of it."""
    try:
        parsed = from_json(body, allow_inf_nan=False, catch_duplicate_keys=True)
    except ValueError as error:
        return Rejected(PARSE_ERROR, f"The body is not strict JSON: {error}"), None
    return _message(parsed, headers), parsed


def _message(parsed: Any, headers: Mapping[bytes, bytes]) -> Message | Rejected:
    version = headers.get(b"mcp-protocol-version", b"").decode("latin-1").strip(" \t")
    if isinstance(parsed, dict):
        return _single(parsed, headers, version)
    if isinstance(parsed, list):
        return _batch(parsed, headers, version)
    return Rejected(INVALID_REQUEST, "The body must be one JSON-RPC message.")


def _single(parsed: dict[str, Any], headers: Mapping[bytes, bytes], version: str) -> Message | Rejected:
    if not parsed.keys() <= _ENVELOPE_KEYS and (key := _lookalike(parsed, _ENVELOPE_KEYS, _FOLDED_ENVELOPE_KEYS)):
        return Rejected(INVALID_REQUEST, f"The key `{key}` differs from one of JSON-RPC only in case.")
    message_id = parsed.get("id")
    if not (message_id is None or type(message_id) is str or _is_64_bit(message_id)):
        return Rejected(INVALID_REQUEST, "`id` must be a string or an integer of at most 64 bits.")
    method = parsed.get("method")
    if method is None:
        if "result" not in parsed and "error" not in parsed:
            return Rejected(INVALID_REQUEST, "The message has no `method`.", message_id)
        modern = is_modern(version)
        return Message(Kind.RESPONSE, message_id, "", "", modern=modern, version=version, client="")
    if type(method) is not str:
        return Rejected(INVALID_REQUEST, "`method` must be a string.", message_id)
    params = parsed.get("params")
    meta = params.get("_meta") if type(params) is dict else None
    body_version = meta.get(_VERSION_KEY) if type(meta) is dict else None
    item = None
    if (name_key := _NAMES.get(method)) is not None and type(params) is dict:
        if not params.keys() <= _PARAMETER_KEYS and (
            key := _lookalike(params, _PARAMETER_KEYS, _FOLDED_PARAMETER_KEYS)
        ):
            return Rejected(INVALID_REQUEST, f"`params.{key}` differs from a known parameter only in case.", message_id)
        if name_key in params:
            item = params[name_key]
            if type(item) is not str:
                return Rejected(INVALID_PARAMS, f"`params.{name_key}` must be a string.", message_id)
    kind = Kind.REQUEST if message_id is not None else Kind.NOTIFICATION
    modern = body_version is not None or is_modern(version)
    client = ""
    if modern:
        disagreement = _disagreement(headers, version, body_version, method, item, meta, kind)
        if disagreement:
            return Rejected(HEADER_MISMATCH, f"Header mismatch: {disagreement}", message_id)
        client = _client_name(meta.get(_CLIENT_KEY)) if type(meta) is dict else ""
    elif method == "initialize" and type(params) is dict:
        client = _client_name(params.get("clientInfo"))
    return Message(kind, message_id, method, item or "", modern=modern, version=version, client=client)


def _is_64_bit(value: Any) -> bool:
    return type(value) is int and -(2**63) <= value < 2**64


def _lookalike(found: dict[str, Any], known: frozenset[str], folded: frozenset[str]) -> str:
    """A key that a parser without regard to case would take for a known one, or an empty text."""
    return next((key[:40] for key in found if key not in known and key.casefold() in folded), "")


def _disagreement(
    headers: Mapping[bytes, bytes],
    version: str,
    body_version: Any,
    method: str,
    item: str | None,
    meta: Any,
    kind: Kind,
) -> str:
    """What the routing headers of a modern message say otherwise than its body, or an empty text (SV-1, SV-2).

    A body without its `_meta` triple is left to the upstream, whose error (-32602) is the better one; headers
    that are there must agree even then.
    """
    if body_version is not None and (not version or version != body_version):
        return "MCP-Protocol-Version is missing or differs from the version in the body"
    complete = type(meta) is dict and _VERSION_KEY in meta and _CAPABILITIES_KEY in meta
    required = complete and kind is Kind.REQUEST
    method_header = headers.get(b"mcp-method")
    if method_header is None:
        if required:
            return "Mcp-Method is missing"
    elif method_header.decode("latin-1").strip(" \t") != method:
        return "Mcp-Method differs from the method in the body"
    name_header = headers.get(b"mcp-name")
    if name_header is None:
        if required and item is not None and method in MIRRORED_NAMES:
            return "Mcp-Name is missing"
    elif method in _NAMES and decode_header_value(name_header.decode("latin-1").strip(" \t")) != (item or ""):
        # What does not decode never equals the body's name.
        return "Mcp-Name differs from the name in the body"
    return ""


def _batch(parsed: list[Any], headers: Mapping[bytes, bytes], version: str) -> Message | Rejected:
    if version not in ("", BATCH_VERSION):
        return Rejected(INVALID_REQUEST, f"MCP {version} has no batches; send one message a request.")
    if not parsed:
        return Rejected(INVALID_REQUEST, "A batch must hold at least one message.")
    elements = []
    for element in parsed:
        if type(element) is not dict:
            return Rejected(INVALID_REQUEST, "Each element of a batch must be a JSON-RPC message.")
        message = _single(element, headers, version)
        if isinstance(message, Rejected):
            return Rejected(message.code, message.message)
        if message.modern or message.method == "initialize":
            return Rejected(INVALID_REQUEST, "This message cannot be part of a batch.")
        elements.append(message)
    methods = ",".join(dict.fromkeys(m.method for m in elements if m.method))
    return Message(Kind.BATCH, None, methods, "", modern=False, version=version, client="", elements=tuple(elements))


def _client_name(info: Any) -> str:
    if type(info) is not dict:
        return ""
    name, version = info.get("name"), info.get("version")
    if type(name) is not str:
        return ""
    return f"{name} {version}"[:200] if type(version) is str else name[:200]
