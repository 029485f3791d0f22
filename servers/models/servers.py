"""MCP servers that we front, the groups that hold them, and how we authenticate to each."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
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
        VIRTUAL = "virtual", "Virtual: one URL for several servers"

    class Path(models.TextChoices):
        AUTO = "auto", "Pass through, translate where client and server share no protocol era"
        TRANSPARENT = "transparent", "Always pass through"
        ENGINE = "engine", "Always through the engine"

    class Eras(models.TextChoices):
        UNKNOWN = "", "Not known"
        LEGACY = "legacy", "Legacy (with a handshake)"
        MODERN = "modern", "Modern (2026-07-28)"
        DUAL = "dual", "Both"

    class Health(models.TextChoices):
        UNKNOWN = "unknown", "Not tested"
        OK = "ok", "OK"
        SLOW = "slow", "Slow"
        UNREACHABLE = "unreachable", "Unreachable"
        TLS = "tls", "TLS"
        AUTH = "auth", "Authentication"
        PROTOCOL = "protocol", "Protocol"
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
        blank=True,
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

    path = models.CharField(
        "protocol",
        max_length=20,
        choices=Path.choices,
        default=Path.AUTO,
        help_text="How calls get through. Through the engine, requests are read, renumbered and written anew.",
    )
    list_unconnected = models.BooleanField(
        "list what is not connected",
        default=True,
        help_text="Of a virtual server: people see the tools of members that they have not connected yet.",
    )

    requestable = models.BooleanField(
        "people may ask for access",
        default=False,
        help_text="People of the tenant who may not use the server see its name and description, and can ask for it.",
    )
    # The preset that its form was filled from, so that its page can say what is peculiar to the provider.
    preset = models.CharField(max_length=63, blank=True, editable=False)

    # Kept by the catalogue: something is held, disabled or corrected, so lists come from there on every path.
    restricted = models.BooleanField(default=False, editable=False)
    eras = models.CharField(max_length=10, choices=Eras.choices, default=Eras.UNKNOWN, blank=True, editable=False)
    eras_at = models.DateTimeField(null=True, editable=False)
    # Legacy protocol versions that it was seen to negotiate, newest first.
    versions = models.JSONField(default=list, editable=False)
    session_epoch = models.PositiveIntegerField(default=1, editable=False)
    health = models.CharField(max_length=20, choices=Health.choices, default=Health.UNKNOWN, editable=False)
    health_detail = models.JSONField(default=dict, editable=False)
    health_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name",)
        verbose_name = "MCP Server"
        constraints = [
            models.UniqueConstraint(fields=("tenant", "slug"), name="server_slug_unique_in_tenant"),
            models.CheckConstraint(
                condition=models.Q(kind="virtual", url="") | (~models.Q(kind="virtual") & ~models.Q(url="")),
                name="remote_server_has_a_url",
                violation_error_code="url",
                violation_error_message="Enter the server's endpoint URL.",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Raise when a server that is to be called has no address."""
        if self.is_virtual:
            self.url = ""
        elif not self.url:
            raise ValidationError({"url": "Enter the server's endpoint URL."})

    @property
    def is_virtual(self) -> bool:
        """Whether it has members instead of an endpoint of its own."""
        return self.kind == self.Kind.VIRTUAL

    @property
    def is_failing(self) -> bool:
        """Whether tests or calls say that it does not work; a slow one does."""
        return self.health not in (self.Health.UNKNOWN, self.Health.OK, self.Health.SLOW)

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
