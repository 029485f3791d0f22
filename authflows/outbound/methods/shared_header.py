"""Header Auth, shared: fixed headers, the same for every caller; values by secret reference (F-302)."""

from __future__ import annotations

from servers.models.servers import AuthConfig, Server
from servers.secrets.resolver import fill


def headers(server: Server, config: AuthConfig) -> list[tuple[str, str]]:
    """The configured headers with their references filled in; raises SecretUnavailable."""
    return [(name, fill(template, server.tenant)) for name, template in config.header_templates()]
