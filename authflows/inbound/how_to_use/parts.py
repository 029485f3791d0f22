"""What guides are made of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

KEY_VARIABLE: Final = "GATEHOUSE_KEY"
"""The variable that the snippets read the key from; the key itself belongs in no file that is shared."""
NO_KEY: Final = "<key>"


@dataclass(frozen=True, slots=True)
class Target:
    """The server to use: its URLs, and what the client will call it (letters, digits, hyphens)."""

    name: str
    url: str
    key_url: str
    """The same endpoint without anything that invites to sign in."""


@dataclass(frozen=True, slots=True)
class Step:
    """Do what `place` says; with `text`, that is what to run or paste there."""

    place: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Link:
    """A link that sets the client up. `through` is the site that such a link passes, and that learns the URL."""

    label: str
    href: str
    through: str = ""


@dataclass(frozen=True, slots=True)
class Guide:
    """How one client is set up by one method."""

    id: str
    client: str
    steps: tuple[Step, ...]
    links: tuple[Link, ...] = ()
    note: str = ""


def export_line(key: str) -> str:
    """The shell line that puts a key where the snippets look for it."""
    return f"export {KEY_VARIABLE}={key}"


def export_step(key: str | None) -> Step:
    """Put the key into the environment."""
    return Step(
        f"Put the key into your environment, so that it stands in no file that you share "
        f"(PowerShell: $env:{KEY_VARIABLE} = \"{NO_KEY}\")",
        export_line(key or NO_KEY),
    )  # fmt: skip


def bearer(key: str) -> dict[str, str]:
    """The header that carries a key."""
    return {"Authorization": f"Bearer {key}"}


def pretty(value: Any) -> str:
    """JSON as people read it."""
    return json.dumps(value, indent=2, ensure_ascii=False)
