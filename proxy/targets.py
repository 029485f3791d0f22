"""What a server's row amounts to for a connection test: where to, and with what every call carries."""

from __future__ import annotations

from collections.abc import Iterable

from authflows.outbound.credentials import METHODS, shared_headers
from authflows.outbound.tester_credentials import NothingToTestWith, headers_for
from proxy.probe import Target
from servers.errors import SecretUnavailable
from servers.models import AuthConfig, Server


def target_of(server: Server) -> Target:
    """What a saved server amounts to; raises SecretUnavailable."""
    config = AuthConfig.objects.filter(server=server).first() or AuthConfig(server=server)
    return target_with(server, shared_headers(server, config), callers_bring=config.method not in METHODS)


def target_with(server: Server, headers: Iterable[tuple[str, str]], *, callers_bring: bool = False) -> Target:
    """The same with this credential."""
    return Target(
        url=server.url,
        credential=tuple(headers),
        static_headers=tuple((str(name), str(value)) for name, value in server.static_headers.items()),
        ca_certificate=server.ca_certificate,
        connect_timeout=server.connect_timeout,
        callers_bring=callers_bring,
    )


def shared_target(server: Server) -> Target:
    """What the gateway can read without anybody's help; may block on a provider.

    Raises SecretUnavailable, also where a provider gives no token.
    """
    config = AuthConfig.objects.filter(server=server).first() or AuthConfig(server=server)
    if config.method in METHODS:
        return target_of(server)
    try:
        return target_with(server, headers_for(None, server, config) or ())
    except NothingToTestWith as nothing:
        raise SecretUnavailable(str(nothing)) from nothing
