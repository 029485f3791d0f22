"""How often somebody may ask, counted as at the other public endpoints."""

from __future__ import annotations

from typing import Any, Final

from django.utils import timezone
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from authflows import throttle
from authflows.throttle import Limit, Rate

# A page that shows everything asks a dozen times; a script in a loop stays below.
_REQUESTS: Final = Rate(1200, 60)


class PerPerson(BaseThrottle):
    """All requests of one person or program, whatever credential they come with. Calls of tools are not counted."""

    def __init__(self) -> None:
        self._wait = 0

    def allow_request(self, request: Request, view: Any) -> bool:
        if request.user.is_authenticated:
            self._wait = throttle.take([Limit("api", str(request.user.pk), _REQUESTS)], now=timezone.now())
        return self._wait == 0

    def wait(self) -> float | None:
        return float(self._wait)
