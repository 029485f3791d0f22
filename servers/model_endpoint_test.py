"""Try a registered model endpoint, for its admin: does it answer, take the key, and know the models?"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import requests
from jiter import from_json
from urllib3.exceptions import HTTPError

from servers.egress import HttpSession, http_session, time_limit
from servers.errors import DestinationRefused, SecretUnavailable
from servers.model_endpoints import authorization, below, model_names
from servers.models import ModelEndpoint

_SECONDS: Final = 30
_CONNECT_SECONDS: Final = 10
_MOST_BYTES: Final = 2 * 1024 * 1024
_NAMES_SHOWN: Final = 20
_NO_LIST: Final = (404, 405, 501)


@dataclass(frozen=True, slots=True)
class Tried:
    """What came out: a sentence for the admin, and the models that the endpoint lists, if it does."""

    ok: bool
    sentence: str
    models: tuple[str, ...] = ()


def try_endpoint(endpoint: ModelEndpoint) -> Tried:
    """Ask for the list of models; an endpoint that has none is asked for one word. Blocks for half a minute at most."""
    try:
        headers = dict(authorization(endpoint))
    except SecretUnavailable as error:
        return Tried(False, error.public_message)
    with http_session("model endpoint test") as session, time_limit(_SECONDS):
        session.headers.update({**headers, "Accept-Encoding": "identity"})
        try:
            status, found = _ask(session, "GET", below(endpoint.base_url, "models"))
            if status in _NO_LIST:
                return _one_word(session, endpoint)
        except DestinationRefused as error:
            return Tried(False, error.public_message)
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            return Tried(False, _sentence(error))
    return _of_status(status) or _listed(endpoint, found)


def _one_word(session: HttpSession, endpoint: ModelEndpoint) -> Tried:
    names = model_names(endpoint.model_names)
    if not names:
        return Tried(False, "The endpoint lists no models, and none is entered here to try.")
    question = [{"role": "user", "content": "Say one word."}]
    body = {"model": names[0], "messages": question, "max_tokens": 16}
    status, found = _ask(session, "POST", below(endpoint.base_url, "chat/completions"), body)
    if failed := _of_status(status):
        return failed
    if not isinstance(found, dict) or not found.get("choices"):
        return Tried(False, "The endpoint answered, but not with a chat. Check the base URL.")
    return Tried(True, f"{names[0]} answers. The endpoint does not list its models.")


def _listed(endpoint: ModelEndpoint, found: Any) -> Tried:
    rows = found.get("data") if isinstance(found, dict) else None
    if not isinstance(rows, list):
        return Tried(False, "The endpoint answered, but not with a list of models. Check the base URL.")
    listed = model_names([row.get("id") for row in rows if isinstance(row, dict)])
    missing = [name for name in model_names(endpoint.model_names) if name not in listed]
    if missing:
        return Tried(
            False, f"The endpoint answers, but does not list {', '.join(missing)}. Check the names.", _some(listed)
        )
    return Tried(
        True, f"The endpoint answers and lists {len(listed)} model{'' if len(listed) == 1 else 's'}.", _some(listed)
    )


def _some(names: tuple[str, ...]) -> tuple[str, ...]:
    return names if len(names) <= _NAMES_SHOWN else (*names[:_NAMES_SHOWN], "…")


def _of_status(status: int) -> Tried | None:
    if status == 200:
        return None
    if status in (401, 403):
        return Tried(False, f"The endpoint refuses the key (HTTP {status}). Set another one.")
    if status in (404, 405, 410):
        return Tried(False, f"There is no chat at this address (HTTP {status}). The base URL often ends in /v1.")
    if status == 429:
        return Tried(False, "The endpoint takes no more requests now (429). Wait, or look at the account's limits.")
    if 300 <= status < 400:
        return Tried(
            False, f"The endpoint redirects elsewhere (HTTP {status}), which is not followed. Enter its own address."
        )
    return Tried(False, f"The endpoint failed (HTTP {status}).")


def _ask(session: HttpSession, method: str, url: str, body: Any = None) -> tuple[int, Any]:
    """Status and parsed answer of one request; the answer is None where it is not JSON."""
    data = None if body is None else json.dumps(body).encode()
    headers = {} if body is None else {"Content-Type": "application/json"}
    limits = (_CONNECT_SECONDS, _SECONDS)
    with session.request(method, url, data=data, headers=headers, timeout=limits, stream=True) as response:
        if response.status_code != 200:
            return response.status_code, None
        try:
            return 200, from_json(b"".join(_read(response)))
        except ValueError:
            return 200, None


def _read(response: requests.Response) -> Iterator[bytes]:
    left = _MOST_BYTES
    while left > 0 and (piece := response.raw.read1(min(left, 65536), decode_content=False)):
        left -= len(piece)
        yield piece


def _sentence(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, DestinationRefused):
            return cause.public_message
        if isinstance(cause, ssl.SSLError):
            return "The endpoint's TLS certificate is not accepted."
        cause = cause.__cause__ or cause.__context__
    return "The endpoint cannot be reached, or broke off. Check the address, the port, and that it runs."
