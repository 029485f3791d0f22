"""What a client answered to a question of a server, on its way to the process that asked."""

from __future__ import annotations

from django.db import models


class PassedAnswer(models.Model):
    """A client's answer that came to another process than the one whose call waits for it.

    Keyed by the SHA-256 of the session and the question; taken once. It holds what a person typed, so it is sealed.
    """

    digest = models.CharField(max_length=64, primary_key=True)
    sealed = models.TextField(editable=False)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ("expires_at",)

    def __str__(self) -> str:
        return f"{self.digest[:12]}…"

    def seal_context(self) -> str:
        """Associated data of the sealed answer."""
        return f"authflows_passedanswer:{self.digest}"
