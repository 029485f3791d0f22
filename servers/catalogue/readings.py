"""What came of reading a server's catalogue, handed over by whoever reads (the gateway, a layer above)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from servers.items import ItemKind
from servers.models.servers import Server


class JsonText(str):
    """A definition as text, so that thousands of them are not millions of objects at a time."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything that a server offers, as it sent it: unchecked, of every kind, in its order.

    Definitions are values or `JsonText`.
    """

    offered: Mapping[ItemKind, tuple[Any, ...]] = field(repr=False)
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    instructions: str = ""
    server_info: Mapping[str, Any] = field(default_factory=dict)
    versions: tuple[str, ...] = ()
    """Protocol versions that it answered to."""
    legacy_versions: tuple[str, ...] = ()
    """Of those with a handshake, those that it negotiates or lists."""
    eras: Server.Eras = Server.Eras.UNKNOWN
    """What is known of its eras after this reading; unknown: only one was tried."""
    notes: tuple[str, ...] = ()
    """What it did otherwise than it declared."""

    def __bool__(self) -> Literal[True]:
        return True


@dataclass(frozen=True, slots=True)
class NotRead:
    """The reading ended before everything was read: at this step of the connection test, and why."""

    step: str
    sentence: str

    def __bool__(self) -> Literal[False]:
        return False
