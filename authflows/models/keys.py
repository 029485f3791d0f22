"""API keys of people and of virtual accounts."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings
from django.db import models
from django.utils import timezone

from servers.models import Server, Tenant
from servers.models.fields import SLUG, UuidModel


class VirtualAccount(UuidModel):
    """A program's identity: a user that cannot sign in, with its own rights and keys (F-207)."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="virtual_accounts")
    name = models.CharField(max_length=63, validators=[SLUG])
    description = models.TextField(blank=True, help_text="Which program uses it, and who to ask.")
    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="virtual_account", editable=False
    )
    enabled = models.BooleanField(default=True, help_text="A disabled account's keys are refused at once.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name",)
        constraints = [models.UniqueConstraint(fields=("tenant", "name"), name="virtual_account_name_unique")]

    def __str__(self) -> str:
        return self.name


class ApiKey(UuidModel):
    """A key for the Authorization header. Only its SHA-256 is stored; the text is shown once (F-206).

    The key is 256 random bits, so a plain hash is enough: there is nothing to guess.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=100, help_text="Where the key is used, for example: laptop, Cursor.")
    prefix = models.CharField(max_length=16, unique=True, editable=False)
    digest = models.CharField(max_length=64, unique=True, editable=False)
    servers = models.ManyToManyField(
        Server,
        blank=True,
        related_name="+",
        help_text="Choose servers to limit the key to them. Empty: every server that its owner may use.",
    )
    # Kept apart from the list: a key whose last server is deleted must not become a key for everything.
    limited = models.BooleanField(default=False, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: until revoked.")
    revoked_at = models.DateTimeField(null=True, editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-created_at",)
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    def state(self, now: datetime | None = None) -> str:
        """`active`, `expired` or `revoked`, as the key's owner would say it."""
        if self.revoked_at is not None:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= (now or timezone.now()):
            return "expired"
        return "active"
