"""Language models that the playground may talk to (F-603)."""

from __future__ import annotations

from django.contrib.auth.models import Group
from django.db import models

from servers.models.fields import UuidModel, validate_endpoint_url
from servers.models.tenants import Tenant


class ModelEndpoint(UuidModel):
    """An OpenAI-compatible endpoint that an admin registered. Its key is a reference, never the key itself."""

    tenant = models.ForeignKey(Tenant, on_delete=models.CASCADE, related_name="model_endpoints")
    name = models.CharField(max_length=100, help_text="What people choose in the playground.")
    base_url = models.CharField(
        "base URL",
        max_length=2000,
        validators=[validate_endpoint_url],
        help_text="Without /chat/completions, for example https://api.openai.com/v1.",
    )
    model_names = models.JSONField(
        "models", default=list, help_text="Names of the models that people may choose, as a JSON list."
    )
    key = models.CharField(
        max_length=500,
        blank=True,
        help_text="A secret reference such as secret://default:llm:key; empty where the endpoint needs none.",
    )
    enabled = models.BooleanField(default=True)
    teams = models.ManyToManyField(
        Group,
        blank=True,
        related_name="model_endpoints",
        help_text="Who may use it; none chosen: everybody of the tenant.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name",)
        constraints = [models.UniqueConstraint(fields=("tenant", "name"), name="model_endpoint_name_unique_in_tenant")]

    def __str__(self) -> str:
        return self.name
