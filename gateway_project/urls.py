"""The URL map of the Django side. MCP paths never come here: see asgi.py."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from gateway_project import health

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("", include("proxy.urls")),
    path("admin/", admin.site.urls),
    path("", include("authflows.urls")),
]
