"""The identity provider that the operator's settings declare, as a row like any other, which the admin only shows.

Called after `migrate` and by `serve`. Its client secret stays in the settings and is in no table.
"""

from __future__ import annotations

import logging
from typing import Any, Final

from django.conf import settings
from django.db import OperationalError, ProgrammingError, connections, transaction

from authflows.inbound.identity.sso_presets import PRESETS, Kind
from authflows.models import IdentityProvider
from servers import audit
from servers.tenancy import default_tenant

log = logging.getLogger(__name__)
_ACTOR: Final = "settings (GATEHOUSE_SSO_…)"


def sync() -> None:
    """Make the table say what the settings say; writes nothing when it does already."""
    try:
        with transaction.atomic():
            _retire(settings.SSO["slug"] if settings.SSO else None)
            if settings.SSO:
                _declare(settings.SSO)
    except (OperationalError, ProgrammingError) as error:
        # No tables yet, or those of another version: `readyz` says so, and `migrate` comes back here.
        log.warning("the identity provider of the settings is not in the database: %s", error)


def sync_and_disconnect() -> None:
    """The same for a process that goes on to serve with connections of its own."""
    sync()
    connections.close_all()


def _retire(slug: str | None) -> None:
    for row in IdentityProvider.objects.filter(managed=True).exclude(slug=slug or ""):
        row.managed = False
        row.enabled = False
        row.save(update_fields=["managed", "enabled", "updated_at"])
        _record(audit.Action.IDENTITY_PROVIDER_CHANGE, row, ["managed", "enabled"])


def _declare(declared: dict[str, Any]) -> None:
    values = _values(declared)
    row = IdentityProvider.objects.filter(slug=declared["slug"]).first()
    if row is None:
        row = IdentityProvider(slug=declared["slug"], tenant=default_tenant(), **values)
        row.save(force_insert=True)
        _record(audit.Action.IDENTITY_PROVIDER_CREATE, row, sorted(values))
        return
    if not row.managed:
        log.error(
            "GATEHOUSE_SSO_SLUG=%s is the slug of a provider that was made in the admin. It is left alone: choose "
            "another slug, or delete that provider.",
            row.slug,
        )
        return
    changed = sorted(name for name, value in values.items() if getattr(row, name) != value)
    if changed:
        for name in changed:
            setattr(row, name, values[name])
        row.save(update_fields=[*changed, "updated_at"])
        _record(audit.Action.IDENTITY_PROVIDER_CHANGE, row, changed)


def _values(declared: dict[str, Any]) -> dict[str, Any]:
    preset = PRESETS[Kind(declared["preset"])]
    return {
        "preset": declared["preset"],
        "name": declared["name"] or preset.label,
        "issuer": declared["issuer"] or preset.issuer,
        "client_id": declared["client_id"],
        "creation": declared["creation"],
        "allowed_domains": declared["allowed_domains"],
        "allowed_groups": declared["allowed_groups"],
        "groups_claim": declared["groups_claim"] or preset.groups_claim,
        "username_claim": declared["username_claim"] or preset.username_claim,
        "extra_scopes": declared["extra_scopes"] or preset.extra_scopes,
        "enabled": True,
        "sign_in": True,
        "managed": True,
        "vouches_for_all": True,
    }


def _record(action: audit.Action, row: IdentityProvider, fields: list[str]) -> None:
    audit.record(action, actor=_ACTOR, subject=row, tenant=row.tenant, detail={"fields": fields})
