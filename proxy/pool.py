"""Keep-alive connections to upstreams, made only to addresses that `servers.egress` checked."""

from __future__ import annotations

import asyncio
import ssl
from time import monotonic
from typing import Final

from proxy import threads
from proxy.upstream import Connection, Phase, UpstreamError
from servers import changes, egress
from servers.errors import DestinationRefused

_LARGEST_IDLE_POOL: Final = 256
_ADDRESSES_FOR_SECONDS: Final = 30.0


class Pool:
    """Keep-alive connections to one host, port and set of authorities; the last one used is used next."""

    def __init__(self, destination: egress.Destination, ca_certificate: str, idle_seconds: float) -> None:
        self._destination = destination
        self._ca_certificate = ca_certificate
        self._idle_seconds = idle_seconds
        self._idle: list[Connection] = []
        self._addresses: list[str] = []
        self._addresses_until = 0.0
        self._addresses_version = -1
        self._look_up: asyncio.Future[list[str]] | None = None
        self._look_up_version = -1

    def take_idle(self) -> Connection | None:
        """A connection that is open and has not been idle for too long, or None."""
        now = monotonic()
        while self._idle:
            connection = self._idle.pop()
            longest = self._idle_seconds
            if connection.keep_alive_for is not None:
                longest = min(longest, connection.keep_alive_for)
            if connection.open and now - connection.idle_since < longest:
                return connection
            connection.abort()
        return None

    async def connect(self) -> Connection:
        """A new connection to a checked address; raises UpstreamError with `sent` False."""
        addresses = await self._checked_addresses()
        context = None
        if self._destination.scheme == "https":
            try:
                context = await threads.run(egress.tls_context, self._ca_certificate)
            except ssl.SSLError as error:
                raise UpstreamError(Phase.TLS, f"custom CA: {error}", sent=False) from error
        loop = asyncio.get_running_loop()
        last: Exception | None = None
        for address in addresses:
            try:
                _, connection = await loop.create_connection(
                    lambda: Connection(self._release, loop),
                    address,
                    self._destination.port,
                    ssl=context,
                    server_hostname=self._destination.host if context else None,
                )
                return connection
            except ssl.SSLError as error:
                raise UpstreamError(Phase.TLS, str(error), sent=False) from error
            except OSError as error:
                last = error
        raise UpstreamError(Phase.CONNECT, str(last), sent=False) from last

    def sweep(self, now: float) -> bool:
        """Close what has been idle for too long; returns False when nothing is left."""
        kept = []
        for connection in self._idle:
            if connection.open and now - connection.idle_since < self._idle_seconds:
                kept.append(connection)
            else:
                connection.abort()
        self._idle = kept
        return bool(kept)

    def close(self) -> None:
        """Close all idle connections."""
        for connection in self._idle:
            connection.abort()
        self._idle.clear()

    async def _checked_addresses(self) -> list[str]:
        if monotonic() < self._addresses_until and self._addresses_version == _destinations_version:
            return self._addresses
        # All calls that wait for the same name wait for one look-up, or a name that hangs would take every thread.
        if self._look_up is None or self._look_up_version != _destinations_version:
            self._look_up_version = _destinations_version
            self._look_up = asyncio.ensure_future(self._resolve(_destinations_version))
            self._look_up.add_done_callback(self._on_looked_up)
        try:
            return await asyncio.shield(self._look_up)
        except DestinationRefused as error:
            raise UpstreamError(Phase.ADDRESS, error.public_message, sent=False) from error

    async def _resolve(self, version: int) -> list[str]:
        until = monotonic() + _ADDRESSES_FOR_SECONDS
        addresses = await threads.look_up(egress.resolve, self._destination)
        self._addresses, self._addresses_until, self._addresses_version = addresses, until, version
        return addresses

    def _on_looked_up(self, look_up: asyncio.Future[list[str]]) -> None:
        if look_up is self._look_up:
            self._look_up = None
        if not look_up.cancelled():
            look_up.exception()  # seen, even when every call that waited for it has left

    def _release(self, connection: Connection) -> None:
        if len(self._idle) >= _LARGEST_IDLE_POOL:
            connection.abort()
            return
        connection.used = True
        connection.idle_since = monotonic()
        self._idle.append(connection)


_destinations_version = 0


def _on_change(kind: str, _: str) -> None:
    global _destinations_version
    if kind in ("private_destinations", changes.EVERYTHING):
        _destinations_version += 1


changes.listen(_on_change)
