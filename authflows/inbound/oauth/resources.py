"""Resource indicators (RFC 8707): the one thing of ours that a token is good for (AZ-13, AZ-14, promise 2).

That is one MCP URL, or the Gateway API: never both, and never two of either.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

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


class GatewayApi(NamedTuple):
    """The Gateway API: a resource of its own, whose tokens open no MCP URL."""

    path: str = "/api/v1"


GATEWAY_API: Final = GatewayApi()


def parse(resource: str) -> McpUrl | GatewayApi | None:
    """What of ours on our public origin this names, compared byte for byte; None for anything else.

    Does not look whether there is such a server (RS-13).
    """
    if not resource.startswith(settings.PUBLIC_URL):
        return None
    path = resource[len(settings.PUBLIC_URL) :]
    if path == GATEWAY_API.path:
        return GATEWAY_API
    found = _MCP_PATH.fullmatch(path)
    return McpUrl(*found.groups()) if found else None


def resource_of(named: McpUrl | GatewayApi) -> str:
    """The resource indicator of something of ours; the inverse of `parse`."""
    return f"{settings.PUBLIC_URL}{named.path}"


def resources_of(server: Server | None) -> list[str]:
    """Every resource indicator that names this server; None: the Gateway API, as in approvals."""
    if server is None:
        return [resource_of(GATEWAY_API)]
    return [resource_of(McpUrl(server.tenant.slug, server.slug, endpoint)) for endpoint in ("server", "mcp")]
