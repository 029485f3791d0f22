"""Resource indicators (RFC 8707): the one MCP URL of ours that a token is good for (AZ-13, AZ-14, promise 2)."""

from __future__ import annotations

import re
from typing import NamedTuple

from django.conf import settings

from servers.models import Server

# Not `/key`: that endpoint is for clients without OAuth. Slugs are as in `servers.models.fields.SLUG`.
_SLUG = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_MCP_PATH = re.compile(rf"/({_SLUG})/mcp/({_SLUG})/(server|mcp)")


class McpUrl(NamedTuple):
    """What an MCP URL of ours names."""

    tenant: str
    slug: str
    endpoint: str

    @property
    def path(self) -> str:
        """The path, with its leading slash."""
        return f"/{self.tenant}/mcp/{self.slug}/{self.endpoint}"


def parse(resource: str) -> McpUrl | None:
    """The parts of an MCP URL on our public origin, compared byte for byte; None for anything else.

    Does not look whether there is such a server (RS-13).
    """
    if not resource.startswith(settings.PUBLIC_URL):
        return None
    found = _MCP_PATH.fullmatch(resource[len(settings.PUBLIC_URL) :])
    return McpUrl(*found.groups()) if found else None


def resource_of(url: McpUrl) -> str:
    """The resource indicator of an MCP URL; the inverse of `parse`."""
    return f"{settings.PUBLIC_URL}{url.path}"


def resources_of(server: Server) -> list[str]:
    """Every resource indicator that names this server."""
    return [resource_of(McpUrl(server.tenant.slug, server.slug, endpoint)) for endpoint in ("server", "mcp")]


def server_of(resource: str) -> Server | None:
    """The server that a resource indicator names, with its tenant, or None. One query."""
    url = parse(resource)
    if url is None:
        return None
    return Server.objects.select_related("tenant", "group").filter(tenant__slug=url.tenant, slug=url.slug).first()
