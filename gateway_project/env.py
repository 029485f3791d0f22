"""Readers for environment variables: the only place that touches `os.environ`.

Every reader refuses what it does not understand, so that a typing error stops the start instead of
silently choosing a default. A secret can come from a file: `NAME_FILE` names it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

PREFIX = "GATEHOUSE_"
# The variable that a client keeps its key in, as How To Use shows it: not ours, but often in the same shell.
_OF_CLIENTS = frozenset({"GATEHOUSE_KEY"})
_known: set[str] = set()


def env_text(name: str, default: str | None = None) -> str:
    """The variable's text; raises ImproperlyConfigured when it is missing and has no default."""
    _known.add(name)
    value = os.environ.get(name)
    if value is None or value == "":
        if default is None:
            raise ImproperlyConfigured(f"{name} is not set.")
        return default
    return value


def env_choice(name: str, default: str, choices: Iterable[str]) -> str:
    """One of `choices`."""
    value = env_text(name, default)
    if value not in set(choices):
        raise ImproperlyConfigured(f"{name} is {value!r}; use one of {', '.join(choices)}.")
    return value


def env_bool(name: str, default: bool) -> bool:
    """`true` or `false`, nothing else."""
    return env_choice(name, "true" if default else "false", ("true", "false")) == "true"


def env_int(name: str, default: int, *, minimum: int = 0) -> int:
    """A whole number of at least `minimum`."""
    text = env_text(name, str(default))
    if not text.isdecimal() or int(text) < minimum:
        raise ImproperlyConfigured(f"{name} is {text!r}; use a whole number from {minimum} up.")
    return int(text)


def env_list(name: str, default: str = "") -> list[str]:
    """Comma-separated items, blanks removed."""
    return [item.strip() for item in env_text(name, default).split(",") if item.strip()]


def env_origin(name: str, default: str) -> str:
    """An origin such as `https://gw.example.com`: http or https, a host, no path, no trailing slash."""
    text = env_text(name, default)
    try:
        parts = urlsplit(text)
        good = parts.hostname and parts.port != 0 and text in (f"http://{parts.netloc}", f"https://{parts.netloc}")
    except ValueError:
        good = False
    if not good or re.search(r"[@\s\\]", text):
        raise ImproperlyConfigured(
            f"{name} is {text!r}; use an origin like https://gw.example.com, without a path or slash."
        )
    return text


def env_secret(name: str, default_file: Path | None = None, default: str | None = None) -> str:
    """A secret: from NAME, else from the file that NAME_FILE names, else from `default_file`, else `default`.

    Setting both NAME and NAME_FILE is refused, since one of them would be ignored.
    """
    _known.update({name, f"{name}_FILE"})
    value, file_name = os.environ.get(name), os.environ.get(f"{name}_FILE")
    if value and file_name:
        raise ImproperlyConfigured(f"Both {name} and {name}_FILE are set; keep one.")
    if value:
        return value
    path = Path(file_name) if file_name else default_file
    if path is None and default is not None:
        return default
    if path is None or not path.exists():
        hint = f" (looked for {path})" if path else ""
        raise ImproperlyConfigured(
            f"{name} is not set{hint}. Set {name} or {name}_FILE, "
            "or run `python -m gateway_project.keys` to make the key files."
        )
    try:
        return path.read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(f"{name}_FILE: cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ImproperlyConfigured(f"{name}_FILE: {path} is not a text.") from error


def refuse_unknown() -> None:
    """Raise for any `GATEHOUSE_...` variable that no reader asked for: it is a typing error."""
    unknown = sorted(k for k in os.environ if k.startswith(PREFIX) and k not in _known | _OF_CLIENTS)
    if unknown:
        raise ImproperlyConfigured(f"Unknown settings in the environment: {', '.join(unknown)}.")


def known_settings() -> frozenset[str]:
    """Names of all settings that were read; the documentation is tested against it."""
    return frozenset(_known)
