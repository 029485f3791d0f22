"""One call of a tool through the path of every call, and what became of it (F-604)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from asgiref.sync import async_to_sync
from django.conf import settings
from django.urls import reverse
from jiter import from_json

from authflows.inbound.api_callers import ApiCaller
from proxy import errors
from proxy.api.problems import TYPES, Problem
from proxy.api.tools import tools_of
from proxy.engine.clients import Client
from proxy.engine.parameter_headers import annotated, parameter_headers
from proxy.engine.requests import modern_headers, modern_params
from proxy.engine.sse import EventReader, EventTooLarge
from proxy.engine.wire import METHOD_NOT_FOUND, MODERN_VERSION, encoded
from proxy.inside import ask_whole
from proxy.messages import INVALID_PARAMS
from proxy.pipeline import Inside
from servers.request_id import current_request_id
from servers.usable import Usable

AGENT: Final = "Gatehouse API"
_CLIENT: Final = Client(modern=True, version=MODERN_VERSION, info={"name": "gatehouse-api", "version": "1"})
_METHOD: Final = "tools/call"
_ID: Final = 1
_CONNECT: Final = "gatehouse/connect"
# What the gateway itself says on the path of a call, by its code there.
_OURS: Final[Mapping[int, str]] = {
    errors.NOT_AUTHENTICATED: "not_authenticated",
    errors.NO_ACCESS: "unknown_server",
    errors.BODY_TOO_LARGE: "too_large",
    errors.TOO_MANY_STREAMS: "throttled",
    errors.INTERNAL: "internal",
    errors.UPSTREAM_FAILED: "server_failed",
    errors.NOT_READY: "not_ready",
    errors.UPSTREAM_TIMEOUT: "server_timeout",
    errors.UPSTREAM_RESTING: "server_resting",
}
# What servers answer with other statuses is passed on, so with those a code and its words may be a server's.
_OURS_ALONE: Final = frozenset((401, 403, 500, 502, 504))


@dataclass(frozen=True, slots=True)
class Called:
    """The result as MCP has it, and the id of the call's record: that of the request too."""

    result: dict[str, Any]
    request_id: str


def call_tool(caller: ApiCaller, usable: Usable, *, tool: str, arguments: dict[str, Any]) -> Called:
    """Call a tool and wait for its answer; raises Problem."""
    server = usable.server
    if usable.allowed is None:
        raise Problem("server_disabled", f"{server.name} is switched off. Ask its manager to enable it.")
    params = {"name": tool, "arguments": arguments}
    found = tools_of(caller, usable).find(tool)
    mirrored = parameter_headers(annotated(found.text), arguments) if found is not None else {}
    said = {**modern_headers(_METHOD, params), **mirrored}
    message = {"jsonrpc": "2.0", "id": _ID, "method": _METHOD, "params": modern_params(params, _CLIENT, {})}
    status, headers, body = async_to_sync(ask_whole)(
        # A key goes along as it came, so that its limits hold there too.
        caller.authorization or Inside(caller.user.pk, caller.principal.credential, caller.principal.sign_in),
        tenant=server.tenant.slug,
        slug=server.slug,
        body=encoded(message),
        headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in said.items()],
        agent=AGENT,
    )
    answer = _answer_in(headers.get("content-type", ""), body)
    if answer is None:
        raise Problem("server_failed", f"{server.name} gave no answer that can be read. The call may have run.")
    if "error" in answer:
        raise _refused(answer["error"], status, headers)
    result = answer["result"]
    if (url := _connect_url(result)) is not None:
        text = f"{server.name} has to be connected first. Open connect_url, then repeat the request."
        raise Problem("not_connected", text, connect_url=url)
    if result.get("resultType") == "input_required":
        raise Problem("input_required")
    return Called(result, current_request_id())


def _answer_in(content_type: str, body: bytes) -> dict[str, Any] | None:
    """The response among the messages of an answer, whichever form it has; None: there is none."""
    messages = [body]
    if content_type.partition(";")[0].strip().lower() == "text/event-stream":
        try:
            messages = [event.data for event in EventReader(settings.MAX_RESPONSE_BYTES).feed(body)]
        except EventTooLarge:
            return None
    for text in reversed(messages):
        try:
            found = from_json(text)
        except ValueError:
            continue
        if isinstance(found, dict) and (isinstance(found.get("result"), dict) or isinstance(found.get("error"), dict)):
            return found
    return None


def _refused(error: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> Problem:
    code = error.get("code")
    ours = _OURS.get(code) if isinstance(code, int) else None
    if ours is not None and (status in _OURS_ALONE or status == TYPES[ours].status):
        wait = headers.get("retry-after", "")
        retry_after = int(wait) if wait.isdecimal() else None
        sentence = str(error.get("message", "")) if status in _OURS_ALONE else ""
        return Problem(ours, sentence, retry_after=retry_after)
    kept = {name: error[name] for name in ("code", "message", "data") if name in error}
    is_callers = code in (INVALID_PARAMS, METHOD_NOT_FOUND)
    return Problem("call_refused" if is_callers else "mcp_error", mcp_error=kept)


def _connect_url(result: Mapping[str, Any]) -> str | None:
    """Where the gateway asks to connect something. A server could write this too, so only a page of ours counts."""
    meta = result.get("_meta")
    about = meta.get(_CONNECT) if result.get("isError") and isinstance(meta, dict) else None
    url = about.get("url") if isinstance(about, dict) else None
    ours = settings.PUBLIC_URL + reverse("connect-link", args=["-"])[:-1]
    return url if isinstance(url, str) and url.startswith(ours) else None
