"""Which headers pass, in both directions: `reference` tables of the transparent path as code. Pure.

Everything that is not listed is dropped, so an unknown header can neither carry a spoofed identity upstream
(T7) nor set a cookie on our origin (T31).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

Headers = list[tuple[bytes, bytes]]

# End-to-end headers of the client that the upstream has to see.
_TO_UPSTREAM: Final = frozenset(
    (
        b"content-type",
        b"accept",
        b"mcp-protocol-version",
        b"mcp-method",
        b"mcp-name",
        b"traceparent",
        b"tracestate",
    )
)
_PARAMETER_PREFIX: Final = b"mcp-param-"

# Twice the same of these and two readers could pick different ones (T6).
_SINGLE: Final = frozenset(
    (
        b"host",
        b"origin",
        b"content-type",
        b"content-length",
        b"mcp-protocol-version",
        b"mcp-method",
        b"mcp-name",
        b"mcp-session-id",
        b"last-event-id",
        b"traceparent",
    )
)

# Besides Content-Type, which is not passed as it came.
TO_CLIENT: Final = (b"retry-after", b"mcp-protocol-version")


def duplicated(raw: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Name of a header that came twice though it may come once, or None. Names in lower case."""
    seen: set[bytes] = set()
    for name, _ in raw:
        if name in seen and (name in _SINGLE or name.startswith(_PARAMETER_PREFIX)):
            return name
        seen.add(name)
    return None


def joined(raw: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers as a mapping; repeated list headers (such as Accept) joined with commas (RFC 9110 5.3)."""
    headers: dict[bytes, bytes] = {}
    for name, value in raw:
        headers[name] = headers[name] + b", " + value if name in headers else value
    return headers


def upstream_lines(
    headers: Mapping[bytes, bytes], allowed: frozenset[bytes], reserved: frozenset[bytes], agent: bytes
) -> bytes:
    """The client's headers that go upstream, as header lines.

    `allowed` are further names that the server's manager let through; `reserved` are set by the gateway itself
    for this server (credential, static headers), which win. `agent` is our own part of the User-Agent.
    """
    if allowed and (connection := headers.get(b"connection")):
        # For this connection only (RFC 9110 7.6.1). MCP's own headers are for the upstream whatever it says.
        allowed -= {option.strip(b" \t").lower() for option in connection.split(b",")}
    lines: list[bytes] = []
    for name, value in headers.items():
        passes = name in _TO_UPSTREAM or name.startswith(_PARAMETER_PREFIX) or name in allowed
        if passes and name not in reserved:
            lines += (name, b": ", value.strip(b" \t"), b"\r\n")
    client_agent = headers.get(b"user-agent")
    lines.append(b"user-agent: %b %b\r\n" % (client_agent, agent) if client_agent else b"user-agent: %b\r\n" % agent)
    return b"".join(lines)
