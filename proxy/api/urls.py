"""The paths of the Gateway API. They are stable: a change that breaks callers is another version."""

from __future__ import annotations

from django.urls import path, re_path

from proxy.api import access_requests, aliases, calls, connections, document, explanations, own_keys, servers

_SERVER = "api/v1/servers/<slug:tenant>/<slug:slug>"
urlpatterns = [
    path("api/v1/openapi.yaml", document.openapi, name="api-openapi"),
    path("api/v1/problems/<slug:code>", document.OneProblem.as_view(), name="api-problem"),
    path("api/v1/me", servers.Me.as_view(), name="api-me"),
    path("api/v1/servers", servers.ServerList.as_view(), name="api-servers"),
    path(_SERVER, servers.OneServer.as_view(), name="api-server"),
    path(f"{_SERVER}/tools", servers.ToolList.as_view(), name="api-tools"),
    path(f"{_SERVER}/tools/<path:tool>", servers.OneTool.as_view(), name="api-tool"),
    path(f"{_SERVER}/calls", calls.Calls.as_view(), name="api-calls"),
    path("api/v1/connections", connections.ConnectionList.as_view(), name="api-connections"),
    path(f"{_SERVER}/connection", connections.OneConnection.as_view(), name="api-connection"),
    path(f"{_SERVER}/connect-link", connections.ConnectLinks.as_view(), name="api-connect-link"),
    path(f"{_SERVER}/own-key", own_keys.OneOwnKey.as_view(), name="api-own-key"),
    path(f"{_SERVER}/why", explanations.Why.as_view(), name="api-why"),
    path("api/v1/requestable-servers", access_requests.Requestable.as_view(), name="api-requestable"),
    path("api/v1/access-requests", access_requests.AccessRequests.as_view(), name="api-access-requests"),
    path("api/v1/access-requests/<uuid:request_id>", access_requests.OneAccessRequest.as_view()),
    path("api/v1/access-requests/<uuid:request_id>/answer", access_requests.AccessAnswer.as_view()),
    # As programs know them that were written for another gateway.
    path("api/svc/v1/mcp", aliases.AliasServers.as_view()),
    path("api/svc/v1/mcp/<uuid:server_id>", aliases.AliasServerView.as_view()),
    path("api/svc/v1/mcp/<uuid:server_id>/authorize", aliases.AliasAuthorize.as_view()),
    path("api/svc/v1/mcp/<uuid:server_id>/auth/state", aliases.AliasAuthState.as_view()),
    path("api/svc/v1/mcp/<uuid:server_id>/auth/status", aliases.AliasAuthStatus.as_view()),
    path("api/svc/v1/mcp/<uuid:server_id>/auth", aliases.AliasAuth.as_view()),
    re_path(r"^api/v1(?:/.*)?$", document.Nothing.as_view()),
]
