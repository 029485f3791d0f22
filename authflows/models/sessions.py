"""Where people are signed in."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone


class SignInSession(models.Model):
    """A browser's session, found by the SHA-256 of its cookie: whoever reads the table can sign in nowhere.

    Without `user` it belongs to somebody who is not signed in yet. Deleting the row ends the session.
    """

    digest = models.CharField(max_length=64, primary_key=True)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, related_name="sign_in_sessions"
    )
    data = models.TextField()
    # Of the request that signed in.
    user_agent = models.CharField(max_length=300, blank=True)
    address = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    last_seen_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ("-last_seen_at",)

    def __str__(self) -> str:
        return f"{self.digest[:12]}… until {self.expires_at:%Y-%m-%d %H:%M}"
