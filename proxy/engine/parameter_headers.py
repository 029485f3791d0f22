"""`Mcp-Param-*` headers, made anew from the arguments of a call (CL-22). Pure; tests compare with the SDK."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from proxy.header_values import encode_header_value

ANNOTATION: Final = "x-mcp-header"
PREFIX: Final = "mcp-param-"
_DEEPEST: Final = 32

ParameterPaths = tuple[tuple[tuple[str, ...], str], ...]
"""Pairs of the path to a property and the header's name."""


def annotated(definition: str) -> ParameterPaths:
    """The properties of a tool's input schema that are mirrored into headers; most tools have none."""
    if ANNOTATION not in definition:
        return ()
    schema = json.loads(definition).get("inputSchema")
    return tuple(_annotated(schema, (), _DEEPEST)) if isinstance(schema, dict) else ()


def _annotated(schema: Mapping[str, Any], path: tuple[str, ...], deeper: int) -> Iterator[tuple[tuple[str, ...], str]]:
    token = schema.get(ANNOTATION)
    if path and isinstance(token, str):
        yield path, PREFIX + token.lower()
    properties = schema.get("properties")
    if deeper and isinstance(properties, dict):
        for name, inner in properties.items():
            if isinstance(inner, dict):
                yield from _annotated(inner, (*path, name), deeper - 1)


def parameter_headers(paths: ParameterPaths, arguments: Any) -> dict[bytes, bytes]:
    """The headers for these arguments; none for what is missing, null, or no plain value."""
    headers: dict[bytes, bytes] = {}
    for path, name in paths:
        text = rendered(value_at(arguments, path))
        if text is not None:
            headers[name.encode("latin-1")] = encode_header_value(text).encode("latin-1")
    return headers


def value_at(arguments: Any, path: tuple[str, ...]) -> Any:
    """The argument at a path of property names; None where there is none."""
    value = arguments
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def rendered(value: Any) -> str | None:
    """A plain value as a header says it, before encoding; None for everything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int | float) else None
