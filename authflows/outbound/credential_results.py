"""What the question "whose credential goes upstream?" can come to."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Literal
from uuid import UUID

from authflows.outbound.needs import Missing

Header = tuple[str, str]


class Kind(StrEnum):
    """What a credential comes from, which says what a refusal of it means."""

    SHARED = "shared"
    CONNECTION = "connection"
    OWN_KEY = "own_key"
    CLIENT_CREDENTIALS = "client_credentials"
    TOKEN_EXCHANGE = "token_exchange"  # noqa: S105  (a method's name)
    PASSTHROUGH = "passthrough"


@dataclass(frozen=True, slots=True)
class NotObtained:
    """No new token. `dead`: asking again does not help. `sentence` is for people."""

    dead: bool
    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Credential:
    """The headers for one upstream call. `epoch` changes when the identity behind them may have changed."""

    headers: tuple[Header, ...]
    epoch: str
    shared: bool
    read_again_at: float | None = None
    """When to read it anew (monotonic seconds), for values that the change feed knows nothing of."""
    kind: Kind = Kind.SHARED
    id: UUID | None = None
    """Of the connection or own key that it was opened from."""
    generation: int = 0
    stamp: str = ""
    """Kind and id of what says when it was last used, for example `connection:5f0c…`."""
    url: str = ""
    """The endpoint that it may be sent to; empty: wherever the server's row leads (shared ones)."""
    until: float | None = None
    """When it is to be replaced (Unix seconds)."""
    renew: Callable[[], NotObtained | None] | None = None
    """Get another one in its place, because the server refused it; waits for a provider."""
    remembered: bool = True
    """False for what the caller brings with each call: nothing of it is kept."""

    def __repr__(self) -> str:
        names = ", ".join(name for name, _ in self.headers)
        return f"Credential({names or 'no headers'})"


@dataclass(frozen=True, slots=True)
class NeedsConnection:
    """The person has to do something first. `linked` is False where no page of ours helps."""

    need: Missing
    linked: bool = True

    def __bool__(self) -> Literal[False]:
        return False


@dataclass(frozen=True, slots=True)
class RefreshDue:
    """A token has to be asked for first: `obtain`, in a thread that may wait for a provider, then ask again here.

    Those with the same `key` ask once. `usable` is what goes on while the provider cannot answer. `epoch` is the
    one that the credential will have.
    """

    key: Hashable
    epoch: str
    obtain: Callable[[], NotObtained | None]
    usable: Credential | None = None

    def __bool__(self) -> Literal[False]:
        return False


@dataclass(frozen=True, slots=True)
class Brought:
    """What a request carries that a credential may be made of: its Authorization value and its headers by name."""

    authorization: bytes | None = field(default=None, repr=False)
    headers: Mapping[bytes, bytes] = field(default_factory=lambda: MappingProxyType({}), repr=False)

    def token(self) -> str:
        """The bearer token that opened our door, or an empty text."""
        scheme, _, token = (self.authorization or b"").partition(b" ")
        return token.strip(b" ").decode("latin-1") if scheme.lower() == b"bearer" else ""


NOTHING_BROUGHT: Final = Brought()
Answer = Credential | NeedsConnection | RefreshDue
