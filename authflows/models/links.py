"""Links that work once."""

from __future__ import annotations

from django.db import models

from servers.models.fields import UuidModel


class OneTimeLink(UuidModel):
    """A single-use link, such as the one that creates the first admin. Only its SHA-256 is stored."""

    class Purpose(models.TextChoices):
        FIRST_ADMIN = "first_admin", "Create the first admin"

    purpose = models.CharField(max_length=20, choices=Purpose.choices)
    digest = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-created_at",)

    def __str__(self) -> str:
        return f"{self.purpose} until {self.expires_at:%Y-%m-%d %H:%M}"
