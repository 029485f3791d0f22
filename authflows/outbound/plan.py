"""What will happen with a setting, told before it is saved: where people and requests go, and what is unusual. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from authflows.outbound import client_document
from servers.method_settings import ENTRA_OBO, ExchangeSettings
from servers.oauth_settings import OAuthSettings

_PROOFS: Final = {
    "client_secret_basic": "with its secret in the Authorization header",
    "client_secret_post": "with its secret in the body",
    "private_key_jwt": "with a JWT signed by its own key",
    "none": "without a secret",
}


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that will happen; `unusual` marks a deviation that somebody should know of."""

    what: str
    text: str
    unusual: bool = False


def of_connections(settings: OAuthSettings, *, url: str) -> list[Line]:
    """OAuth2 per person."""
    found = [
        Line("People", "Each person is asked once to connect an account of their own, before their first call."),
        Line("Their browser opens", settings.authorization_endpoint),
        Line("It comes back to", client_document.callback_url()),
        Line("Tokens come from", settings.token_endpoint),
        Line("Issuer", f"{settings.issuer} ({'from its metadata' if settings.discovered else 'entered by hand'})"),
        Line("The gateway is", _client(settings)),
        Line("Asked for", " ".join(settings.scopes) or "no scopes: the provider decides"),
        Line(
            "Revoking",
            f"the provider is told at {settings.revocation_endpoint}"
            if settings.revocation_endpoint
            else "ends it here; the provider is not told, since it offers no way to",
        ),
    ]
    hosts = {urlsplit(one).hostname for one in (settings.authorization_endpoint, settings.token_endpoint)}
    if len(hosts) > 1:
        found.append(Line("Two hosts", "People sign in at one host and tokens come from another.", unusual=True))
    if not settings.pkce:
        found.append(Line("Without PKCE", "A code that somebody catches on its way can be redeemed.", unusual=True))
    if not settings.iss_supported:
        found.append(Line("Answers", "do not have to name their issuer; the state alone ties them to the provider."))
    return found + _resource(settings.send_resource, url)


def of_client_credentials(settings: OAuthSettings, *, url: str) -> list[Line]:
    """One token of the gateway's own."""
    return [
        Line("People", "Nobody is asked: all callers share one token of the gateway's own."),
        Line("Tokens come from", settings.token_endpoint),
        Line("The gateway is", _client(settings)),
        Line("Asked for", " ".join(settings.scopes) or "no scopes: the provider decides"),
        *_resource(settings.send_resource, url),
    ]


def of_exchange(settings: ExchangeSettings, *, url: str) -> list[Line]:
    """A token on behalf of each caller."""
    kind = "Entra's on-behalf-of" if settings.variant == ENTRA_OBO else "RFC 8693"
    return [
        Line("People", "Nobody is asked. Callers who come with a JWT of your identity provider are served, no others."),
        Line("Tokens come from", f"{settings.token_endpoint} ({kind})"),
        Line("The gateway is", f"{settings.client_id}, {_PROOFS.get(settings.token_endpoint_auth_method, '')}"),
        Line("The token is for", settings.audience or "whatever the provider chooses"),
        Line("Asked for", " ".join(settings.scopes) or "no scopes: the provider decides"),
        *(_resource(settings.send_resource, url) if settings.variant != ENTRA_OBO else []),
    ]


def _client(settings: OAuthSettings) -> str:
    proof = _PROOFS.get(settings.token_endpoint_auth_method, "")
    if settings.registration == "metadata_document":
        address = client_document.client_id_for(settings.token_endpoint_auth_method)
        return f"known by its own metadata document, {address}"
    if settings.registration == "dynamic":
        return f"registered by itself at {settings.registration_endpoint}, with the first person who connects"
    return f"the app {settings.client_id or '(no App ID yet)'}, {proof}"


def _resource(send: bool, url: str) -> list[Line]:
    if send:
        return [Line("Tokens are for", f"{url}, as resource says in each request")]
    return [
        Line("Without resource", "The provider is not told which server the token is for.", unusual=True),
    ]
