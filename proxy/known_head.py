"""The head of a connection's last request, to know it again: clients send the same one with every call.

Equal bytes mean equal things, so a head that is known byte for byte, but for the digits of its Content-Length, is
not parsed again. Only the plainest requests are remembered: one POST with a declared length, complete in one packet
with its body. Everything else goes through the parser, which is also who read the head in the first place.
"""

from __future__ import annotations

from typing import Any, Final

KEPT: Final = "gatehouse.kept"
"""Key in the ASGI scope: a dict for what the application wants to keep with a known head."""

_HEAD_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"\r\ncontent-length: "
_MOST_DIGITS: Final = 12
# These change how a request is read, or what is owed to the client before its answer.
_NOT_PLAIN: Final = frozenset((b"transfer-encoding", b"upgrade", b"expect"))


class KnownHead:
    """A head that the parser has read, and the ASGI scope that was made of it."""

    __slots__ = ("_after", "_before", "_headers", "_length_at", "_scope")

    def __init__(self, before: bytes, after: bytes, scope: dict[str, Any], length_at: int) -> None:
        self._before = before
        """Everything up to the digits of Content-Length."""
        self._after = after
        """Everything behind them, up to the body."""
        self._scope = {**scope, KEPT: {}}
        self._headers: list[tuple[bytes, bytes]] = scope["headers"].copy()
        self._length_at = length_at

    def again(self, data: bytes) -> tuple[dict[str, Any], bytes] | None:
        """Scope and body, if the bytes are this head with a complete body and nothing else."""
        before = self._before
        if not data.startswith(before):
            return None
        start = len(before)
        end = data.find(b"\r", start, start + _MOST_DIGITS)
        digits = data[start:end]
        if end < 0 or not digits.isdigit() or not data.startswith(self._after, end):
            return None
        body = data[end + len(self._after) :]
        if len(body) != int(digits):
            return None
        headers = self._headers.copy()
        headers[self._length_at] = (b"content-length", digits)
        return {**self._scope, "headers": headers}, body


def known_head(data: bytes, scope: dict[str, Any]) -> KnownHead | None:
    """Remember the head of a request that was read from `data`; None when it is not of the plainest kind.

    To be called with bytes that the parser took for exactly one complete request on a connection that stays open.
    """
    names = [name for name, _ in scope["headers"]]
    if scope["method"] != "POST" or names.count(b"content-length") != 1 or not _NOT_PLAIN.isdisjoint(names):
        return None
    head_length = data.find(_HEAD_END) + len(_HEAD_END)
    length_at = names.index(b"content-length")
    digits = scope["headers"][length_at][1]
    start = data[:head_length].lower().find(_LENGTH) + len(_LENGTH)
    end = start + len(digits)
    if data[start:end] != digits or len(data) - head_length != int(digits):
        return None
    return KnownHead(data[:start], data[end:head_length], scope, length_at)
