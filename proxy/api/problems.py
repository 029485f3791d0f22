"""Failures of the Gateway API as problem details (RFC 9457), each with a stable code."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response

from servers.errors import GatewayError
from servers.request_id import current_request_id

log = logging.getLogger(__name__)

CONTENT_TYPE: Final = "application/problem+json"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """What a code stands for: the same for every occurrence."""

    status: int
    title: str
    meaning: str


TYPES: Final[Mapping[str, ProblemType]] = {
    "invalid": ProblemType(400, "The input is not valid", "`fields` says for each field what to write instead."),
    "malformed": ProblemType(400, "The body is not JSON", "Send one strict JSON object without repeated names."),
    "not_authenticated": ProblemType(
        401,
        "Nobody is signed in",
        "Send an API key, or an access token for the API, as `Authorization: Bearer …`. A page sends its session.",
    ),
    "csrf_failed": ProblemType(403, "The page's token is missing or old", "Reload the page, or use an API key."),
    "not_manager": ProblemType(
        403, "This is for managers of the server", "Only who manages a server asks or sets something for others there."
    ),
    "scope_insufficient": ProblemType(
        403, "The token has not the scope", "Sign in again and ask for the scope `mcp`, or for none."
    ),
    "forbidden": ProblemType(403, "This is not allowed", "The credential does not open this."),
    "not_found": ProblemType(404, "There is nothing here", "Look at the path: the OpenAPI document has all of them."),
    "unknown_server": ProblemType(
        404, "There is no such server", "No server has this address, or you may not use it. The two look alike."
    ),
    "unknown_tool": ProblemType(404, "There is no such tool", "The server has no tool of this name for you."),
    "unknown_person": ProblemType(
        404, "There is no such person here", "Nobody of this user name may use what you manage."
    ),
    "method_not_allowed": ProblemType(405, "This method is not offered here", "`Allow` names those that are."),
    "not_acceptable": ProblemType(406, "Only JSON is answered", "Accept `application/json`."),
    "not_connected": ProblemType(
        409,
        "Something has to be connected first",
        "Open `connect_url` in a browser where you are signed in, then repeat the request.",
    ),
    "cannot_connect": ProblemType(
        409, "Nobody can connect this here", "A program cannot sign in, or the server needs no connection."
    ),
    "server_disabled": ProblemType(409, "The server is switched off", "Ask its manager to enable it."),
    "input_required": ProblemType(
        409, "The tool asked a question", "The API cannot pass it on: use an MCP client for this tool."
    ),
    "key_not_taken": ProblemType(409, "The server takes no key here", "Its authentication is another one."),
    "has_access": ProblemType(409, "You may use this server already", "There is nothing to ask for."),
    "already_answered": ProblemType(
        409, "This request cannot be answered so", "Somebody answered it, or the person cannot be given access."
    ),
    "too_large": ProblemType(413, "The request is too large", "Send less: `detail` names the limit."),
    "unsupported_media_type": ProblemType(415, "Only JSON is read", "Send `Content-Type: application/json`."),
    "call_refused": ProblemType(
        422,
        "The call was refused",
        "No tool of this name, or arguments that do not fit: `mcp_error` says what was answered.",
    ),
    "key_refused": ProblemType(422, "The server refused the key", "Nothing was kept. Check the key at its provider."),
    "throttled": ProblemType(429, "Too many requests", "Wait as many seconds as `Retry-After` says."),
    "internal": ProblemType(500, "The gateway failed", "Its operator finds the reason in the log by `request_id`."),
    "server_failed": ProblemType(
        502, "The MCP server failed", "It cannot be reached or does not answer as an MCP server. Tell its manager."
    ),
    "mcp_error": ProblemType(502, "The MCP server answered with an error", "`mcp_error` holds its answer."),
    "key_untested": ProblemType(
        502,
        "The key could not be tried",
        "Nothing was kept. Send it again in a few minutes, or with `keep_untested` set.",
    ),
    "not_ready": ProblemType(503, "The gateway cannot answer yet", "Try again after `Retry-After` seconds."),
    "server_resting": ProblemType(
        503, "The MCP server is given a rest", "It failed too often just now. `Retry-After` says when to try again."
    ),
    "server_timeout": ProblemType(504, "The MCP server took too long", "Try again later; the call may have run."),
}


class Problem(GatewayError):
    """One occurrence. `more` are further members of the answer; `retry_after` is in seconds.

    `challenge` is the WWW-Authenticate header that goes with it.
    """

    def __init__(
        self, code: str, detail: str = "", *, retry_after: float | None = None, challenge: str = "", **more: Any
    ) -> None:
        super().__init__(detail or TYPES[code].meaning.replace("`", ""))
        self.code = code
        self.more = more
        self.auth_header = challenge
        self.retry_after = math.ceil(retry_after) if retry_after is not None else None


def type_url(code: str) -> str:
    """The `type` of a problem: an address that explains it."""
    return f"{settings.PUBLIC_URL}/api/v1/problems/{code}"


def answer(error: Exception, context: Any) -> Response:
    """The answer for whatever a view raised: REST framework calls it for every exception."""
    problem, headers = _problem_of(error), {}
    if problem.code == "internal":
        log.error("gateway API failed", exc_info=error)
    challenge = getattr(error, "auth_header", None)
    if challenge:
        headers["WWW-Authenticate"] = challenge
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    kind = TYPES[problem.code]
    body = {
        "type": type_url(problem.code),
        "title": kind.title,
        "status": kind.status,
        "detail": problem.public_message,
        "code": problem.code,
        "request_id": current_request_id(),
        **problem.more,
    }
    return Response(body, status=kind.status, headers=headers, content_type=CONTENT_TYPE)


# Of REST framework's own failures: their code here, and whether their sentence is ours or says nothing of ours.
_OF_FRAMEWORK: Final[tuple[tuple[type[Exception], str], ...]] = (
    (exceptions.NotAuthenticated, "not_authenticated"),
    (exceptions.AuthenticationFailed, "not_authenticated"),
    (exceptions.PermissionDenied, "forbidden"),
    (PermissionDenied, "forbidden"),
    (exceptions.NotFound, "not_found"),
    (Http404, "not_found"),
    (exceptions.MethodNotAllowed, "method_not_allowed"),
    (exceptions.NotAcceptable, "not_acceptable"),
    (exceptions.UnsupportedMediaType, "unsupported_media_type"),
    (exceptions.ParseError, "malformed"),
)


def _problem_of(error: Exception) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, exceptions.ValidationError):
        return Problem("invalid", "The input is not valid: see fields.", fields=_fields(error.detail))
    for kind, code in _OF_FRAMEWORK:
        if isinstance(error, kind):
            return Problem(code)
    return Problem("internal")


def _fields(detail: Any) -> dict[str, Any]:
    """For each field its sentences; `""` stands for the body as a whole."""
    if isinstance(detail, Mapping):
        return {str(name): _sentences(value) for name, value in detail.items()}
    return {"": _sentences(detail)}


def _sentences(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _sentences(inner) for name, inner in value.items()}
    return [str(one) for one in value] if isinstance(value, list | tuple) else [str(value)]
