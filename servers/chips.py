"""What a chip is: a link that narrows a list down."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chip:
    """One choice of what a list shows, with how many it would show."""

    value: str
    label: str
    count: int
    chosen: bool
