"""No Auth: the upstream asks for nothing (F-301)."""

from __future__ import annotations

from servers.models.servers import AuthConfig, Server


def headers(server: Server, config: AuthConfig) -> list[tuple[str, str]]:
    """No header at all."""
    return []
