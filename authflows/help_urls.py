"""Why can't I?, and the help pages."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from authflows.admin import explain as admin_explain
from authflows.views import explain, help

urlpatterns = [
    path("admin/why/", admin.site.admin_view(admin_explain.why), name="admin-why"),
    path("portal/why/", explain.why, name="why"),
    path("portal/help/", help.topics, name="help"),
    path("portal/help/<slug:name>/", help.topic, name="help-topic"),
]
