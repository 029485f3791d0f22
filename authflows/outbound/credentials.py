"""Whose credential goes upstream? The single question that the proxy asks about it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final
from uuid import UUID

from authflows.outbound.methods import no_auth, shared_header
from servers import changes
from servers.access import Principal
from servers.models.servers import AuthConfig, Server
from servers.registry import ServerFacts

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Credential:
    """The headers for one upstream call. `epoch` changes when the identity behind them may have changed."""

    headers: tuple[Header, ...]
    epoch: str
    shared: bool

    def __repr__(self) -> str:
        names = ", ".join(name for name, _ in self.headers)
        return f"Credential({names or 'no headers'}, epoch={self.epoch})"


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
    found = _shared.get(server.id, lambda: _open(server), may_load=may_load)
    assert found is not None  # noqa: S101  (`_open` returns or raises)
    return found


def _open(server: ServerFacts) -> Credential:
    row = Server.objects.select_related("tenant").get(pk=server.id)
    config, _ = AuthConfig.objects.get_or_create(server=row)
    headers = METHODS[AuthConfig.Method(config.method)](row, config)
    return Credential(headers=tuple(headers), epoch=f"shared.{config.epoch}", shared=True)


def _on_change(kind: str, key: str) -> None:
    if kind == "server":
        _shared.evict_where(lambda server_id, _: str(server_id) == key)
    elif kind == "secret":
        _shared.clear()


changes.listen(_on_change)
