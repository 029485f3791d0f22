"""The answers that lead a person to the page where they connect an account, for each kind of client (spec 3.2)."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import get_user_model
from django.urls import reverse

from authflows.models import VirtualAccount
from authflows.outbound.my_connections import link_for
from authflows.outbound.needs import Missing, Need
from proxy import errors, request_state
from proxy.messages import Message
from proxy.opening import connect_tool
from proxy.pipeline import Knock, NotConnected
from proxy.request_state import Asked
from servers import registry
from servers.models import Server
from servers.registry import ServerFacts

_URL_ELICITATION_REQUIRED: Final = -32042
_META: Final = "gatehouse/connect"
_ACTIONS: Final = {
    Need.CONNECT: "connect it",
    Need.RECONNECT: "connect it again",
    Need.OWN_KEY: "enter your key",
}


@dataclass(frozen=True, slots=True)
class Way:
    """What a person can do: a page to open, or no more than what `sentence` says."""

    sentence: str
    action: str = ""
    link: str = ""
    url: str = ""
    expires_at: str = ""
    ends: int = 0


def find_way(outcome: NotConnected, asked_by: str, asked: Asked | None, knock: Knock) -> Way:
    """What the person can do; makes the link, or finds the one that they were given before.

    `knock` says what was called: the server itself, or a virtual server that it is a member of.
    """
    server, need, principal = outcome.server, outcome.answer.need, outcome.principal
    if not outcome.answer.linked:
        return Way(need.sentence)
    if VirtualAccount.objects.filter(user_id=principal.user_id).exists():
        return Way(_for_programs(principal.label, server, need))
    action = _ACTIONS[need.need]
    if asked is not None:
        return Way(need.sentence, action, asked.link, asked.url, _instant(asked.ends), asked.ends)
    user = get_user_model()._default_manager.get(pk=principal.user_id)
    called = registry.find(knock.tenant, knock.slug)
    through_id = called.id if called is not None and called.id != server.id else None
    link = link_for(user, Server.objects.get(pk=server.id), asked_by=asked_by, through_id=through_id)
    url = settings.PUBLIC_URL + reverse("connect-link", args=[link.pk])
    ends = int(link.expires_at.timestamp())
    return Way(need.sentence, action, link.pk, url, _instant(ends), ends)


def _for_programs(label: str, server: ServerFacts, need: Missing) -> str:
    if need.need is Need.OWN_KEY:
        return (
            f"{server.name} needs a key for {label}, and there is none that works. Ask the manager of {server.name} "
            "to enter one under Auth Overrides."
        )
    return (
        f"{server.name} is called with each person's own account, and {label} is a program that nobody can sign in "
        f"for. Ask the manager of {server.name} for an authentication that programs can use."
    )


def _instant(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def told(message: Message, way: Way, server: ServerFacts) -> dict[str, Any]:
    """The answer in words, with the whole address: many clients show plain text and nothing else."""
    text, details = way.sentence, {}
    if way.link:
        text = (
            f"{way.sentence} Ask the user to open {way.url} in a browser where they are signed in to {way.action}, and "
            "to repeat the request afterwards. This link works only for the user who made this request and expires in "
            "15 minutes."
        )
        details = {_META: {"url": way.url, "server": server.slug, "expiresAt": way.expires_at}}
    if message.method != "tools/call":
        # A prompt or a resource has no way to say that it is an error.
        error = {"code": errors.NOT_CONNECTED, "message": text, **({"data": details[_META]} if details else {})}
        return {"jsonrpc": "2.0", "id": message.id, "error": error}
    result: dict[str, Any] = {"content": [{"type": "text", "text": text}], "isError": True}
    if details:
        result["_meta"] = details
    if message.modern:
        result["resultType"] = "complete"
    return {"jsonrpc": "2.0", "id": message.id, "result": result}


def elicitation_error(message: Message, way: Way, server: ServerFacts) -> dict[str, Any]:
    elicitation = {
        "mode": "url",
        "elicitationId": f"el_{secrets.token_urlsafe(12)}",
        "url": way.url,
        "message": f"{way.sentence} Open this page to {way.action}.",
    }
    error = {
        "code": _URL_ELICITATION_REQUIRED,
        "message": f"{way.sentence} Open {way.url} to {way.action}, then try again.",
        "data": {"elicitations": [elicitation]},
    }
    return {"jsonrpc": "2.0", "id": message.id, "error": error}


def input_required(
    message: Message,
    outcome: NotConnected,
    asked: Asked,
    parameters: dict[str, Any],
    *,
    way: Way | None = None,
    with_request: bool = True,
) -> dict[str, Any]:
    state = request_state.seal(
        asked,
        principal=outcome.principal,
        server=outcome.server,
        method=message.method,
        parameters=parameters,
    )
    result: dict[str, Any] = {"resultType": "input_required", "requestState": state}
    if with_request and way is not None:
        elicitation = {
            "mode": "url",
            "message": f"{way.sentence} Open this page to {way.action}, then continue.",
            "url": way.url,
        }
        result["inputRequests"] = {
            connect_tool(outcome.server): {"method": "elicitation/create", "params": elicitation}
        }
    return {"jsonrpc": "2.0", "id": message.id, "result": result}


def event(message: Any) -> bytes:
    return b"event: message\ndata: %b\n\n" % json.dumps(message).encode()
