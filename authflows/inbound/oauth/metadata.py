"""The RFC 9728 document of each MCP URL, and of the Gateway API (RS-1 to RS-4, RS-6).

Computed from the path alone, so that it does not tell whether a server exists (RS-13).
"""

from __future__ import annotations

from typing import Any

from django.conf import settings

from authflows.inbound.oauth.resources import GatewayApi, parse, resource_of


def protected_resource(path: str) -> dict[str, Any] | None:
    """The document of what is at `path` (no leading slash), or None when that is neither MCP URL nor API.

    The `/key` endpoint has none on purpose: its clients must not start an OAuth discovery.
    """
    named = parse(f"{settings.PUBLIC_URL}/{path}")
    if named is None:
        return None
    is_api = isinstance(named, GatewayApi)
    return {
        "resource": resource_of(named),
        "authorization_servers": [settings.PUBLIC_URL],
        # `offline_access` is none of the resource's business; it stands in the authorization server's document.
        "scopes_supported": ["mcp"],
        "bearer_methods_supported": ["header"],
        "resource_name": "Gateway API of Gatehouse" if is_api else "MCP server behind Gatehouse",
    }
