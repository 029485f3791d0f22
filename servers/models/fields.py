"""Pieces that several models share."""

from __future__ import annotations

import uuid

from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator
from django.db import models

# Lower case, digits and hyphens: what is safe in a URL, a host name and an FQN alike.
SLUG = RegexValidator(
    r"^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z",
    "Use 1 to 63 lower-case letters, digits and hyphens; begin and end with a letter or digit.",
)


def validate_endpoint_url(value: str) -> None:
    """Raise when no server could be called at this URL. Django's own field refuses names such as http://calculator:80."""
    from servers.egress import parse_destination
    from servers.errors import DestinationRefused

    try:
        parse_destination(value)
    except DestinationRefused as error:
        raise ValidationError(error.public_message) from error


class UuidModel(models.Model):
    """A row whose key the application makes: it is part of the associated data of what is sealed in it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)

    class Meta:
        abstract = True
