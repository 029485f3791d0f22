"""A member's answer in the era of the client (the matrix of virtual servers). Pure."""

from __future__ import annotations

from typing import Any, Final

from proxy.engine.wire import (
    CACHEABLE,
    INTERNAL_ERROR,
    MISSING_CAPABILITY,
    PROTOCOL_PREFIX,
    RESOURCE_NOT_FOUND,
    UNSUPPORTED_VERSION,
)
from proxy.messages import HEADER_MISMATCH, INVALID_PARAMS

_MODERN_ONLY: Final = ("resultType", "ttlMs", "cacheScope")
_ABOUT_OUR_REQUEST: Final = (HEADER_MISMATCH, UNSUPPORTED_VERSION)


def result_for(method: str, result: dict[str, Any], *, from_modern: bool, to_modern: bool) -> dict[str, Any]:
    """A result as the client's era has it. What the protocol does not name travels on untouched."""
    if to_modern:
        found = result if from_modern else {**result, "resultType": "complete"}
        if method in CACHEABLE:
            # Whatever the member says: with us it depends on who asks (T45).
            found = {**found, "ttlMs": _lifetime(found.get("ttlMs")) if from_modern else 0, "cacheScope": "private"}
        return found
    if not from_modern:
        return result
    found = {name: value for name, value in result.items() if name not in _MODERN_ONLY}
    meta = found.get("_meta")
    if isinstance(meta, dict):
        kept = {name: value for name, value in meta.items() if not name.startswith(PROTOCOL_PREFIX)}
        found.pop("_meta")
        if kept:
            found["_meta"] = kept
    return found


def _lifetime(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0


def error_for(error: Any, *, from_modern: bool, to_modern: bool) -> dict[str, Any]:
    """A JSON-RPC error as the client's era has it; its code and text are the member's."""
    if not isinstance(error, dict):
        return {"code": INTERNAL_ERROR, "message": "The server answered with an error that is none."}
    code, text = error.get("code"), error.get("message")
    found: dict[str, Any] = {
        "code": code if type(code) is int else INTERNAL_ERROR,
        "message": text if isinstance(text, str) else "The server answered with an error without text.",
    }
    if "data" in error:
        found["data"] = error["data"]
    if to_modern and not from_modern and code == RESOURCE_NOT_FOUND:
        found["code"] = INVALID_PARAMS
    if from_modern and (code in _ABOUT_OUR_REQUEST or (code == MISSING_CAPABILITY and not to_modern)):
        # It is about our request, not about the client's; or older clients do not know what it means.
        return {"code": INTERNAL_ERROR, "message": f"The server and the gateway do not agree: {found['message']}"}
    return found
