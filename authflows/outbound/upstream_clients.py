"""Our clients at providers, opened: what a request to one proves itself with (CL-10)."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from django.conf import settings

from authflows.models import UpstreamClient
from authflows.outbound.token_endpoint import ClientFacts
from servers.errors import SecretUnavailable
from servers.sealing import KeyRing, Sealer, SealError
from servers.secrets.resolver import fill

PURPOSE: Final = "upstream-client"


@lru_cache(maxsize=2)
def _sealer(ring: KeyRing) -> Sealer:
    return ring.sealer(PURPOSE)


def seal_context(client: UpstreamClient) -> str:
    """Associated data of the sealed secret."""
    return f"authflows_upstreamclient:{client.id}:secret"


def seal_secret(client: UpstreamClient, secret: str) -> None:
    """Put a secret that the provider gave us at registration into the row (unsaved), sealed."""
    client.sealed_secret = _sealer(settings.KEY_RING).seal(secret.encode(), seal_context(client)) if secret else ""


def facts_of(client: UpstreamClient) -> ClientFacts:
    """The client with its secret; raises SecretUnavailable."""
    return ClientFacts(client.client_id, _secret(client), client.token_endpoint_auth_method, client.issuer)


def _secret(client: UpstreamClient) -> str:
    if client.secret_reference:
        return fill(client.secret_reference, client.tenant)
    if not client.sealed_secret:
        return ""
    try:
        return _sealer(settings.KEY_RING).open(client.sealed_secret, seal_context(client)).decode()
    except SealError as error:
        raise SecretUnavailable(
            f"The gateway's secret at {client.issuer} cannot be opened with the present key ring. Register again.",
            str(error),
        ) from error
