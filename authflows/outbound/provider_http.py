"""One exchange with an upstream's authorization server: through the one door, bounded, no redirects (CL-18, T26)."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

import requests

from servers import egress
from servers.errors import DestinationRefused

SECONDS: Final = 15
_MOST_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with its whole body; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def document(self) -> dict[str, Any] | None:
        """The JSON object in it, or a form where a provider answers with one; None for anything else."""
        media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        try:
            if media_type == "application/x-www-form-urlencoded":
                return dict(parse_qsl(self.body.decode(), strict_parsing=True))
            found = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No answer that can be used: a stable word, and a sentence that names the host."""

    reason: str
    sentence: str


def exchange(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    role: str = "connect",
    ca_certificate: str = "",
    head_only: bool = False,
    **options: Any,
) -> Reply | Unreachable:
    """Send one request and read its answer. `options` are those of `requests` (data, json, auth).

    `ca_certificate` is a server's own authority, if it has one. With `head_only` the body is left unread, which
    may be an event stream without an end.
    """
    try:
        host = egress.parse_destination(url).authority
    except DestinationRefused as error:
        return Unreachable("address_refused", error.public_message)
    began = time.monotonic()
    sent = {"Accept": "application/json", "Accept-Encoding": "identity", **(headers or {})}
    try:
        with egress.time_limit(SECONDS), egress.http_session(role, ca_certificate=ca_certificate) as session:
            response = session.request(
                method, url, headers=sent, timeout=SECONDS, stream=True, allow_redirects=False, **options
            )
            body = bytearray()
            for piece in () if head_only else response.iter_content(16 * 1024):
                body += piece
                if len(body) > _MOST_BYTES:
                    return Unreachable("too_large", f"{host} sent more than such an answer should hold.")
    except DestinationRefused as error:
        return Unreachable("address_refused", error.public_message)
    except requests.exceptions.SSLError:
        return Unreachable("tls_failed", f"The certificate of {host} could not be verified.")
    except (requests.Timeout, TimeoutError):
        return _late(host)
    except (requests.RequestException, OSError):
        if time.monotonic() - began < SECONDS:
            return Unreachable("unreachable", f"{host} could not be reached.")
        return _late(host)
    if time.monotonic() - began >= SECONDS:
        # What the time limit cut off looks like an answer that ended early.
        return _late(host)
    if 300 <= response.status_code < 400:
        return Unreachable("redirected", f"{host} redirected the request, which is not followed.")
    return Reply(response.status_code, {k.lower(): v for k, v in response.headers.items()}, bytes(body))


def _late(host: str) -> Unreachable:
    return Unreachable("timeout", f"{host} did not answer within {SECONDS} seconds.")
