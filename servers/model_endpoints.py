"""Which language models a person may chat with in the playground, and how the gateway calls them (F-603)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from servers.egress import Destination, parse_destination
from servers.errors import GatewayError, SecretUnavailable
from servers.models import ModelEndpoint
from servers.secrets.references import BadReference, parse_reference
from servers.secrets.resolver import resolve

MODEL_MOST_CHARACTERS = 200
"""The longest name of a model."""


class ModelRefused(GatewayError):
    """The person may not use this model, or there is none such: the two look alike."""

    code = "model_unknown"


@dataclass(frozen=True, slots=True)
class Offered:
    """An endpoint as its users see it: no address, no key."""

    id: UUID
    name: str
    models: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """Where the chat of one model goes. The key is in `headers` only."""

    endpoint: UUID
    name: str
    model: str
    destination: Destination
    headers: tuple[tuple[str, str], ...] = field(repr=False)


def usable_by(person: Any) -> QuerySet[ModelEndpoint]:
    """The enabled endpoints of the person's tenants that are for everybody or for one of their teams."""
    ids = ModelEndpoint.objects.filter(
        Q(teams__isnull=True) | Q(teams__user=person), enabled=True, tenant__memberships__user=person
    )
    return ModelEndpoint.objects.filter(pk__in=ids.values("pk"))


def offered_to(person: Any) -> list[Offered]:
    """What the person may choose, by name; one query."""
    found = ((row.pk, row.name, model_names(row.model_names)) for row in usable_by(person))
    return [Offered(pk, name, models) for pk, name, models in found if models]


def target_for(person: Any, *, endpoint: UUID, model: str) -> Target:
    """Where this person's chat with `model` goes.

    Raises ModelRefused for what is not theirs, SecretUnavailable and DestinationRefused with sentences for admins.
    """
    row = usable_by(person).select_related("tenant").filter(pk=endpoint).first()
    if row is None or model not in model_names(row.model_names):
        raise ModelRefused("This model is not available to you (any more). Choose another one.")
    return Target(row.pk, row.name, model, chat_destination(row.base_url), authorization(row))


def chat_destination(base_url: str) -> Destination:
    """Where chats of an endpoint go; raises DestinationRefused."""
    return parse_destination(below(base_url, "chat/completions"))


def below(base_url: str, path: str) -> str:
    """The URL of `path` under the base URL, whose query stays (some providers want their version there)."""
    address, mark, query = base_url.partition("?")
    return f"{address.rstrip('/')}/{path}{mark}{query}"


def authorization(endpoint: ModelEndpoint) -> tuple[tuple[str, str], ...]:
    """The header with the endpoint's key, none where it needs none; raises SecretUnavailable."""
    if not endpoint.key:
        return ()
    try:
        reference = parse_reference(endpoint.key)
    except BadReference as error:
        # A key that was written into the row itself is not used: it would lie there unsealed.
        raise SecretUnavailable("The key of this endpoint is no secret reference. Set it again.") from error
    key = resolve(reference, endpoint.tenant)
    if not key.isascii() or not key.isprintable():
        raise SecretUnavailable("The key of this endpoint holds characters that no header can carry. Set it again.")
    return (("authorization", f"Bearer {key}"),)


def model_names(found: object) -> tuple[str, ...]:
    """The names of models in a stored or typed list, once each and in order; what is no name is left out."""
    values: Iterable[object] = found if isinstance(found, list) else ()
    names = (value.strip() for value in values if isinstance(value, str))
    return tuple(dict.fromkeys(name for name in names if name and len(name) <= MODEL_MOST_CHARACTERS))
