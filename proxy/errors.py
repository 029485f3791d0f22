"""The only place where a failure becomes HTTP status, headers and a JSON-RPC error (promise 9).

Codes are stable and documented in docs/errors.md. Ours lie outside the range that JSON-RPC and MCP reserve
(SV-11). Outages are 5xx: an era probe takes 4xx for evidence (T52).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from django.conf import settings

from authflows.inbound.bearer import Refusal, Unauthenticated
from proxy.headers import Headers
from proxy.messages import JsonRpcId, Rejected
from servers.access import Denied, Reason

NOT_AUTHENTICATED: Final = 1401
ORIGIN_REFUSED: Final = 1402
SCOPE_INSUFFICIENT: Final = 1403
NO_ACCESS: Final = 1404
METHOD_NOT_ALLOWED: Final = 1405
REQUEST_TOO_SLOW: Final = 1408
BODY_TOO_LARGE: Final = 1413
NOT_CONNECTED: Final = 1428
HOST_REFUSED: Final = 1421
TOO_MANY_STREAMS: Final = 1429
INTERNAL: Final = 1500
UPSTREAM_FAILED: Final = 1502
NOT_READY: Final = 1503
UPSTREAM_RESTING: Final = 1505
UPSTREAM_TIMEOUT: Final = 1504
SESSION_UNKNOWN: Final = 1440
BAD_REQUEST: Final = 1400
UNSUPPORTED_VERSION: Final = -32022

# Which page of docs/help an error leads to. By code alone: causes that are not to be told apart lead to the same one.
# A session that is unknown has none: clients open another by themselves, and nobody reads of it.
HELP: Final[Mapping[int, str]] = {
    BAD_REQUEST: "message-refused",
    NOT_AUTHENTICATED: "signed-out",
    ORIGIN_REFUSED: "wrong-address",
    SCOPE_INSUFFICIENT: "message-refused",
    NO_ACCESS: "no-access",
    METHOD_NOT_ALLOWED: "message-refused",
    REQUEST_TOO_SLOW: "message-refused",
    BODY_TOO_LARGE: "message-refused",
    HOST_REFUSED: "wrong-address",
    TOO_MANY_STREAMS: "too-many",
    INTERNAL: "gateway-trouble",
    UPSTREAM_FAILED: "server-not-answering",
    NOT_READY: "gateway-trouble",
    UPSTREAM_TIMEOUT: "server-not-answering",
    UPSTREAM_RESTING: "server-not-answering",
}
# Of what one code covers, that which somebody else has to mend.
_HELP_BY_OUTCOME: Final[Mapping[str, str]] = {
    "credential_unavailable": "gateway-credential",
    "token_unavailable": "gateway-credential",
    "upstream_refused_credential": "gateway-credential",
    "upstream_refused": "gateway-credential",
    "upstream_refused_account": "account-refused",
    "upstream_refused_passthrough": "account-refused",
    "upstream_scope": "account-refused",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """An answer that the gateway gives by itself. `outcome` is the stable word for the call record."""

    status: int
    code: int
    message: str
    outcome: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


def body(failure: Failure, request_id: JsonRpcId) -> bytes:
    """The JSON-RPC error of a failure; `data.help` is the page that says what to do."""
    error: dict[str, Any] = {"code": failure.code, "message": failure.message}
    if (topic := _HELP_BY_OUTCOME.get(failure.outcome) or HELP.get(failure.code)) is not None:
        error["data"] = {"help": f"{settings.PUBLIC_URL}/portal/help/{topic}/"}
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "error": error}).encode()


def render(failure: Failure, request_id: JsonRpcId) -> tuple[int, Headers, bytes]:
    """Status, headers and JSON-RPC body of a failure."""
    headers = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        *failure.headers,
    ]
    return failure.status, headers, body(failure, request_id)


def unauthenticated(refusal: Unauthenticated, path: str, *, discoverable: bool) -> Failure:
    """401 with the challenge, the same for every reason but "nothing sent" (RS-3, RS-5, RS-13); 403 for a token
    without our one scope (RS-9).

    `discoverable` is False for the `/key` endpoint, whose clients must not start an OAuth discovery.
    """
    if discoverable:
        # The path is the caller's own text, percent-decoded: anything could stand in it (T53).
        metadata = f"{settings.PUBLIC_URL}/.well-known/oauth-protected-resource{quote(path)}"
        challenge = f'Bearer resource_metadata="{metadata}", scope="mcp"'
    else:
        challenge = 'Bearer realm="Gatehouse"'
    message = "Sign in to use this MCP server, or send an API key in the Authorization header."
    if refusal.reason is Refusal.IN_URL:
        challenge += ', error="invalid_request"'
        message = "Credentials belong in the Authorization header, not in the URL."
    elif refusal.reason is Refusal.SCOPE:
        challenge += ', error="insufficient_scope"'
        message = "The token's scope does not cover MCP. Sign in again and ask for the scope mcp."
    elif refusal.reason is not Refusal.MISSING:
        challenge += ', error="invalid_token"'
        message = "The credential is not valid (any more). Sign in again, or use another API key."
    header = (b"www-authenticate", challenge.encode("latin-1"))
    if refusal.reason is Refusal.SCOPE:
        return Failure(403, SCOPE_INSUFFICIENT, message, refusal.reason, (header,))
    return Failure(401, NOT_AUTHENTICATED, message, refusal.reason, (header,))


def denied(decision: Denied, server_name: str) -> Failure:
    """403 without a challenge (RS-12). Unknown server and no right read alike (RS-13)."""
    if decision.reason is Reason.SERVER_DISABLED:
        message = f"The MCP server '{server_name}' is disabled. Ask its manager to enable it."
    else:
        message = "You may not use this MCP server, or there is none at this URL. Ask its manager for access."
    return Failure(403, NO_ACCESS, message, decision.reason)


UNKNOWN_SERVER: Final = Failure(
    403,
    NO_ACCESS,
    "You may not use this MCP server, or there is none at this URL. Ask its manager for access.",
    "unknown_server",
)
FOREIGN_HOST: Final = Failure(
    421, HOST_REFUSED, "This gateway does not serve that host name. Use its public URL.", "host_refused"
)
FOREIGN_ORIGIN: Final = Failure(
    403, ORIGIN_REFUSED, "Web pages of that origin may not call this gateway.", "origin_refused"
)
SLOW_REQUEST: Final = Failure(
    408,
    REQUEST_TOO_SLOW,
    "The request did not arrive in time. Send it again.",
    "request_timeout",
    ((b"connection", b"close"),),
)
SESSION_NOT_FOUND: Final = Failure(
    404, SESSION_UNKNOWN, "Session not found. Send initialize to open a new one.", "session_unknown"
)
FEED_STALE: Final = Failure(
    503,
    NOT_READY,
    "The gateway cannot confirm who may call right now. Try again shortly.",
    "feed_stale",
    ((b"retry-after", b"5"),),
)
BROKEN: Final = Failure(
    500,
    INTERNAL,
    "The gateway failed to handle this call. Its operator finds the reason in the log.",
    "internal",
)
STREAM_LIMIT: Final = Failure(
    429,
    TOO_MANY_STREAMS,
    "Too many open streams for this credential. Close one and try again.",
    "too_many_streams",
    ((b"retry-after", b"10"),),
)


def duplicated_header(name: bytes) -> Failure:
    """400 for a header that came twice (T6)."""
    return Failure(400, BAD_REQUEST, f"The header {name.decode('latin-1')} came twice.", "header_duplicated")


def rejected(rejection: Rejected) -> Failure:
    """400 with the JSON-RPC error of the parse or of a header mismatch."""
    return Failure(400, rejection.code, rejection.message, "message_rejected")


def method_not_allowed(method: str) -> Failure:
    """405 for HTTP methods that MCP does not have."""
    allow = ((b"allow", b"POST, GET, DELETE"),)
    return Failure(405, METHOD_NOT_ALLOWED, f"An MCP endpoint has no {method}.", "method_not_allowed", allow)


def too_large(limit: int) -> Failure:
    """413, naming the limit in bytes. The rest of the body is not read."""
    message = f"The request body is larger than {limit} bytes."
    return Failure(413, BODY_TOO_LARGE, message, "body_too_large", ((b"connection", b"close"),))


def upstream_failed(server_name: str, what: str, outcome: str) -> Failure:
    """502: the server could not be reached or did not answer as an MCP server; `what` is our own sentence."""
    message = f"The MCP server '{server_name}' {what}. If it lasts, tell its manager."
    return Failure(502, UPSTREAM_FAILED, message, outcome)


def upstream_timeout(server_name: str, phase: str, seconds: int) -> Failure:
    """504, naming the phase that took too long."""
    message = f"The MCP server '{server_name}' did not {phase} within {seconds} seconds. Try again later."
    return Failure(
        504,
        UPSTREAM_TIMEOUT,
        message,
        f"timeout_{'connect' if phase == 'accept a connection' else 'response'}",
    )


def secret_unavailable(server_name: str) -> Failure:
    """502: the server's shared credential cannot be read; the reference is for its manager, not for callers."""
    return upstream_failed(
        server_name,
        "cannot be used: its stored credential is not available to the gateway",
        "credential_unavailable",
    )


def credential_refused_text(server_name: str) -> str:
    """For a tool result: the upstream refused the shared credential."""
    return (
        f"The MCP server '{server_name}' refused the gateway's own credential. Signing in again does not help: "
        "ask the server's manager to renew the credential in Gatehouse."
    )


def request_refused_text(server_name: str, status: int) -> str:
    """For a tool result: the upstream refused (401, 403 or 407) a request that had no credential of ours with it."""
    return (
        f"The MCP server '{server_name}' refused the request ({status}); it has no credential configured. Ask the "
        "server's manager to set one in Gatehouse, or to ask its operator what the server lets in."
    )


def account_refused_text(server_name: str, status: int) -> str:
    """The upstream refused what stands for the caller's own account there, and connecting again is not the cure."""
    return (
        f"The MCP server '{server_name}' refused this to your account there ({status}). Check what the account may do "
        "there, or ask the server's manager."
    )


def passthrough_refused_text(server_name: str, status: int) -> str:
    """The upstream refused the credential that the caller sent along."""
    return (
        f"The MCP server '{server_name}' refused the credential that you sent along for it ({status}). "
        "Send another one."
    )


def scope_beyond_text(server_name: str, scopes: Sequence[str]) -> str:
    """The upstream asks for scopes that the server's settings do not allow."""
    return (
        f"The MCP server '{server_name}' asks for rights that it is not set up to use ({', '.join(scopes)}). "
        "Ask its manager to add them in Gatehouse."
    )


def no_token(server_name: str, sentence: str) -> Failure:
    """502: the provider of the server gave no token; `sentence` is our own."""
    message = f"The MCP server '{server_name}' cannot be called now: there is no token for it. {sentence}"
    return Failure(502, UPSTREAM_FAILED, f"{message} Try again; if it lasts, tell its manager.", "token_unavailable")


_CAUSES: Final[Mapping[str, str]] = {
    "address": "its address may not be called (phase: address)",
    "connect": "it cannot be reached (phase: connect)",
    "timeout_connect": "it accepts no connection in time (phase: connect)",
    "tls": "its TLS certificate is not trusted (phase: TLS)",
    "response": "it breaks off before it answers (phase: response)",
    "timeout_response": "it does not answer in time (phase: response)",
    "body": "it breaks off in the middle of its answers (phase: body)",
    "error": "it answers with errors of its own (phase: response)",
}


def breaker_open(server_name: str, cause: str, *, lasting: float, next_try: float) -> Failure:
    """503: not tried, because the server has failed too often just now, or asked for a pause; times in seconds."""
    seconds = math.ceil(next_try)
    again = f"The next try is in {seconds} second{'' if seconds == 1 else 's'}."
    if cause == "busy":
        message = f"The MCP server '{server_name}' asks to be left alone for a while (too many calls). {again}"
    else:
        why = _CAUSES.get(cause, "it fails")
        message = (
            f"The MCP server '{server_name}' was not called: for {max(1, round(lasting))} seconds, {why}. {again} "
            "If it lasts, tell its manager."
        )
    retry = ((b"retry-after", b"%d" % seconds),)
    return Failure(503, UPSTREAM_RESTING, message, "breaker_open", retry)


def era_refusal(
    request_id: JsonRpcId, text: str, supported: Sequence[str], requested: str
) -> tuple[int, Headers, bytes]:
    """400 with -32022: the versions that would do (2.6 A and B)."""
    error = {
        "code": UNSUPPORTED_VERSION,
        "message": text,
        "data": {"supported": list(supported), "requested": requested[:40]},
    }
    body = json.dumps({"jsonrpc": "2.0", "id": request_id, "error": error}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    return 400, headers, body


def no_catalogue(server_name: str) -> Failure:
    """503: what the caller may have of the server cannot be told before its catalogue was read once."""
    message = (
        f"What you may use of the MCP server '{server_name}' is not known yet: its catalogue was not read so far. "
        "Try again shortly; if it lasts, ask its manager to read the catalogue in Gatehouse."
    )
    return Failure(503, NOT_READY, message, "catalogue_missing", ((b"retry-after", b"10"),))


def tool_error(request_id: JsonRpcId, text: str, *, modern: bool) -> bytes:
    """A tool result that says why the call did not happen; the model reads it (section 3 of the duties)."""
    result: dict[str, Any] = {"content": [{"type": "text", "text": text}], "isError": True}
    if modern:
        result["resultType"] = "complete"
    return json.dumps({"jsonrpc": "2.0", "id": request_id, "result": result}).encode()
