"""Clients that are known by their metadata document (AZ-9, AZ-10)."""

from __future__ import annotations

from dataclasses import dataclass

from authflows.models import OAuthClient


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a document makes no client: a stable word, and a sentence for the person who waits."""

    reason: str
    sentence: str


def is_document_url(client_id: str) -> bool:
    """Whether a client id is the address of a metadata document."""
    return client_id.startswith("https://")


def resolve(client_id: str) -> OAuthClient | Refused:
    """The client that the document at `client_id` describes."""
    client = OAuthClient.objects.filter(client_id=client_id).first()
    return client or Refused("off", "Programs that are known by a metadata document are not let in here.")
