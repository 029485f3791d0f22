"""Where attempts are counted, so that every process counts together."""

from __future__ import annotations

from django.db import models


class AttemptBucket(models.Model):
    """A token bucket, held as the moment at which it is full again. No row means full.

    The key is a keyed digest: what a person typed as a user name may be a password.
    """

    id = models.CharField(max_length=64, primary_key=True)
    full_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.id[:12]}… full at {self.full_at:%Y-%m-%d %H:%M:%S}"
