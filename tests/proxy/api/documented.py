"""Answers of the API against its OpenAPI document: what is answered is what is written."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import yaml
from django.conf import settings
from django.urls import resolve
from jsonschema import Draft202012Validator

from proxy.api.document import DOCUMENT


@cache
def document() -> dict[str, Any]:
    """The committed document."""
    found: dict[str, Any] = yaml.safe_load((settings.BASE_DIR / DOCUMENT).read_text())
    return found


def operation_at(method: str, path: str) -> dict[str, Any] | None:
    """What the document says of a request; None: nothing."""
    route = "/" + re.sub(r"<\w+:(\w+)>", r"{\1}", resolve(path).route)
    found: dict[str, Any] | None = document()["paths"].get(route, {}).get(method.lower())
    return found


def check_answer(method: str, path: str, *, status: int, content_type: str, body: Any) -> None:
    """Raise AssertionError unless the document has this answer."""
    operation = operation_at(method, path.partition("?")[0])
    if operation is None:
        assert status in (404, 405), f"{method} {path} is not in the document"
        return
    assert str(status) in operation["responses"], f"{method} {path}: {status} is not in the document"
    content = operation["responses"][str(status)].get("content", {})
    if not content:
        return
    assert content_type in content, f"{method} {path}: {content_type}"
    schema = {**content[content_type]["schema"], "components": document()["components"]}
    Draft202012Validator(schema).validate(body)
