"""OAuth clients that an admin makes by hand, for programs that cannot make themselves known."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction
from oauth2_provider.generators import generate_client_secret

from authflows.inbound.oauth.client_metadata import Described, clean_name
from authflows.models import OAuthClient
from servers import audit


def create(
    *, name: str, redirect_uris: Sequence[str], confidential: bool, verified: bool, actor: str
) -> tuple[OAuthClient, str]:
    """Make a client; returns it with its secret (empty for a public one), which is stored hashed and shown once.

    The redirect URIs were checked by the caller.
    """
    secret: str = generate_client_secret()
    client = OAuthClient(
        verified=verified,
        registration_source=OAuthClient.RegistrationSource.MANUAL,
        client_type=OAuthClient.CLIENT_CONFIDENTIAL if confidential else OAuthClient.CLIENT_PUBLIC,
        authorization_grant_type=OAuthClient.GRANT_AUTHORIZATION_CODE,
        client_secret=secret,
    )
    describe(client, name=name, redirect_uris=redirect_uris)
    with transaction.atomic():
        client.save(force_insert=True)
        audit.record(
            audit.Action.CLIENT_CREATE,
            actor=actor,
            subject=client,
            detail={"client": client.client_id, "name": client.name, "redirect_uris": list(redirect_uris)},
        )
    return client, secret if confidential else ""


def describe(client: OAuthClient, *, name: str, redirect_uris: Sequence[str]) -> None:
    """Set name and redirect URIs, unsaved. With others than before, people are asked anew (AZ-20)."""
    described = Described(name=clean_name(name), redirect_uris=tuple(redirect_uris), application_type="")
    client.name = described.name
    client.redirect_uris = " ".join(described.redirect_uris)
    client.metadata_digest = described.digest


def new_secret(client: OAuthClient, *, actor: str) -> str:
    """Replace the secret of a confidential client; the old one is refused from now on."""
    secret: str = generate_client_secret()
    client.client_secret = secret
    with transaction.atomic():
        client.save(update_fields=["client_secret", "updated"])
        audit.record(audit.Action.CLIENT_SECRET, actor=actor, subject=client, detail={"client": client.client_id})
    return secret
