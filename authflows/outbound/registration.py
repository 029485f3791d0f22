"""How the gateway becomes a client at a provider: an app made there, our metadata document, or registration (CL-7)."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from authflows.models import UpstreamClient
from servers.models import Server
from servers.oauth_settings import OAuthSettings

Registration = UpstreamClient.Registration


@dataclass(frozen=True, slots=True)
class NotRegistered:
    """We are no client there, and why, in a sentence with the next step."""

    reason: str
    sentence: str


def client_for(server: Server, provider: OAuthSettings) -> UpstreamClient | NotRegistered:
    """Our client at the provider of this server, made where it does not exist yet."""
    if provider.registration == Registration.PRE_REGISTERED:
        return _pre_registered(server, provider)
    return NotRegistered("not_registered", f"The gateway is not registered for {server.name}. Ask its manager.")


def forget(client: UpstreamClient) -> None:
    """The provider no longer knows this client: never use it again. A registration of ours is made anew (CL-9)."""
    if client.registration == Registration.DYNAMIC:
        UpstreamClient.objects.filter(pk=client.pk, lost_at__isnull=True).update(lost_at=timezone.now())


def _pre_registered(server: Server, provider: OAuthSettings) -> UpstreamClient | NotRegistered:
    if not provider.client_id:
        return NotRegistered("no_client_id", f"{server.name} has no App ID. Ask its manager to enter one.")
    client, _ = UpstreamClient.objects.update_or_create(
        tenant=server.tenant,
        issuer=provider.issuer,
        client_id=provider.client_id,
        defaults={
            "registration": Registration.PRE_REGISTERED,
            "secret_reference": provider.client_secret,
            "token_endpoint_auth_method": provider.token_endpoint_auth_method,
            "redirect_uri": settings.PUBLIC_URL + reverse("oauth2-callback"),
        },
    )
    return client
