"""The admin pages of this package, one module per subject. Who sees what: `servers.scope`."""

from __future__ import annotations

from servers.admin import (
    access_requests,
    catalogue_items,
    groups,
    model_endpoints,
    people,
    records,
    secrets,
    servers,
    tenants,
)

__all__ = [
    "access_requests",
    "catalogue_items",
    "groups",
    "model_endpoints",
    "people",
    "records",
    "secrets",
    "servers",
    "tenants",
]
