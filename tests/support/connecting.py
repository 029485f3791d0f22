"""A server whose people connect at a provider, and their trips there and back."""

from __future__ import annotations

from typing import Any, Protocol

from django.conf import settings
from django.test import Client

from authflows.outbound import connect
from servers.models import AccessRule, AuthConfig, Server
from servers.oauth_settings import OAuthSettings
from servers.secrets.store import set_secret
from tests.conftest import Cast, allow_private


class Provider(Protocol):
    """A provider of the tests, real or faulty."""

    issuer: str

    def add_client(self, redirect_uri: str) -> tuple[str, str]: ...

    def metadata(self) -> dict[str, Any]: ...


def make_server(cast: Cast, provider: Provider, **changes: Any) -> Server:
    allow_private(provider.issuer)
    client_id, client_secret = provider.add_client(connect.callback_url())
    secret = set_secret(tenant=cast.tenant, group="drive", key="app", value=client_secret, actor="admin")
    document = provider.metadata()
    server = Server.objects.create(tenant=cast.tenant, slug="drive", name="Drive", url="http://127.0.0.1:9/mcp")
    found = OAuthSettings(
        **{
            "issuer": provider.issuer,
            "authorization_endpoint": document["authorization_endpoint"],
            "token_endpoint": document["token_endpoint"],
            "revocation_endpoint": document.get("revocation_endpoint", ""),
            "client_id": client_id,
            "client_secret": secret.fqn,
            "scopes": ("openid", "email", "offline_access"),
            "authorize_parameters": {"prompt": "consent"},
            "iss_supported": True,
        }
        | changes
    )
    AuthConfig.objects.create(server=server, method=AuthConfig.Method.OAUTH2, settings=found.stored())
    AccessRule.objects.create(server=server, user=cast.member)
    return Server.objects.select_related("auth_config", "tenant").get(pk=server.pk)


def begin(browser: Client, cast: Cast, server: Server, **options: Any) -> str:
    """Begin the trip as the signed-in member; returns the provider's URL."""
    key = browser.session.session_key
    assert key
    found = connect.begin(cast.member, server, session_key=key, **options)
    assert isinstance(found, connect.Departure), found
    return found.url


def come_back(browser: Client, target: str) -> Any:
    """Follow the provider's redirect to our callback."""
    assert target.startswith(connect.callback_url()), target
    return browser.get(target.removeprefix(settings.PUBLIC_URL))
