"""Private addresses that the gateway may call."""

from __future__ import annotations

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from servers.models.fields import UuidModel


class PrivateDestination(UuidModel):
    """An internal host and port that MCP servers may live at. Everything private that is not listed is refused."""

    host = models.CharField(
        max_length=253,
        help_text="A host name or IP address, exactly as it stands in the server's URL.",
    )
    port = models.PositiveIntegerField(validators=[MinValueValidator(1), MaxValueValidator(65535)])
    note = models.CharField(max_length=200, blank=True, help_text="What runs there, and who asked for it.")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("host", "port")
        verbose_name = "allowed private destination"
        constraints = [models.UniqueConstraint(fields=("host", "port"), name="private_destination_unique")]

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"
