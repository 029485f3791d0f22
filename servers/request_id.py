"""The id that ties one request's log lines, records and answers together."""

from __future__ import annotations

import secrets
from contextvars import ContextVar

_current: ContextVar[str] = ContextVar("request_id", default="")


def new_request_id() -> str:
    """A fresh id: 96 random bits, URL-safe."""
    return secrets.token_urlsafe(12)


def current_request_id() -> str:
    """The id of the request that is being served, or an empty text."""
    return _current.get()


def set_request_id(value: str) -> None:
    """Name the request that the current context serves."""
    _current.set(value)
