"""Tokens of OAuth clients."""

from __future__ import annotations

from collections.abc import Collection

from oauth2_provider.models import AccessToken, Grant, RefreshToken


def end_for(*, user_id: int, client_id: int, resources: Collection[str]) -> None:
    """End every code and token that a person's client has for these resources."""
    for model in (Grant, RefreshToken, AccessToken):
        for row in model.objects.filter(user_id=user_id, application_id=client_id):
            if set(row.resource) & set(resources):
                row.delete()
