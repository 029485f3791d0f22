"""Pages of people: sign-in, set-up of the first admin, portal."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.urls import path
from django.views.generic import RedirectView

from authflows.views import (
    access_requests,
    connections,
    first_admin,
    my_access,
    my_identities,
    my_keys,
    my_servers,
    own_keys,
    sign_in,
    sso,
)

urlpatterns = [
    path("", login_not_required(RedirectView.as_view(pattern_name="portal")), name="home"),
    path("sign-in/", sign_in.SignIn.as_view(), name="sign-in"),
    path("sso/<slug:slug>/start", sso.start, name="sso-start"),
    path("sso/<slug:slug>/callback", sso.callback, name="sso-callback"),
    path("sign-out/", sign_in.SignOut.as_view(), name="sign-out"),
    path("setup/", first_admin.create, name="first-admin"),
    path("setup/<str:token>", first_admin.open_link, name="first-admin-link"),
    path("portal/", my_servers.portal, name="portal"),
    path("portal/password/", sign_in.NewPassword.as_view(), name="my-password"),
    path("portal/ask/<uuid:server_id>/", access_requests.ask, name="ask-access"),
    path("portal/ask/requests/<uuid:request_id>/withdraw/", access_requests.withdraw, name="withdraw-request"),
    path("portal/servers/<slug:tenant>/<slug:slug>/", my_servers.server, name="portal-server"),
    path("portal/access/", my_access.access, name="my-access"),
    path("portal/access/<uuid:approval_id>/revoke/", my_access.revoke_approval, name="my-approval-revoke"),
    path("portal/access/sessions/end/", my_access.end_session, name="my-session-end"),
    path("portal/access/sessions/end-others/", my_access.end_other_sessions, name="my-sessions-end"),
    path("portal/access/identities/", my_identities.identities, name="my-identities"),
    path("portal/access/identities/<int:identity_id>/remove/", my_identities.remove, name="my-identity-remove"),
    path("portal/access/identities/<slug:slug>/connect/", my_identities.connect, name="my-identity-connect"),
    path("portal/access/identities/<slug:slug>/start", my_identities.start, name="my-identity-start"),
    path("connect/<str:link_id>", connections.link, name="connect-link"),
    path("portal/connections/", connections.mine, name="my-connections"),
    path("portal/connections/<uuid:connection_id>/revoke/", connections.revoke, name="my-connection-revoke"),
    path("portal/servers/<slug:tenant>/<slug:slug>/connect/", connections.connect_now, name="connect-now"),
    path("portal/servers/<slug:tenant>/<slug:slug>/own-key/", own_keys.enter, name="own-key"),
    path("portal/own-keys/<uuid:key_id>/remove/", own_keys.remove, name="own-key-remove"),
    path("portal/keys/", my_keys.keys, name="my-keys"),
    path("portal/keys/new/", my_keys.new_key, name="my-key-new"),
    path("portal/keys/<uuid:key_id>/revoke/", my_keys.revoke_key, name="my-key-revoke"),
]
