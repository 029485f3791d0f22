"""The App Secret as admins enter it: write-only, a value or a reference, and not to be led to another host."""

from __future__ import annotations

from dataclasses import dataclass, field

from django.core.exceptions import ValidationError

from servers.errors import SecretUnavailable
from servers.header_auth import free_secret_name, same_origin, stored_references
from servers.models import Server, Tenant
from servers.scope import Scope
from servers.secrets.references import BadReference, parse_reference, references_in
from servers.secrets.resolver import resolve
from servers.secrets.store import set_secret

BAD_REFERENCE = "The reference is malformed. Write secret://<tenant>:<group>:<key>, env://<NAME> or file:///<path>."
MOVED = (
    "The token endpoint is on another host now. Enter the App Secret again: a stored secret is sent only to the host "
    "it was entered for."
)
NEEDS_ADMIN = "Only a tenant admin may use this reference. Enter the secret itself, or ask a tenant admin."


@dataclass(frozen=True, slots=True)
class Stored:
    """What is saved already: the reference, and the token endpoint that it was entered for."""

    reference: str = ""
    endpoint: str = ""


@dataclass(frozen=True, slots=True)
class SecretChoice:
    """What the secret shall be: a reference, or a plain value that is still to be stored; or none."""

    reference: str = ""
    plain: str = field(default="", repr=False)

    def keep(self, server: Server, *, actor: str) -> str:
        """The reference for the row; a plain value goes into the store of the server's tenant."""
        if not self.plain:
            return self.reference
        group, key = free_secret_name(server, "client-secret")
        return set_secret(tenant=server.tenant, group=group, key=key, value=self.plain, actor=actor).fqn


def choose(typed: str, stored: Stored, *, endpoint: str, tenant: Tenant, scope: Scope, may_move: bool) -> SecretChoice:
    """What was typed, or what is kept where nothing was; raises ValidationError, whose text never holds the value.

    `endpoint` is the token endpoint as the form now says. `may_move`: a stored secret may follow it elsewhere.
    """
    moved = bool(stored.reference) and not same_origin(stored.endpoint, endpoint)
    if not typed:
        if moved and not may_move:
            raise ValidationError(MOVED, code="origin")
        return SecretChoice(stored.reference)
    try:
        if not references_in(typed):
            return SecretChoice(plain=typed)
        # Alone: it is shown beside the field, where no other text may stand.
        reference = parse_reference(typed)
    except BadReference as error:
        # Its own text would repeat what was typed, which may be a secret.
        raise ValidationError(BAD_REFERENCE) from error
    # A manager of one server could otherwise send any secret of the tenant to a host of their choice.
    known = {str(one) for one in stored_references(stored.reference)} if not moved else set()
    if not scope.administers(tenant.pk) and str(reference) not in known:
        raise ValidationError(NEEDS_ADMIN, code="reference")
    try:
        resolve(reference, tenant)
    except SecretUnavailable as error:
        raise ValidationError(error.public_message) from error
    return SecretChoice(str(reference))
