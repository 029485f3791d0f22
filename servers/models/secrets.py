"""Secrets in our own store, sealed at rest."""

from __future__ import annotations

from django.core.validators import RegexValidator
from django.db import models

from servers.models.fields import SLUG, UuidModel
from servers.models.tenants import Tenant

SECRET_KEY_NAME = RegexValidator(
    r"^[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,98}[A-Za-z0-9])?\Z",
    "Use letters, digits, dots, hyphens and underscores.",
)


class StoredSecret(UuidModel):
    """One secret of the store, named `secret://<tenant>:<group>:<key>`. Its value can be replaced, not read."""

    tenant = models.ForeignKey(Tenant, on_delete=models.PROTECT, related_name="secrets")
    group = models.CharField(max_length=63, validators=[SLUG], help_text="A name that keeps related secrets together.")
    key = models.CharField(max_length=100, validators=[SECRET_KEY_NAME])
    sealed_value = models.TextField(editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("group", "key")
        verbose_name = "secret"
        constraints = [models.UniqueConstraint(fields=("tenant", "group", "key"), name="secret_fqn_unique")]

    def __str__(self) -> str:
        return self.fqn

    @property
    def fqn(self) -> str:
        """The reference that stands for this secret wherever one is asked for."""
        return f"secret://{self.tenant.slug}:{self.group}:{self.key}"

    @property
    def seal_context(self) -> str:
        """Associated data of the sealed value: this table, row and field."""
        return f"servers_storedsecret:{self.id}:sealed_value"
