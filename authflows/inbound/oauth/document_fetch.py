"""One fetch of a client's metadata document: bounded in time, size and number, to public addresses only (AZ-10, T26).

The address comes from a stranger. So nothing is followed, and nothing else is accepted than a small JSON object.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, Literal

import requests
from django.db import connections

from servers import egress
from servers.errors import DestinationRefused, HostUnknown, PrivateAddress

SECONDS: Final = 5.0
MOST_BYTES: Final = 16 * 1024
MOST_AT_ONCE: Final = 8
SHORTEST_FRESH: Final = 5 * 60
LONGEST_FRESH: Final = 24 * 3600
_USUAL_FRESH: Final = 3600

Problem = Literal["busy", "down", "huge", "not_json", "private_address", "redirecting", "slow"]

_slots = threading.BoundedSemaphore(MOST_AT_ONCE)
_workers = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="client-documents")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A document, and for how many seconds its publisher lets it count as fresh (within our limits)."""

    document: dict[str, Any]
    fresh_seconds: int


def fetch(url: str) -> Fetched | Problem:
    """The JSON object at `url`, or why there is none. Returns within `SECONDS`."""
    if not _slots.acquire(blocking=False):
        return "busy"
    # In a thread of its own, because a look-up in the DNS cannot be cut short.
    waiting = _workers.submit(_in_worker, url)
    try:
        return waiting.result(timeout=SECONDS)
    except TimeoutError:
        return "slow"


def fresh_seconds(headers: Mapping[str, str], *, now: datetime) -> int:
    """For how long an answer with these headers is fresh (RFC 9111), within our limits."""
    control = headers.get("Cache-Control", "").lower()
    seconds = _USUAL_FRESH
    if re.search(r"\bno-(?:store|cache)\b", control):
        seconds = 0
    elif found := re.search(r"(?<![\w-])max-age\s*=\s*\"?(\d{1,9})", control):
        age = headers.get("Age", "").strip()
        seconds = int(found[1]) - (int(age) if re.fullmatch(r"[0-9]{1,9}", age) else 0)
    elif "Expires" in headers:
        try:
            seconds = int((parsedate_to_datetime(headers["Expires"]) - now).total_seconds())
        except (ValueError, TypeError):
            seconds = 0
    return max(SHORTEST_FRESH, min(seconds, LONGEST_FRESH))


def _in_worker(url: str) -> Fetched | Problem:
    began = time.monotonic()
    try:
        found = _read(url)
    except PrivateAddress:
        found = "private_address"
    except HostUnknown:
        found = "down"
    except DestinationRefused:
        found = "private_address"
    except requests.Timeout:
        found = "slow"
    except requests.RequestException:
        found = "down"
    finally:
        connections.close_all()
        _slots.release()
    # What the time limit cut off looks like an answer that ended early.
    return "slow" if time.monotonic() - began >= SECONDS else found


def _read(url: str) -> Fetched | Problem:
    with egress.time_limit(SECONDS), egress.http_session("client documents") as session:
        return _document(session, url)


def _document(session: egress.HttpSession, url: str) -> Fetched | Problem:
    headers = {"Accept": "application/json, application/*+json", "Accept-Encoding": "identity"}
    response = session.get(url, headers=headers, timeout=SECONDS, stream=True, allow_redirects=False)
    if 300 <= response.status_code < 400:
        return "redirecting"
    if response.status_code != 200:
        return "down"
    media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not re.fullmatch(r"application/(?:json|[\w.-]+\+json)", media_type):
        return "not_json"
    body = b""
    for chunk in response.iter_content(MOST_BYTES):
        body += chunk
        if len(body) > MOST_BYTES:
            return "huge"
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return "not_json"
    if not isinstance(document, dict):
        return "not_json"
    return Fetched(document, fresh_seconds(response.headers, now=datetime.now().astimezone()))
