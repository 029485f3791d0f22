"""Token exchange: the caller's own JWT for a token of the server's provider (F-311, RFC 8693, Entra's on-behalf-of)."""

from __future__ import annotations

from authflows.inbound.identity.identity_tokens import provider_of
from authflows.outbound import token_endpoint
from authflows.outbound.credential_results import Brought
from authflows.outbound.held_tokens import Obtained
from authflows.outbound.token_endpoint import ClientFacts, Kind, TokenFailure
from servers.access import Principal
from servers.errors import SecretUnavailable
from servers.method_settings import ENTRA_OBO, ExchangeSettings
from servers.models import AuthConfig, Server
from servers.secrets.resolver import fill


def subject_token(principal: Principal, brought: Brought) -> str:
    """The caller's own JWT, if that is what they came with; nothing else of theirs ever leaves (T2)."""
    return brought.token() if provider_of(principal.credential) is not None else ""


def obtain(server: Server, config: AuthConfig, *, subject_token: str) -> Obtained | TokenFailure:
    """Exchange the caller's JWT at the configured token endpoint; blocks while it answers."""
    chosen = ExchangeSettings.read(config.settings)
    try:
        secret = fill(chosen.client_secret, server.tenant) if chosen.client_secret else ""
    except SecretUnavailable:
        return TokenFailure(Kind.TEMPORARY, "secret_unavailable", "The gateway's own secret is not available.")
    client = ClientFacts(chosen.client_id, secret, chosen.token_endpoint_auth_method, chosen.issuer)
    if chosen.variant == ENTRA_OBO:
        answer = token_endpoint.on_behalf_of(
            chosen.token_endpoint,
            client,
            assertion=subject_token,
            scope=" ".join(chosen.scopes),
            extra=chosen.token_parameters,
        )
    else:
        answer = token_endpoint.exchange_token(
            chosen.token_endpoint,
            client,
            subject_token=subject_token,
            subject_token_type=chosen.subject_token_type,
            audience=chosen.audience,
            scope=" ".join(chosen.scopes),
            resource=server.url if chosen.send_resource else "",
            extra=chosen.token_parameters,
        )
    if isinstance(answer, TokenFailure):
        return answer
    return Obtained(answer.access_token, answer.expires_in or chosen.lifetime_seconds)
