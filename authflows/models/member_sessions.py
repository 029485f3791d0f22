"""Sessions of older protocol versions that began before their person had anything to show to the server."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from servers.models import Server


class MemberSession(models.Model):
    """What the gateway opened a session with in the server's place, and the server's own session once there is one.

    Keyed by the SHA-256 of a random key that only the client's sealed session id holds; any replica continues it.
    """

    digest = models.CharField(max_length=64, primary_key=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="+")
    # The parameters of the client's `initialize`, for the server once it can be asked.
    parameters = models.JSONField()
    # The server's session id; empty where it has none, or is not opened yet (`opened_at`).
    sealed_upstream_id = models.TextField(blank=True, editable=False)
    # The protocol version that the server agreed to.
    version = models.CharField(max_length=20, blank=True)
    # The credential that opened it: with another one it is over (SE-4).
    credential_epoch = models.CharField(max_length=200, blank=True)
    opened_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ("expires_at",)

    def __str__(self) -> str:
        return f"{self.user} at {self.server}"

    def seal_context(self) -> str:
        """Associated data of the sealed session id."""
        return f"authflows_membersession:{self.digest}:{self.user_id}:{self.server_id}"
