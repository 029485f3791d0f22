from __future__ import annotations

from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class GatehouseAdminConfig(AdminConfig):
    """Django's admin under our own site object."""

    default_site = "gateway_project.admin_site.GatehouseAdminSite"


class GatewayProjectConfig(AppConfig):
    name = "gateway_project"
    verbose_name = "Gatehouse"

    def ready(self) -> None:
        from gateway_project import checks  # noqa: F401  (registers the system checks)
