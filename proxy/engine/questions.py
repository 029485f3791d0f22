"""What of a member's question may reach a client, and in which words. Pure (T33, T48)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from proxy.engine.clients import Client

_WITH_PAGES: Final = "2025-11-25"
_SECRET: Final = re.compile(
    r"passw|passwd|passphrase|secret|token|api[_\- ]?key|private[_\- ]?key|credential|card[_\- ]?n|cvv|\bpin\b|otp",
    re.IGNORECASE,
)
_WARNING: Final = "Careful: this asks for what looks like a secret. No server should ask for one in this way."


@dataclass(frozen=True, slots=True)
class Question:
    """A question as the client gets it."""

    method: str
    params: dict[str, Any]
    suspicious: bool = False
    """It asks for what looks like a secret."""


@dataclass(frozen=True, slots=True)
class Unaskable:
    """A question that does not reach the client, and why, for the member and the log."""

    reason: str
    url: str = ""
    """A page that the person could open all the same."""

    def __bool__(self) -> Literal[False]:
        return False


def declared(client: Client, *, member_modern: bool) -> dict[str, Any]:
    """What a member is told that the client can do: never more than the client said, nor than is carried (CL-27).

    Nothing to an older member behind a modern client: its question in the middle of a call could not be passed on. And
    nothing for an older client without a session, whose answer would find no way back.
    """
    if not client.capabilities or (client.modern != member_modern and client.modern):
        return {}
    if not client.modern and not client.session:
        return {}
    kinds = {
        name: client.capabilities[name]
        for name in ("elicitation", "sampling", "roots")
        if isinstance(client.capabilities.get(name), dict)
    }
    if "elicitation" in kinds and not client.modern and client.version < _WITH_PAGES:
        kinds["elicitation"] = {}
    return kinds


def question(client: Client, method: Any, params: Any, *, asked_by: str) -> Question | Unaskable:
    """The question for this client. `asked_by` names the member where the client sees several; else empty."""
    params = dict(params) if isinstance(params, dict) else {}
    if method == "roots/list":
        return Question(method, params) if "roots" in client.capabilities else Unaskable("the client has no roots")
    if method == "sampling/createMessage":
        if "sampling" not in client.capabilities:
            return Unaskable("the client does not sample")
        return Question(method, params)
    if method != "elicitation/create":
        return Unaskable(f"unknown method {str(method)[:60]}")
    elicitation = client.capabilities.get("elicitation")
    if not isinstance(elicitation, dict):
        return Unaskable("the client cannot be asked", _page(params))
    text = params.get("message") if isinstance(params.get("message"), str) else ""
    params["message"] = f"{asked_by}: {text}" if asked_by else text
    if params.get("mode") == "url":
        return _page_question(client, elicitation, params)
    if elicitation and "form" not in elicitation:
        return Unaskable("the client has no forms")
    suspicious = asks_for_a_secret(params.get("requestedSchema"))
    if suspicious:
        params["message"] = f"{params['message']}\n{_WARNING}"
    return Question(method, params, suspicious)


def _page_question(client: Client, elicitation: Mapping[str, Any], params: dict[str, Any]) -> Question | Unaskable:
    page = _page(params)
    if not page:
        return Unaskable("the page is not an https one")
    if "url" not in elicitation or (not client.modern and client.version < _WITH_PAGES):
        return Unaskable("the client opens no pages", page)
    if client.modern:
        params.pop("elicitationId", None)
    else:
        # Required of 2025-11-25 and gone from later versions.
        params.setdefault("elicitationId", f"el_{secrets.token_urlsafe(12)}")
    return Question("elicitation/create", params)


def _page(params: Mapping[str, Any]) -> str:
    url = params.get("url")
    return url if isinstance(url, str) and is_safe_page(url) else ""


def is_safe_page(url: str) -> bool:
    """Whether a person may be sent to this page of a member's: https with a host, and nothing hidden in it."""
    if any(ord(character) <= 32 or ord(character) == 127 for character in url) or len(url) > 2000:
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme == "https" and bool(parts.hostname) and parts.username is None


def asks_for_a_secret(schema: Any) -> bool:
    """Whether a form has a field whose name, title or description sounds like a secret (T48)."""
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if not isinstance(properties, dict):
        return False
    for name, field in list(properties.items())[:100]:
        texts = [name]
        if isinstance(field, dict):
            texts += [field[key] for key in ("title", "description") if isinstance(field.get(key), str)]
        if any(_SECRET.search(text[:500]) for text in texts):
            return True
    return False
