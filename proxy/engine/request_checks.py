"""What a request has to say of itself before the engine serves it, as a server of its era would ask. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from proxy.engine.parameter_headers import PREFIX, ParameterPaths, rendered, value_at
from proxy.engine.wire import (
    CAPABILITIES_KEY,
    LEGACY_VERSIONS,
    MODERN_VERSION,
    UNSUPPORTED_VERSION,
    VERSION_KEY,
    Refusal,
)
from proxy.header_values import decode_header_value
from proxy.messages import HEADER_MISMATCH, INVALID_PARAMS, Kind, Message

_DECIMAL: Final = re.compile(r"(-?[0-9]+)(\.0+)?")
_MOST_LETTERS: Final = 60


def check_modern(message: Message, params: Mapping[str, Any]) -> None:
    """Raises Refusal when a modern request does not say all that it has to, or asks for a version that is not ours."""
    if message.kind is not Kind.REQUEST:
        return
    meta = params.get("_meta")
    missing = [key for key in (VERSION_KEY, CAPABILITIES_KEY) if not isinstance(meta, dict) or key not in meta]
    if missing or not isinstance(meta, dict):
        raise Refusal(INVALID_PARAMS, f"`params._meta` lacks {' and '.join(f'`{key}`' for key in missing)}.")
    if not isinstance(meta[CAPABILITIES_KEY], dict):
        raise Refusal(INVALID_PARAMS, f"`{CAPABILITIES_KEY}` must be an object.")
    if message.version != MODERN_VERSION:
        data = {"supported": [MODERN_VERSION], "requested": message.version[:_MOST_LETTERS]}
        raise Refusal(UNSUPPORTED_VERSION, "Unsupported protocol version", data)


def unknown_legacy_version(message: Message) -> str:
    """What is wrong with the version header of an older client, or an empty text; not all of them send one."""
    version = message.version
    if not version or version in LEGACY_VERSIONS or message.method == "initialize":
        return ""
    return f"Unsupported protocol version: {version[:_MOST_LETTERS]}. Supported versions: {', '.join(LEGACY_VERSIONS)}."


def check_parameters(paths: ParameterPaths, arguments: Any, headers: Mapping[bytes, bytes]) -> None:
    """Raises Refusal when the headers of a tool's parameters and its arguments disagree (CL-22, T37)."""
    for path, name in paths:
        raw = headers.get(name.encode("latin-1"))
        value = rendered(value_at(arguments, path))
        if value is None and raw is None:
            continue
        header, argument = f"Mcp-Param-{name.removeprefix(PREFIX)}", ".".join(path)
        if raw is None:
            raise _mismatch(f"{header} is missing, and the body has `{argument}`")
        said = decode_header_value(raw.decode("latin-1").strip(" \t"))
        if value is None or said is None or not _same(said, value):
            raise _mismatch(f"{header} differs from `{argument}` in the body")


def _same(said: str, value: str) -> bool:
    if said == value:
        return True
    one, other = _DECIMAL.fullmatch(said), _DECIMAL.fullmatch(value)
    # 42 and 42.0 are one number. Compared as text: a number may have more digits than Python cares to convert.
    return one is not None and other is not None and one[1] == other[1]


def _mismatch(what: str) -> Refusal:
    return Refusal(HEADER_MISMATCH, f"Header mismatch: {what}.")
