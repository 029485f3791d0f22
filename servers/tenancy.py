"""The default tenant, which a fresh installation starts with."""

from __future__ import annotations

from servers.models.tenants import DEFAULT_TENANT_SLUG, Tenant


def default_tenant() -> Tenant:
    """The default tenant; a migration makes it."""
    return Tenant.objects.get(slug=DEFAULT_TENANT_SLUG)
