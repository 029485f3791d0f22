"""MCP servers that we front, the groups that hold them, and how we authenticate to each."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from servers.models.fields import SLUG, UuidModel, validate_endpoint_url
from servers.models.tenants import Tenant


class ServerGroup(UuidModel):
    """An optional container of servers with its own collaborators (F-102)."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="groups")
    name = models.CharField(max_length=200)
    slug = models.CharField(max_length=63, validators=[SLUG])
    description = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name",)
        verbose_name = "MCP Server Group"
        constraints = [models.UniqueConstraint(fields=("tenant", "slug"), name="group_slug_unique_in_tenant")]

    def __str__(self) -> str:
        return self.name


class Server(UuidModel):
    """An MCP server that we front: one upstream endpoint behind one URL of ours."""

    class Kind(models.TextChoices):
        REMOTE = "remote", "Remote"

    class Health(models.TextChoices):
        UNKNOWN = "unknown", "Not tested"
        OK = "ok", "OK"
        FAILING = "failing", "Failing"

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="servers")
    group = models.ForeignKey(ServerGroup, on_delete=models.PROTECT, related_name="servers", null=True, blank=True)
    kind = models.CharField(max_length=20, choices=Kind.choices, default=Kind.REMOTE)
    name = models.CharField(max_length=200)
    slug = models.CharField(
        max_length=63,
        validators=[SLUG],
        help_text="Part of the server's MCP URL. Changing it breaks the URL that people configured.",
    )
    description = models.TextField(blank=True)
    url = models.CharField(
        "endpoint URL",
        max_length=2000,
        validators=[validate_endpoint_url],
        help_text="The upstream's streamable HTTP endpoint.",
    )
    enabled = models.BooleanField(default=True, help_text="A disabled server refuses every call.")

    connect_timeout = models.PositiveIntegerField(
        default=10,
        validators=[MinValueValidator(1), MaxValueValidator(120)],
        help_text="Seconds to reach the server, TLS included.",
    )
    response_timeout = models.PositiveIntegerField(
        default=120,
        validators=[MinValueValidator(1), MaxValueValidator(3600)],
        help_text="Seconds until the server begins to answer a call.",
    )
    ca_certificate = models.TextField(
        "custom CA", blank=True, help_text="PEM certificates to trust instead of the public authorities."
    )
    static_headers = models.JSONField(
        default=dict, blank=True, help_text="Extra headers for every upstream request, as a JSON object."
    )
    allowed_request_headers = models.JSONField(
        default=list,
        blank=True,
        help_text="Names of client headers to pass on, as a JSON list. All others are dropped.",
    )
    max_request_bytes = models.PositiveIntegerField(
        null=True, blank=True, help_text="Largest request body in bytes; empty: the gateway's own limit."
    )

    session_epoch = models.PositiveIntegerField(default=1, editable=False)
    health = models.CharField(max_length=10, choices=Health.choices, default=Health.UNKNOWN, editable=False)
    health_detail = models.JSONField(default=dict, editable=False)
    health_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name",)
        verbose_name = "MCP Server"
        constraints = [models.UniqueConstraint(fields=("tenant", "slug"), name="server_slug_unique_in_tenant")]

    def __str__(self) -> str:
        return self.name

    @property
    def mcp_path(self) -> str:
        """Path of the MCP endpoint that clients configure (design: URLs that people depend on)."""
        return f"/{self.tenant.slug}/mcp/{self.slug}/server"

    @property
    def mcp_url(self) -> str:
        """The MCP endpoint on the public origin, byte for byte what How To Use shows."""
        return f"{settings.PUBLIC_URL}{self.mcp_path}"

    @property
    def key_url(self) -> str:
        """The same endpoint for clients that leave out a configured key wherever they are offered a sign-in."""
        return f"{settings.PUBLIC_URL}/{self.tenant.slug}/mcp/{self.slug}/key"


class AuthConfig(UuidModel):
    """How the gateway authenticates to one server. Secrets stand in it only as references (FQNs)."""

    class Method(models.TextChoices):
        NONE = "none", "No Auth"
        SHARED_HEADER = "shared_header", "Header Auth (shared by all callers)"
        OWN_HEADER = "own_header", "Own API key (each person enters theirs)"
        OAUTH2 = "oauth2", "OAuth2 (each person connects)"
        CLIENT_CREDENTIALS = "client_credentials", "OAuth2 client credentials (shared by all callers)"
        PASSTHROUGH = "passthrough", "Token passthrough"
        TOKEN_EXCHANGE = "token_exchange", "Token exchange (RFC 8693, on behalf of the caller)"

    server = models.OneToOneField(Server, on_delete=models.CASCADE, related_name="auth_config")
    method = models.CharField("authentication type", max_length=20, choices=Method.choices, default=Method.NONE)
    settings = models.JSONField(default=dict, blank=True)
    # Names the credential in sealed session ids: a changed shared key ends the sessions it opened (SE-4).
    epoch = models.PositiveIntegerField(default=1, editable=False)

    class Meta:
        verbose_name = "authentication"
        verbose_name_plural = "authentication"

    def __str__(self) -> str:
        return f"{self.get_method_display()} for {self.server}"

    def header_templates(self) -> list[tuple[str, str]]:
        """Pairs of header name and value template of a shared header method; other methods have none."""
        stored: list[dict[str, Any]] = self.settings.get("headers", [])
        return [(str(item["name"]), str(item["value"])) for item in stored]

    def set_header_templates(self, headers: list[tuple[str, str]]) -> None:
        """Store the pairs; values hold secret references, never secrets."""
        self.settings = {"headers": [{"name": name, "value": value} for name, value in headers]}
