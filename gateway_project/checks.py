"""Our own system checks, run by every command and by `check --deploy`. Ids: gateway.E… and gateway.W…"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register


@register(Tags.security, deploy=True)
def public_url_is_https(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """A gateway that others reach needs https: keys travel in headers."""
    if settings.HTTPS:
        return []
    return [
        Warning(
            "GATEHOUSE_PUBLIC_URL is plain http, which is for trying on one machine only.",
            hint="Set GATEHOUSE_PUBLIC_URL=https://… and put a TLS proxy in front, or give `serve` a certificate.",
            id="gateway.W001",
        )
    ]


@register(Tags.security)
def key_files_are_private(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """Nobody but the owner may read the key files."""
    found: list[CheckMessage] = []
    for name in ("secret_key", "key_ring"):
        path = settings.DATA_DIR / name
        if path.exists() and path.stat().st_mode & 0o077:
            found.append(Error(f"{path} can be read by others.", hint=f"Run: chmod 600 {path}", id="gateway.E001"))
    return found


@register(Tags.files)
def sqlite_is_for_one_machine(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """SQLite keeps its file's folder; it must exist and be writable."""
    config = settings.DATABASES["default"]
    if config["ENGINE"].endswith("sqlite3"):
        folder = settings.DATA_DIR
        name = str(config["NAME"])
        if name.startswith(str(folder)) and not folder.is_dir():
            return [
                Error(
                    f"The data folder {folder} does not exist.",
                    hint="Run `python -m gateway_project.keys`, or set GATEHOUSE_DATA_DIR.",
                    id="gateway.E002",
                )
            ]
    return []
