"""What can be wrong with a tool's JSON Schemas. Pure; nothing is ever resolved, and no walk recurses (CL-28, T36)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

HEADER_ANNOTATION: Final = "x-mcp-header"
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_CARRIED_TYPES: Final = ("string", "integer", "boolean")

# Keywords of JSON Schema 2020-12 whose values are schemas, by the form of the value. Those that hold data (`default`,
# `examples`, `const`, `enum`) are not among them, and references are not followed.
_ONE_SCHEMA: Final = frozenset(
    {
        "items",
        "contains",
        "unevaluatedItems",
        "additionalProperties",
        "propertyNames",
        "unevaluatedProperties",
        "not",
        "if",
        "then",
        "else",
        "contentSchema",
    }
)
_LISTS_OF_SCHEMAS: Final = frozenset({"allOf", "anyOf", "oneOf", "prefixItems"})
_NAMED_SCHEMAS: Final = frozenset({"patternProperties", "dependentSchemas", "$defs", "definitions"})

_REFERENCES: Final = ("$ref", "$dynamicRef", "$recursiveRef")
_DATA: Final = frozenset({"default", "examples", "example", "const", "enum"})
_NAMES: Final = _NAMED_SCHEMAS | {"properties", "dependencies"}


def is_deeper_than(value: Any, levels: int) -> bool:
    """Whether objects and lists are nested more than so many levels."""
    level = [value]
    for _ in range(levels):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: Any) -> list[Any]:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [one for one in inside if isinstance(one, dict | list)]


def reference_outside(schema: Any) -> str | None:
    """The first reference that leads out of the schema itself, or None."""
    stack: list[tuple[Any, bool]] = [(schema, False)]
    while stack:
        node, names = stack.pop()
        if isinstance(node, list):
            stack += [(one, False) for one in node]
        elif isinstance(node, dict):
            for keyword, value in node.items():
                if names:
                    stack.append((value, False))
                elif keyword in _REFERENCES and isinstance(value, str) and not value.startswith("#"):
                    return value
                elif keyword not in _DATA:
                    stack.append((value, keyword in _NAMES))
    return None


def bad_header_annotation(schema: Any) -> str | None:
    """What is wrong with the first `x-mcp-header` that breaks the rules, or None (CL-23).

    Each has to stand on a property that is reached through `properties` alone, be a header name in form, carry
    a text, a whole number or a truth value, and be the only one of its name, whatever the case.
    """
    seen: dict[str, str] = {}
    for path, node in _positions(schema):
        if HEADER_ANNOTATION not in node:
            continue
        if not path:
            return f"{HEADER_ANNOTATION} stands where no property is reached by its name alone"
        where, name, kind = ".".join(path), node[HEADER_ANNOTATION], node.get("type")
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            return f"{HEADER_ANNOTATION} of the property {where} is not a header name"
        if not isinstance(kind, str) or kind not in _CARRIED_TYPES:
            return f"{HEADER_ANNOTATION} stands on the property {where}, which is no text, whole number or truth value"
        if name.lower() in seen:
            return f"{HEADER_ANNOTATION} {name} stands on two properties: {seen[name.lower()]} and {where}"
        seen[name.lower()] = where
    return None


def _positions(root: Any) -> Iterator[tuple[tuple[str, ...] | None, dict[str, Any]]]:
    """Every schema in the schema, with the names that lead to it; None: not by names alone."""
    stack: list[tuple[tuple[str, ...] | None, Any]] = [((), root)]
    while stack:
        path, node = stack.pop()
        if not isinstance(node, dict):
            continue
        yield path, node
        for keyword, value in node.items():
            if keyword == "properties" and isinstance(value, dict):
                stack += [((*path, name) if path is not None else None, inner) for name, inner in value.items()]
            elif keyword in _ONE_SCHEMA:
                stack.append((None, value))
            elif keyword in _LISTS_OF_SCHEMAS and isinstance(value, list):
                stack += [(None, inner) for inner in value]
            elif keyword in _NAMED_SCHEMAS and isinstance(value, dict):
                stack += [(None, inner) for inner in value.values()]
