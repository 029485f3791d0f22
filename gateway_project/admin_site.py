"""Our AdminSite: Django's stock admin with our name, open to staff, tenant admins and managers."""

from __future__ import annotations

from django.contrib import admin


class GatehouseAdminSite(admin.AdminSite):
    """The admin of platform admins and of managers."""

    site_header = "Gatehouse"
    site_title = "Gatehouse"
    index_title = "Administration"
