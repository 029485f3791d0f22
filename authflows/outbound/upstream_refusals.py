"""What a server's refusal of somebody's own credential changes about what we hold (CL-13, CL-21)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from django.db import transaction
from django.utils import timezone

from authflows.invalidation import own_key_place
from authflows.models import Connection, OwnKey
from authflows.outbound import connections
from authflows.outbound.credential_results import Credential, Kind
from servers import changes
from servers.oauth_settings import OAuthSettings


@dataclass(frozen=True, slots=True)
class StepUp:
    """Scopes that a call lacked: those that connecting again may bring, and those beyond what an admin allows."""

    asked: tuple[str, ...]
    beyond: tuple[str, ...]


def refused(credential: Credential) -> None:
    """The server refused a credential that was fresh: only its owner can help now."""
    if credential.id is None:
        return
    if credential.kind is Kind.CONNECTION:
        connections.mark_refused(credential.id, seen_generation=credential.generation)
    elif credential.kind is Kind.OWN_KEY:
        with transaction.atomic():
            keys = OwnKey.objects.filter(pk=credential.id, epoch=credential.generation, refused_at__isnull=True)
            place = keys.values_list("user_id", "server_id").first()
            if place is not None and keys.update(refused_at=timezone.now()):
                changes.record("own_key", own_key_place(*place))


def step_up(credential: Credential, challenged: Iterable[str]) -> StepUp:
    """Remember the scopes that a call was refused for, together with those asked for before, up to the ceiling."""
    rows = Connection.objects.select_related("server__auth_config")
    connection = rows.filter(pk=credential.id).first() if credential.id is not None else None
    if connection is None:
        return StepUp((), ())
    config = getattr(connection.server, "auth_config", None)
    ceiling = OAuthSettings.read(config.settings).scopes if config is not None else ()
    given = connection.scope.split()
    lacking = [scope for scope in dict.fromkeys(challenged) if scope not in given]
    asked = tuple(scope for scope in lacking if not ceiling or scope in ceiling)
    if asked:
        union = dict.fromkeys([*given, *connection.wanted_scope.split(), *asked])
        connections.want_scope(connection.pk, " ".join(s for s in union if not ceiling or s in ceiling or s in given))
    return StepUp(asked, tuple(scope for scope in lacking if scope not in asked))
