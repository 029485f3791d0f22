"""Which header names an administrator may set or let through, and which values are legal (RFC 9110)."""

from __future__ import annotations

import re
from typing import Final

from django.core.exceptions import ValidationError

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
# Visible ASCII with spaces and tabs inside: what every HTTP implementation carries unchanged.
_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?")
_LONGEST_VALUE: Final = 8192

# The gateway's own, hop-by-hop, or believed by upstreams to come from a proxy.
_FORBIDDEN: Final = frozenset(
    (
        *("accept", "accept-encoding", "baggage", "connection", "content-length", "content-type", "cookie"),
        *("expect", "forwarded", "host", "keep-alive", "last-event-id", "origin", "referer", "te", "trailer"),
        *("transfer-encoding", "upgrade", "user-agent", "via", "x-real-ip"),
    )
)
_FORBIDDEN_PREFIXES: Final = ("mcp-", "proxy-", "sec-", "x-forwarded-", "x-gatehouse-")
_CREDENTIALS: Final = frozenset(("authorization", "cookie", "x-api-key", "api-key"))


def check_header_name(name: str) -> str:
    """The name as given; raises ValidationError with what to write instead."""
    if not _TOKEN.fullmatch(name):
        raise ValidationError(
            "A header name has letters, digits and hyphens only, for example Authorization or X-Api-Key.",
            code="header_name",
        )
    lowered = name.lower()
    if lowered in _FORBIDDEN or lowered.startswith(_FORBIDDEN_PREFIXES):
        raise ValidationError(
            "%(name)s is set by the gateway itself. Choose another header.",
            code="header_reserved",
            params={"name": name},
        )
    return name


def check_public_header_name(name: str) -> str:
    """The same, for headers that stand in the open or come from the caller: no credentials among them."""
    check_header_name(name)
    if name.lower() in _CREDENTIALS:
        raise ValidationError(
            "%(name)s carries a credential. Use the authentication type Header Auth for it.",
            code="header_credential",
            params={"name": name},
        )
    return name


def check_header_value(value: str) -> str:
    """The value as given; raises ValidationError, whose text never holds the value."""
    if len(value) > _LONGEST_VALUE:
        raise ValidationError("The value is longer than 8,192 characters.", code="header_value")
    if not _VALUE.fullmatch(value):
        raise ValidationError(
            "A header value is one line of plain characters, without line breaks or letters with accents.",
            code="header_value",
        )
    return value
