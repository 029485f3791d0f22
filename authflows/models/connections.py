"""What the gateway holds to act for a person at an upstream: clients, connections, keys of their own."""

from __future__ import annotations

import secrets

from django.conf import settings
from django.db import models

from authflows.models.approvals import PendingSignIn
from servers.models import Server, Tenant
from servers.models.fields import UuidModel


def _random_id() -> str:
    return secrets.token_urlsafe(24)


class UpstreamClient(UuidModel):
    """Our client at one issuer (CL-7, CL-10). Tokens are never sent to an issuer other than the one they came from.

    An app that was made at the provider belongs to one server, whose managers know its secret. What we register
    ourselves belongs to the tenant; there is one at each token endpoint, since that is where its secret goes.
    """

    class Registration(models.TextChoices):
        PRE_REGISTERED = "pre_registered", "An app that was made at the provider"
        METADATA_DOCUMENT = "metadata_document", "Our metadata document"
        DYNAMIC = "dynamic", "Dynamic registration"

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="upstream_clients")
    # Of a pre-registered one. A deleted server leaves its row to the connections that are deleted with it.
    server = models.ForeignKey(
        Server, on_delete=models.SET_NULL, null=True, related_name="upstream_clients", editable=False
    )
    issuer = models.CharField(max_length=500)
    # Of a dynamic registration: the one place that its secret is sent to.
    token_endpoint = models.CharField(max_length=2000, blank=True)
    registration = models.CharField(max_length=20, choices=Registration.choices)
    # Empty while a dynamic registration is under way, until `lease_until`.
    client_id = models.CharField(max_length=500, blank=True)
    lease_until = models.DateTimeField(null=True, editable=False)
    secret_expires_at = models.DateTimeField(null=True, editable=False)
    # For a pre-registered one a reference (FQN) to the secret store; a registered one's secret is sealed here.
    secret_reference = models.CharField(max_length=500, blank=True)
    sealed_secret = models.TextField(blank=True, editable=False)
    token_endpoint_auth_method = models.CharField(max_length=30, default="client_secret_basic")
    redirect_uri = models.CharField(max_length=500)
    # A registration that the provider forgot; kept for the connections that hang on it, never used again.
    lost_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("issuer", "-created_at")
        constraints = [
            models.UniqueConstraint(
                fields=("server", "issuer", "client_id"),
                condition=models.Q(registration="pre_registered"),
                name="one_app_per_server_and_issuer",
            ),
            models.UniqueConstraint(
                fields=("tenant", "issuer", "client_id"),
                condition=models.Q(registration="metadata_document"),
                name="one_metadata_client_per_issuer",
            ),
            models.UniqueConstraint(
                fields=("tenant", "issuer", "token_endpoint"),
                condition=models.Q(registration="dynamic", lost_at__isnull=True),
                name="one_live_registration_per_issuer",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.client_id or 'a registration under way'} at {self.issuer}"


class Connection(UuidModel):
    """One person's authorization at a provider for one server. Tokens are sealed; see `outbound.connections`."""

    class State(models.TextChoices):
        CONNECTED = "connected", "Connected"
        NEEDS_RECONNECT = "needs_reconnect", "Connect again"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="connections")
    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="connections")
    client = models.ForeignKey(UpstreamClient, on_delete=models.PROTECT, related_name="connections")
    # The origin that the tokens are for: with another endpoint they are not sent (T29, CL-19).
    origin = models.CharField(max_length=500)
    account_label = models.CharField(max_length=255, blank=True)
    account_subject = models.CharField(max_length=255, blank=True)
    scope = models.TextField(blank=True)
    sealed_access_token = models.TextField(editable=False)
    sealed_refresh_token = models.TextField(blank=True, editable=False)
    access_expires_at = models.DateTimeField(null=True)
    state = models.CharField(max_length=20, choices=State.choices, default=State.CONNECTED)
    # A stable word for what went wrong last; the sentence for people is made from it.
    last_error = models.CharField(max_length=50, blank=True)
    # Scopes that a call was refused for (step-up, CL-13).
    wanted_scope = models.TextField(blank=True)
    # Grows when the account behind it may be another one: sealed session ids of the old one end (SE-4).
    epoch = models.PositiveIntegerField(default=1)
    # Grows with each token that is stored, so that a refresh knows whether somebody was faster.
    generation = models.PositiveIntegerField(default=1)
    lease_until = models.DateTimeField(null=True)
    # Refreshes that failed in a row, and when the next may be tried.
    failures = models.PositiveSmallIntegerField(default=0)
    retry_at = models.DateTimeField(null=True)
    connected_at = models.DateTimeField()
    refreshed_at = models.DateTimeField(null=True)
    last_used_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ("server__name",)
        constraints = [models.UniqueConstraint(fields=("user", "server"), name="one_connection_per_person_and_server")]
        indexes = [models.Index(fields=("state", "access_expires_at"), name="connections_to_refresh")]

    def __str__(self) -> str:
        return f"{self.user} at {self.server}"

    def seal_context(self, field: str) -> str:
        """Associated data of a sealed token: table, row and field; the person and server are fixed for the row."""
        return f"authflows_connection:{self.id}:{self.user_id}:{self.server_id}:{field}"


class PendingConnection(models.Model):
    """A trip to a provider between its two redirects (CL-14, T19). The `state` is stored as SHA-256 only.

    Works once, for ten minutes, for the person who began it, in the browser session that began it.
    """

    digest = models.CharField(max_length=64, primary_key=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    session_digest = models.CharField(max_length=64)
    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="+")
    client = models.ForeignKey(UpstreamClient, on_delete=models.CASCADE, related_name="+")
    issuer = models.CharField(max_length=500)
    sealed_verifier = models.TextField(editable=False)
    scope = models.TextField(blank=True)
    # What the trip belongs to, if a client's sign-in began it.
    sign_in = models.ForeignKey(PendingSignIn, on_delete=models.CASCADE, null=True, related_name="+")
    # A path of ours to come back to; never from the provider's answer.
    return_to = models.CharField(max_length=500, blank=True)
    used_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ("expires_at",)

    def __str__(self) -> str:
        return f"{self.user} to {self.server}"


class ConnectLink(models.Model):
    """The page behind a "not connected" answer: one random id, good for one person, 15 minutes (CP-1 to CP-6)."""

    id = models.CharField(max_length=32, primary_key=True, default=_random_id, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="+")
    # The virtual server that was called, if it was not the server itself.
    through = models.ForeignKey(Server, on_delete=models.SET_NULL, null=True, related_name="+")
    asked_by = models.CharField(max_length=255, blank=True)
    expires_at = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ("expires_at",)

    def __str__(self) -> str:
        return f"{self.user} to {self.server}"


class OwnKey(UuidModel):
    """A person's or virtual account's own header values for one server: the "Auth Override" (F-308, F-309)."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="own_keys")
    server = models.ForeignKey(Server, on_delete=models.CASCADE, related_name="own_keys")
    # JSON: the method that they are for, and placeholder name to value; over a shared header: header to whole value.
    sealed_values = models.TextField(editable=False)
    # The origin that the values were entered for: with another endpoint they are not sent (T29).
    origin = models.CharField(max_length=500)
    expires_at = models.DateTimeField(null=True, blank=True)
    comment = models.CharField(max_length=200, blank=True)
    set_by = models.CharField(max_length=200)
    refused_at = models.DateTimeField(null=True)
    epoch = models.PositiveIntegerField(default=1)
    last_used_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("server__name",)
        verbose_name = "own key"
        constraints = [models.UniqueConstraint(fields=("user", "server"), name="one_own_key_per_person_and_server")]

    def __str__(self) -> str:
        return f"{self.user} at {self.server}"

    def seal_context(self) -> str:
        """Associated data of the sealed values."""
        return f"authflows_ownkey:{self.id}:{self.user_id}:{self.server_id}:values"
