"""The secret by which a provider knows us: a reference in the row, or the operator's setting for a managed one."""

from __future__ import annotations

from copy import copy

from django.conf import settings

from authflows.models import IdentityProvider
from servers import audit
from servers.errors import SecretUnavailable
from servers.models import StoredSecret
from servers.secrets.references import BadReference, parse_reference
from servers.secrets.resolver import resolve
from servers.secrets.store import set_secret

_KEY = "client-secret"


def client_secret_of(provider: IdentityProvider) -> str:
    """The secret, or nothing for a client that has none; raises SecretUnavailable."""
    if provider.managed:
        return str(settings.SSO["client_secret"]) if settings.SSO else ""
    if not provider.client_secret:
        return ""
    try:
        return resolve(parse_reference(provider.client_secret), provider.tenant)
    except BadReference as error:
        raise SecretUnavailable("The reference of the client secret is malformed. Enter the secret again.") from error


def store_client_secret(provider: IdentityProvider, value: str, *, actor: str) -> str:
    """Keep a secret that was typed in in the store of the provider's tenant; returns its reference."""
    return set_secret(tenant=provider.tenant, group=_group(provider), key=_KEY, value=value, actor=actor).fqn


def forget_client_secret(provider: IdentityProvider, *, actor: str) -> None:
    """Delete the secret that was typed in for this provider; one that a reference names stays."""
    for secret in StoredSecret.objects.filter(tenant=provider.tenant, group=_group(provider), key=_KEY):
        if secret.fqn == provider.client_secret:
            gone = copy(secret)
            secret.delete()
            audit.record(audit.Action.SECRET_DELETE, actor=actor, subject=gone, tenant=provider.tenant)


def _group(provider: IdentityProvider) -> str:
    return f"sign-in-{provider.slug}"
