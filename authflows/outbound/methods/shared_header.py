"""Header Auth, shared: fixed headers, the same for every caller; values by secret reference (F-302)."""

from __future__ import annotations

from collections.abc import Iterable

from servers.errors import SecretUnavailable
from servers.models.servers import AuthConfig, Server
from servers.models.tenants import Tenant
from servers.secrets.resolver import fill


def headers(server: Server, config: AuthConfig) -> list[tuple[str, str]]:
    """The configured headers with their references filled in; raises SecretUnavailable."""
    return filled(config.header_templates(), server.tenant)


def filled(templates: Iterable[tuple[str, str]], tenant: Tenant) -> list[tuple[str, str]]:
    """Header templates with the tenant's secrets in place of their references; raises SecretUnavailable."""
    return [_checked(name, fill(template, tenant)) for name, template in templates]


def _checked(name: str, value: str) -> tuple[str, str]:
    # What a secret holds is seen only now; a line break in it would begin another header (T53).
    if any(not (" " <= character <= "~" or character == "\t") for character in value):
        raise SecretUnavailable(
            f"The value of the header {name} has a line break or a character that no header may hold. "
            "Set its secret again."
        )
    return name, value
