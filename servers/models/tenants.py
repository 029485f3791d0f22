"""Tenants: the first part of every MCP URL, and who belongs to them. Nothing crosses a tenant (F-107)."""

from __future__ import annotations

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models

from servers.models.fields import SLUG, UuidModel

DEFAULT_TENANT_SLUG = "default"
# First path segments that mean something else on our origin.
RESERVED_SLUGS = frozenset(
    {
        "admin",
        "api",
        "authorize",
        "connect",
        "healthz",
        "mcp",
        "metrics",
        "oauth",
        "portal",
        "readyz",
        "register",
        "revoke",
        "setup",
        "sign-in",
        "sign-out",
        "sso",
        "static",
        "token",
        "well-known",
    }
)


def refuse_reserved_slug(value: str) -> None:
    """Raise when a tenant would hide one of the gateway's own paths."""
    if value in RESERVED_SLUGS:
        raise ValidationError("%(value)s is a path of the gateway itself; choose another.", params={"value": value})


class Tenant(UuidModel):
    """A namespace of servers, secrets and people."""

    slug = models.CharField(
        max_length=63,
        unique=True,
        validators=[SLUG, refuse_reserved_slug],
        help_text="The first part of the tenant's MCP URLs. Changing it breaks the URLs that people configured.",
    )
    name = models.CharField(max_length=200)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Membership(UuidModel):
    """A person (or a virtual account's user) belongs to a tenant; an admin of it sees all its servers."""

    class Role(models.TextChoices):
        MEMBER = "member", "Member"
        ADMIN = "admin", "Tenant admin"
        AUDITOR = "auditor", "Auditor: reads the records"

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.MEMBER)

    class Meta:
        ordering = ("tenant__name", "user__username")
        constraints = [models.UniqueConstraint(fields=("tenant", "user"), name="one_membership_per_tenant")]

    def __str__(self) -> str:
        return f"{self.user} in {self.tenant} ({self.role})"
