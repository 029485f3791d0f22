"""Approvals: this person let this client use this server, or the Gateway API (AZ-20 to AZ-22, T11, T12).

Where a server is asked for here, None stands for the Gateway API.
"""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from authflows.inbound.oauth import tokens
from authflows.inbound.oauth.resources import GATEWAY_API, resources_of
from authflows.models import Approval, OAuthClient, PendingSignIn
from servers import audit
from servers.models import Server


def goes_unasked(client: OAuthClient, server: Server | None) -> bool:
    """Whether an admin made this client to be let in without a question (AZ-23); never to the Gateway API."""
    by_hand = client.registration_source == OAuthClient.RegistrationSource.MANUAL
    return server is not None and bool(client.skip_authorization) and by_hand


def is_approved(user: Any, client: OAuthClient, server: Server | None) -> bool:
    """Whether the person approved this client, as it describes itself today, for this server."""
    if goes_unasked(client, server):
        return True
    return Approval.objects.filter(
        user=user, client=client, server=server, metadata_digest=client.metadata_digest
    ).exists()


def approve(user: Any, client: OAuthClient, server: Server | None, *, redirect_host: str) -> Approval:
    """Record the approval; of a client that was approved before it renews what was approved."""
    with transaction.atomic():
        approval, _ = Approval.objects.update_or_create(
            user=user,
            client=client,
            server=server,
            defaults={
                "metadata_digest": client.metadata_digest,
                "redirect_host": redirect_host[:255],
                "created_at": timezone.now(),
            },
        )
        audit.record(
            audit.Action.CLIENT_APPROVE,
            actor=user.get_username(),
            subject=approval,
            tenant=server.tenant if server is not None else None,
            detail={"client": client.client_id, **_named(server), "redirect_host": redirect_host},
        )
    return approval


def approvals_of(user: Any) -> QuerySet[Approval]:
    """What a person approved, newest first, with client and server."""
    return Approval.objects.filter(user=user).select_related("client", "server__tenant")


def revoke(approval: Approval, *, actor: str) -> None:
    """End the approval and every token that hangs on it: the client's next call is refused, open streams end."""
    with transaction.atomic():
        server, client = approval.server, approval.client
        resources = resources_of(server)
        tokens.end_for(user_id=approval.user_id, client_id=client.pk, resources=resources)
        PendingSignIn.objects.filter(user=approval.user_id, client=client, resource__in=resources).delete()
        deleted, _ = Approval.objects.filter(pk=approval.pk).delete()
        if deleted:
            audit.record(
                audit.Action.APPROVAL_REVOKE,
                actor=actor,
                subject=approval,
                tenant=server.tenant if server is not None else None,
                detail={"client": client.client_id, **_named(server), "person": approval.user.get_username()},
            )


def _named(server: Server | None) -> dict[str, str]:
    """What an approval is for, as the audit trail says it."""
    return {"server": server.slug} if server is not None else {"api": GATEWAY_API.path}
