"""Where a person is signed in: list, end one, end all others (F-210)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.contrib.auth.signals import user_logged_in
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone

from authflows.models import SignInSession
from authflows.session_store import SIGNED_IN, digest_of
from authflows.throttle import client_address
from servers import audit

# The first word that stands in a User-Agent wins: most browsers name those before them too.
_BROWSERS: Final = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Vivaldi/", "Vivaldi"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("HeadlessChrome/", "Headless Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
)
_SYSTEMS: Final = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


@dataclass(frozen=True, slots=True)
class MySession:
    """One browser in which the person is signed in."""

    digest: str
    browser: str
    address: str
    started_at: datetime
    last_seen_at: datetime
    this_one: bool


def connect() -> None:
    """Note who signs in from where; called once when the application starts."""
    user_logged_in.connect(_signed_in, dispatch_uid="sign-in-session")


def sessions_of(user: Any, *, current: str | None) -> list[MySession]:
    """Live sessions of a person, the one with the session key `current` first, then the last seen."""
    here = digest_of(current or "")
    found = [
        MySession(row.digest, browser_words(row.user_agent), row.address, row.created_at, row.last_seen_at,
                  row.digest == here)
        for row in SignInSession.objects.filter(user=user, expires_at__gt=timezone.now()).defer("data")
    ]  # fmt: skip
    return sorted(found, key=lambda session: not session.this_one)


def end(user: Any, *, digest: str) -> bool:
    """End one of the person's own sessions; False when there is none."""
    with transaction.atomic():
        deleted, _ = SignInSession.objects.filter(user=user, digest=digest).delete()
        if deleted:
            _record(user, deleted)
    return bool(deleted)


def end_others(user: Any, *, current: str | None) -> int:
    """End all of the person's sessions but the one with the session key `current`; returns how many ended."""
    with transaction.atomic():
        others = SignInSession.objects.filter(user=user).exclude(digest=digest_of(current or ""))
        live = others.filter(expires_at__gt=timezone.now()).count()
        others.delete()
        if live:
            _record(user, live)
    return live


def browser_words(user_agent: str) -> str:
    """Browser and system in words, for example “Firefox on Linux”; only ever a hint."""
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), "")
    system = next((name for mark, name in _SYSTEMS if mark in user_agent), "")
    if browser and system:
        return f"{browser} on {system}"
    return browser or system or re.sub(r"[/\s].*", "", user_agent)[:40] or "Unknown browser"


def _record(user: Any, count: int) -> None:
    audit.record(audit.Action.SESSIONS_END, actor=user.get_username(), subject=user, detail={"sessions": count})


def _signed_in(request: HttpRequest, **_: Any) -> None:
    request.session[SIGNED_IN] = {
        "at": timezone.now().isoformat(),
        "user_agent": request.META.get("HTTP_USER_AGENT", "")[:300].replace("\0", ""),
        "address": client_address(request),
    }
