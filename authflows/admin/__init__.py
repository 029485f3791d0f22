"""Admin pages of ways to sign in: keys and virtual accounts, OAuth clients and approvals, identity
providers; and of credentials upstream: connections, own keys, our clients at providers."""

from __future__ import annotations

from django.apps import apps
from django.contrib import admin

from authflows.models import OAuthClient

# The libraries bring pages of their own, which know neither our scopes nor what ends with a token.
for _model in [
    *apps.get_app_config("oauth2_provider").get_models(),
    *apps.get_app_config("social_django").get_models(),
    OAuthClient,
]:
    if admin.site.is_registered(_model):
        admin.site.unregister(_model)

from authflows.admin import approvals, clients, identity, keys, own_keys, upstream  # noqa: E402

__all__ = ["approvals", "clients", "identity", "keys", "own_keys", "upstream"]
