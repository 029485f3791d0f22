"""The Base64 sentinel of MCP header values, `=?base64?…?=` (SV-1). Pure."""

from __future__ import annotations

import base64
import re
from typing import Final

_START: Final = "=?base64?"
_END: Final = "?="
_SAFE: Final = re.compile(r"[\x20-\x7e]*")


def encode_header_value(value: str) -> str:
    """The header value that stands for a text: itself where that survives the way, else in the sentinel."""
    looks_encoded = value.startswith(_START) and value.endswith(_END)
    if _SAFE.fullmatch(value) and value == value.strip() and not looks_encoded:
        return value
    return f"{_START}{base64.b64encode(value.encode()).decode()}{_END}"


def decode_header_value(value: str) -> str | None:
    """The text a header value stands for; None when its sentinel is malformed or not canonical Base64."""
    if not (value.startswith(_START) and value.endswith(_END) and len(value) >= len(_START) + len(_END)):
        return value
    payload = value[len(_START) : -len(_END)]
    try:
        decoded = base64.b64decode(payload, validate=True)
        # Base64 with stray trailing bits decodes too; two spellings of one name would be a differential.
        if base64.b64encode(decoded).decode() != payload:
            return None
        return decoded.decode()
    except ValueError:
        # Also what b64decode says to letters outside ASCII, besides its own error and that of the decoding.
        return None
