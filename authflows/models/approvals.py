"""What stands between a client that asks and its tokens: the pending request, the approval, the repeated answer."""

from __future__ import annotations

import secrets

from django.conf import settings
from django.db import models

from authflows.models.clients import OAuthClient
from servers.models import Server
from servers.models.fields import UuidModel


def _random_id() -> str:
    return secrets.token_urlsafe(24)


class Approval(UuidModel):
    """This person let this client use this server, or the Gateway API. Tokens live only as long as it stands.

    Sources: AZ-21, T11.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="approvals")
    client = models.ForeignKey(OAuthClient, on_delete=models.CASCADE, related_name="approvals")
    # None: the Gateway API.
    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="approvals", null=True)
    # Of the client when it was approved: with other names or redirect URIs it is asked anew (AZ-20).
    metadata_digest = models.CharField(max_length=64, blank=True)
    redirect_host = models.CharField(max_length=255)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("-created_at",)
        constraints = [
            models.UniqueConstraint(fields=("user", "client", "server"), name="one_approval_per_person_client_server"),
            models.UniqueConstraint(
                fields=("user", "client"),
                condition=models.Q(server__isnull=True),
                name="one_approval_of_the_api_per_person_client",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.client} for {self.user} on {self.opens}"

    @property
    def opens(self) -> str:
        """What it lets the client use, in words that stand in a sentence."""
        return str(self.server) if self.server is not None else "the Gateway API"


class PendingSignIn(models.Model):
    """An authorization request on its way through sign-in and approval; only its random id travels.

    Valid until `expires_at` (UTC), whichever replica the browser reaches; ends with the answer to the client.
    """

    id = models.CharField(max_length=32, primary_key=True, default=_random_id, editable=False)
    client = models.ForeignKey(OAuthClient, on_delete=models.CASCADE, related_name="+")
    # The MCP URL that was asked for. Which server that is, if any, is looked up after sign-in (RS-13).
    resource = models.TextField()
    redirect_uri = models.TextField()
    # None: the request had none (RFC 6749, 4.1.1), and neither has the answer.
    state = models.TextField(null=True)  # noqa: DJ001
    scope = models.TextField(blank=True)
    code_challenge = models.CharField(max_length=128)
    # Words of the `prompt` parameter that mean something to us.
    prompt = models.CharField(max_length=100, blank=True)
    # Who approved; every later step of the trip is theirs alone.
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, related_name="+")
    approved_at = models.DateTimeField(null=True)
    # Members of a virtual server, by the ids of their servers, that the person will not connect this time.
    skipped = models.JSONField(default=list)
    answered_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(db_index=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return f"{self.client} asks for {self.resource}"


class RefreshReply(models.Model):
    """The answer to a refresh, for the windows of an IDE that refresh at the same moment (AZ-17).

    Keyed by the SHA-256 of the old refresh token and sealed under a key derived from that token, so that whoever
    reads the database has nothing.
    """

    digest = models.CharField(max_length=64, primary_key=True)
    client = models.ForeignKey(OAuthClient, on_delete=models.CASCADE, related_name="+")
    sealed_reply = models.TextField()
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ("expires_at",)

    def __str__(self) -> str:
        return f"{self.digest[:12]}… until {self.expires_at:%Y-%m-%d %H:%M:%S}"
