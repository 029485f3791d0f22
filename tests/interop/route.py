"""One way to an upstream."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Route:
    """The URL, and the headers that a client must send."""

    url: str
    headers: dict[str, str]
