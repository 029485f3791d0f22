"""The list of static files, made once for the test run instead of for each `django.test.Client`."""

from __future__ import annotations

from whitenoise.middleware import WhiteNoiseMiddleware

_list_files = WhiteNoiseMiddleware.add_files_from_finders
_found: dict[str, dict[str, object]] = {}


def _add_known_files(middleware: WhiteNoiseMiddleware) -> None:
    if middleware.static_prefix not in _found:
        _list_files(middleware)
        _found[middleware.static_prefix] = dict(middleware.files)
    middleware.files.update(_found[middleware.static_prefix])


def list_once() -> None:
    """From now on."""
    WhiteNoiseMiddleware.add_files_from_finders = _add_known_files
