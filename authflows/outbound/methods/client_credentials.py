"""OAuth2 client credentials: a token of the gateway's own, the same for all callers (F-310, CL-30)."""

from __future__ import annotations

from authflows.outbound import registration, token_endpoint
from authflows.outbound.held_tokens import Obtained
from authflows.outbound.token_endpoint import Kind, TokenFailure
from authflows.outbound.upstream_clients import facts_of
from servers.errors import SecretUnavailable
from servers.models import AuthConfig, Server
from servers.oauth_settings import OAuthSettings


def obtain(server: Server, config: AuthConfig) -> Obtained | TokenFailure:
    """Ask the configured provider for a token; blocks while it answers. The client is the one of this issuer."""
    provider = OAuthSettings.read(config.settings)
    client = registration.client_for(server, provider)
    if isinstance(client, registration.NotRegistered):
        return TokenFailure(Kind.PERMANENT, client.reason, client.sentence)
    try:
        facts = facts_of(client)
    except SecretUnavailable:
        return TokenFailure(Kind.TEMPORARY, "secret_unavailable", "The gateway's own secret is not available.")
    answer = token_endpoint.client_credentials(
        provider.token_endpoint,
        facts,
        scope=" ".join(provider.scopes),
        resource=server.url if provider.send_resource else "",
        extra=provider.token_parameters,
    )
    if isinstance(answer, TokenFailure):
        if answer.kind is Kind.CLIENT_LOST:
            registration.forget(client)
        return answer
    return Obtained(answer.access_token, answer.expires_in or provider.lifetime_seconds)
