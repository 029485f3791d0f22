"""The change feed: what changed, so that every process drops what it cached (design section 6)."""

from __future__ import annotations

from django.db import models


class Change(models.Model):
    """One changed thing. Written in the transaction of the change, read by every process, pruned later."""

    id = models.BigAutoField(primary_key=True)
    kind = models.CharField(max_length=40)
    key = models.CharField(max_length=200)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("id",)

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"
