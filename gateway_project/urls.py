"""The URL map of the Django side. MCP paths never come here: see asgi.py."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path, re_path

from authflows.views import authorize, client_document, connect, metadata, registration, token, upstream_setup
from gateway_project import health

urlpatterns = [
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path(
        ".well-known/oauth-protected-resource/<path:path>",
        metadata.protected_resource,
        name="protected-resource-metadata",
    ),
    path(
        ".well-known/oauth-authorization-server",
        metadata.authorization_server,
        name="authorization-server-metadata",
    ),
    path(".well-known/openid-configuration", metadata.authorization_server, name="openid-configuration"),
    # What providers read of us.
    path(".well-known/oauth-client/jwks", client_document.keys, name="client-keys"),
    path(".well-known/oauth-client/<str:name>", client_document.document, name="client-document"),
    path(".well-known/<path:path>", metadata.unknown),
    # Clients write these with and without a slash at the end; nothing is redirected.
    re_path(r"^authorize/?$", authorize.authorize, name="authorize"),
    path("authorize/<str:pending_id>", authorize.pending, name="authorize-pending"),
    re_path(r"^register/?$", registration.register, name="register"),
    re_path(r"^token/?$", token.token, name="token"),
    re_path(r"^revoke/?$", token.revoke, name="revoke-token"),
    # Pasted by admins at providers: never changed.
    path("api/svc/v1/llm-gateway/mcp-servers/oauth2/callback", connect.callback, name="oauth2-callback"),
    path("", include("proxy.api.urls")),
    path("", include("proxy.urls")),
    # Before the admin, which takes all that is below it.
    path("admin/discover/", admin.site.admin_view(upstream_setup.discover_draft), name="discover-draft"),
    path("admin/what-will-happen/", admin.site.admin_view(upstream_setup.plan_draft), name="plan-draft"),
    path("", include("authflows.help_urls")),
    path("admin/", admin.site.urls),
    path("", include("authflows.urls")),
]
