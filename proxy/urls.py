"""Pages of this package on the Django side. MCP paths never come here."""

from __future__ import annotations

from django.contrib import admin
from django.urls import path

from proxy import views
from proxy.playground import chat, door, pages

urlpatterns = [
    path("portal/playground/", pages.playground, name="playground"),
    path("portal/playground/servers/", pages.servers, name="playground-servers"),
    path("portal/playground/chat", chat.chat, name="playground-chat"),
    path("portal/playground/<slug:tenant>/<slug:slug>/mcp", door.mcp, name="playground-mcp"),
    path("admin/test-connection/", admin.site.admin_view(views.test_draft), name="test-connection-draft"),
    path("admin/test-connection/<uuid:server_id>/", admin.site.admin_view(views.test_server), name="test-connection"),
]
