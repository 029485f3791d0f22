"""Whose credential goes upstream? The single question that the proxy asks about it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from uuid import UUID

from authflows.outbound.methods import no_auth, shared_header
from servers import changes
from servers.access import Principal
from servers.errors import SecretUnavailable
from servers.models.servers import AuthConfig, Server
from servers.registry import ServerFacts
from servers.secrets.references import FileReference, references_in

Header = tuple[str, str]
# A mounted file changes without telling us.
_FILE_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Credential:
    """The headers for one upstream call. `epoch` changes when the identity behind them may have changed."""

    headers: tuple[Header, ...]
    epoch: str
    shared: bool
    read_again_at: float | None = None
    """When to read it anew (monotonic seconds), for values that the change feed knows nothing of."""

    def __repr__(self) -> str:
        names = ", ".join(name for name, _ in self.headers)
        return f"Credential({names or 'no headers'})"


# One line per method; each is one file in `methods/` with a `headers(server, config)` function.
METHODS: Final[Mapping[AuthConfig.Method, Callable[[Server, AuthConfig], list[Header]]]] = MappingProxyType(
    {
        AuthConfig.Method.NONE: no_auth.headers,
        AuthConfig.Method.SHARED_HEADER: shared_header.headers,
    }
)

_shared: changes.Cache[UUID, Credential] = changes.Cache()


def credential_for(principal: Principal, server: ServerFacts, *, may_load: bool = True) -> Credential:
    """The credential for this principal's calls to this server.

    Raises SecretUnavailable when a reference does not resolve, and changes.NotCached when the credential is
    not in memory and `may_load` is False.
    """
    found = _shared.peek(server.id)
    if found is not None and found.read_again_at is not None and found.read_again_at <= time.monotonic():
        _shared.evict(server.id)
    found = _shared.get(server.id, lambda: _open(server), may_load=may_load)
    assert found is not None  # noqa: S101  (`_open` returns or raises)
    return found


def _open(server: ServerFacts) -> Credential:
    # Anew from the database: `server` may be from before a change whose eviction is already over.
    row = Server.objects.select_related("tenant", "auth_config").filter(pk=server.id).first()
    if row is None:
        raise SecretUnavailable(f"The server {server.name} was removed a moment ago.")
    config = getattr(row, "auth_config", None) or AuthConfig(server=row)
    headers = tuple(METHODS[AuthConfig.Method(config.method)](row, config))
    references = [one for _, template in config.header_templates() for one in references_in(template)]
    from_file = any(isinstance(one, FileReference) for one in references)
    return Credential(
        headers=headers,
        # The digest tells apart what the counter cannot: a file's new text, a configuration made anew.
        epoch=f"shared.{config.epoch}.{_digest(headers)}",
        shared=True,
        read_again_at=time.monotonic() + _FILE_SECONDS if from_file else None,
    )


def _digest(headers: tuple[Header, ...]) -> str:
    return hashlib.sha256(repr(headers).encode()).hexdigest()[:16]


def _on_change(kind: str, key: str) -> None:
    if kind == "server":
        _shared.evict(UUID(key))
    elif kind in ("secret", "tenant"):
        _shared.clear()


changes.listen(_on_change)
