"""Host and Origin of a request: DNS rebinding and foreign web pages stop here (T51, RS-15). Pure."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from proxy.headers import Headers

_EXPOSED: Final = b"WWW-Authenticate, Mcp-Session-Id, MCP-Protocol-Version, Retry-After"
_METHODS: Final = b"POST, GET, DELETE"


@lru_cache(maxsize=256)
def is_our_host(host: bytes | None) -> bool:
    """Whether a Host header names this gateway."""
    if host is None:
        return False
    domain, _ = split_domain_port(host.decode("latin-1"))
    return bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)


@lru_cache(maxsize=256)
def is_allowed_origin(origin: bytes) -> bool:
    """Whether web pages of this origin may call the gateway."""
    return origin.decode("latin-1") in settings.ALLOWED_ORIGINS


def cross_origin_headers(origin: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """What an answer to an allowed origin carries besides."""
    return (
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _EXPOSED),
        (b"vary", b"Origin"),
    )


def preflight_headers(origin: bytes, wanted: bytes) -> Headers:
    """The answer to a preflight; `wanted` is its Access-Control-Request-Headers."""
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-methods", _METHODS),
        (b"access-control-allow-headers", wanted or b"Authorization, Content-Type"),
        (b"access-control-max-age", b"600"),
        (b"vary", b"Origin"),
    ]
