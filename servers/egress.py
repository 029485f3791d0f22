"""The one door for outbound HTTP (promise 5): which addresses may be called, and the only HTTP clients.

`checked_addresses()` is the rule: every address that a host resolves to must be public, or the exact host and
port must be listed as a private destination by an admin. A host with one bad address is refused whole. The
caller then connects to a checked address, never to the name again, so a second answer of the DNS (rebinding)
changes nothing (T26, T51).

Synchronous callers get a `requests` session from `http_session()`; the gateway's path asks `Destination` for
addresses and a TLS context, and is the only other code that opens sockets (the linter sees to it).
"""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from servers import changes
from servers.errors import DestinationRefused, HostUnknown, PrivateAddress
from servers.models.egress import PrivateDestination

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Scheme = Literal["http", "https"]
_DEFAULT_PORTS = {"http": 80, "https": 443}
# Seconds to connect, and between two pieces of an answer, where a caller names none.
_DEFAULT_TIMEOUT = (10, 60)


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a URL points, in parts. `target` is path and query as they go on the wire."""

    scheme: Scheme
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """What the Host header says: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse_destination(url: str) -> Destination:
    """Take a URL apart; raises DestinationRefused for anything but plain http(s) URLs without credentials."""
    if any(ord(c) <= 32 or ord(c) >= 127 or c == "\\" for c in url):
        raise DestinationRefused("The URL has spaces or characters that do not belong in a URL.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise DestinationRefused("The URL is malformed.") from error
    if parts.scheme not in ("http", "https"):
        raise DestinationRefused("The URL must begin with https:// (or http:// for a private destination).")
    host = (parts.hostname or "").removesuffix(".")
    if (
        not host
        or port == 0
        or ("[" in parts.netloc and ":" not in host)
        or parts.username is not None
        or parts.password is not None
        or "#" in url
    ):
        raise DestinationRefused("The URL needs a host and must not hold a user name, a password or a fragment.")
    scheme: Scheme = "https" if parts.scheme == "https" else "http"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Destination(scheme, host, port or _DEFAULT_PORTS[scheme], target)


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Special ranges that Python 3.11 takes for public, and a cloud's metadata address inside a public range.
_SPECIAL = tuple(
    ipaddress.ip_network(text)
    for text in (
        "64:ff9b:1::/48",
        "3fff::/20",
        "5f00::/16",
        "fec0::/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "168.63.129.16/32",
    )
)


def is_public(address: IpAddress) -> bool:
    """Whether an address is on the public internet; embedded IPv4 addresses are looked at too."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if address in _NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        # What is reached is the embedded address; versions of Python differ on whether the outer one is global.
        if address.sixtofour is not None:
            return is_public(address.sixtofour)
        if address.teredo is not None and not is_public(address.teredo[1]):
            return False
    if any(address in network for network in _SPECIAL):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def checked_addresses(destination: Destination, resolved: Iterable[str], allowed: bool) -> list[str]:
    """The addresses that may be connected to, in the order given. Pure.

    `allowed` says that an admin listed exactly this host and port. Raises DestinationRefused when any address
    is private and not allowed, or when plain http would leave for the public internet. An allowed name still
    does not lead to link-local addresses, where clouds keep their metadata: those are listed as addresses.
    """
    addresses = list(dict.fromkeys(resolved))
    if not addresses:
        raise HostUnknown(f"The host {destination.host} has no address.")
    if allowed:
        for text in addresses:
            if text != destination.host and _is_link_local(ipaddress.ip_address(text.partition("%")[0])):
                raise PrivateAddress(
                    f"{destination.host}:{destination.port} is a link-local address. An admin can allow it under "
                    "Allowed private destinations by its address.",
                    f"{destination.host} resolves to {text}",
                )
        return addresses
    for text in addresses:
        if not is_public(ipaddress.ip_address(text.partition("%")[0])):
            raise PrivateAddress(
                f"{destination.host}:{destination.port} is a private address. An admin can allow it under "
                "Allowed private destinations.",
                f"{destination.host} resolves to {text}",
            )
    if destination.scheme == "http":
        raise DestinationRefused(f"Use https:// for {destination.host}: it is on the public internet.")
    return addresses


def _is_link_local(address: IpAddress) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return _is_link_local(address.ipv4_mapped)
    return address.is_link_local or address.is_unspecified or address.is_multicast


_private: changes.Cache[str, frozenset[tuple[str, int]]] = changes.Cache()
changes.listen(lambda kind, _: _private.clear() if kind == "private_destinations" else None)


def private_destinations() -> frozenset[tuple[str, int]]:
    """Host and port pairs that an admin allowed; one query on a cold cache."""
    found = _private.get(
        "all",
        lambda: frozenset((_plain_host(d.host), d.port) for d in PrivateDestination.objects.all()),
    )
    return found or frozenset()


def is_allowed_private(destination: Destination) -> bool:
    """Whether an admin listed exactly this host and port."""
    return (_plain_host(destination.host), destination.port) in private_destinations()


def _plain_host(text: str) -> str:
    return text.strip().lower().removeprefix("[").removesuffix("]").removesuffix(".")


def resolve(destination: Destination) -> list[str]:
    """Addresses of the host, checked; blocks on DNS. Raises DestinationRefused."""
    return checked_addresses(destination, _lookup(destination), is_allowed_private(destination))


def _lookup(destination: Destination) -> list[str]:
    try:
        found = socket.getaddrinfo(destination.host, destination.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise HostUnknown(f"The host {destination.host} cannot be resolved.", str(error)) from error
    return [str(entry[4][0]) for entry in found]


@lru_cache(maxsize=256)
def tls_context(ca_certificate: str) -> ssl.SSLContext:
    """One TLS context per set of authorities (empty: the public ones). Making one costs 30 ms, hence kept.

    Raises ssl.SSLError when the PEM text is not a certificate.
    """
    context = ssl.create_default_context(cadata=ca_certificate or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _connect(connection: HTTPConnection) -> socket.socket:
    scheme: Scheme = "https" if isinstance(connection, HTTPSConnection) else "http"
    destination = Destination(scheme, connection._dns_host.removesuffix("."), connection.port, "/")
    last: OSError | None = None
    for address in resolve(destination):
        try:
            opened = socket.create_connection((address, destination.port), timeout=connection.timeout)
        except OSError as error:
            last = error
            continue
        # Head and body are two writes: without this the second waits until the peer acknowledged the first.
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _watch(opened)
        return opened
    if isinstance(last, TimeoutError):
        raise ConnectTimeoutError(connection, f"connecting to {destination.host} took too long") from last
    raise NewConnectionError(connection, f"cannot connect to {destination.host}: {last}") from last


_opened: ContextVar[list[socket.socket] | None] = ContextVar("opened", default=None)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Shut every socket that an `http_session` opens inside the block when the time is up.

    The timeouts of `requests` hold for one read each; a peer that sends a byte now and then outlasts them.
    What was being read then fails as if the peer had gone.
    """
    opened: list[socket.socket] = []

    def end() -> None:
        for one in opened:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    token = _opened.set(opened)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        _opened.reset(token)
        for one in opened:
            one.close()


def _watch(opened: socket.socket) -> None:
    watched = _opened.get()
    if watched is not None:
        # A duplicate: TLS takes the descriptor out of the socket object, the connection stays the same.
        watched.append(opened.dup())


class _CheckedConnection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self)


class _CheckedTlsConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _connect(self)


class _CheckedPool(HTTPConnectionPool):
    ConnectionCls = _CheckedConnection


class _CheckedTlsPool(HTTPSConnectionPool):
    ConnectionCls = _CheckedTlsConnection


class _CheckedAdapter(HTTPAdapter):
    """Connects to checked addresses only; the check is at the moment a socket opens."""

    def __init__(self, ca_certificate: str) -> None:
        self._ca_certificate = ca_certificate
        super().__init__(pool_connections=4, pool_maxsize=4)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        # `requests` would add its own bundle of public authorities to our context, or turn its checks off;
        # the context is shared with the gateway's own connections.
        if verify is not True or cert:
            raise TypeError("authorities and client certificates are not chosen with a request")
        conn.cert_reqs = "CERT_REQUIRED"

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        options["ssl_context"] = tls_context(self._ca_certificate)
        self.poolmanager = PoolManager(num_pools=connections, maxsize=maxsize, block=block, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _CheckedPool, "https": _CheckedTlsPool}


class _CheckedSession(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        # Also where a caller asks for redirects: a hop would carry headers to wherever an upstream points (T28).
        return None

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        if options.get("timeout") is None:
            options["timeout"] = _DEFAULT_TIMEOUT
        return super().send(request, **options)


HttpSession = requests.Session
"""For annotations; the only maker is `http_session`."""


def http_session(role: str, *, ca_certificate: str = "") -> requests.Session:
    """A `requests` session for blocking callers. `role` names the caller in the User-Agent.

    It never follows a redirect (the answer 3xx comes back as it is), keeps no cookies, ignores proxies and netrc
    of the environment, and every socket goes to a checked address. The caller asks with `stream=True`, reads no
    more than it can use, and bounds the whole with `time_limit`.
    """
    session = _CheckedSession()
    session.trust_env = False
    session.headers["User-Agent"] = f"gatehouse ({role})"
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    adapter = _CheckedAdapter(ca_certificate)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session
