"""The RFC 9728 document of each MCP URL (RS-1 to RS-4).

Computed from the path alone, so that it does not tell whether a server exists (RS-13).
"""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, JsonResponse
from django.views.decorators.http import require_safe

# The `/key` endpoint has none on purpose: its clients must not start an OAuth discovery.
_MCP_PATH = re.compile(r"[^/]+/mcp/[^/]+/(?:server|mcp)")


def protected_resource(path: str) -> dict[str, Any] | None:
    """The document of the MCP URL at `path` (no leading slash), or None when that is not an MCP path."""
    if not _MCP_PATH.fullmatch(path):
        return None
    return {
        "resource": f"{settings.PUBLIC_URL}/{path}",
        "scopes_supported": ["mcp"],
        "bearer_methods_supported": ["header"],
        "resource_name": "MCP server behind Gatehouse",
    }


@login_not_required
@require_safe
def protected_resource_view(request: HttpRequest, path: str) -> JsonResponse:
    """The document, readable from any web page (RS-15)."""
    document = protected_resource(path)
    response = JsonResponse(document or {"error": "not an MCP URL"}, status=200 if document else 404)
    response["Access-Control-Allow-Origin"] = "*"
    return response
