"""Which server somebody means: from what they pasted or typed."""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from servers.models import Server

_SLUG: Final = r"[a-z0-9][a-z0-9-]{0,62}"
_MCP: Final = re.compile(rf"/({_SLUG})/mcp/({_SLUG})(?:/(?:server|mcp|key))?")
_SHORT: Final = re.compile(rf"({_SLUG})/({_SLUG})")
LONGEST: Final = 500


class Place(NamedTuple):
    """Slugs of a tenant and of a server."""

    tenant: str
    slug: str


def place_in(text: str) -> Place | None:
    """The place that an MCP URL of ours, its path, or `tenant/server` names; None for anything else. Pure."""
    text = text.strip()[:LONGEST]
    try:
        path = urlsplit(text).path if "://" in text else text
    except ValueError:
        return None
    found = _MCP.fullmatch(path.rstrip("/")) or _SHORT.fullmatch(path.strip("/"))
    return Place(*found.groups()) if found else None


def server_at(place: Place) -> Server | None:
    """The server there, with its tenant, group and authentication, or None. Whether anybody may know is not asked."""
    rows = Server.objects.select_related("tenant", "group", "auth_config")
    return rows.filter(tenant__slug=place.tenant, slug=place.slug).first()
