"""From rows to a `Principal`: the person or virtual account behind a credential."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from authflows.models import VirtualAccount
from servers.access import Principal
from servers.models import Membership


def principal_for(
    user: Any,
    *,
    credential: str,
    credential_expires_at: float | None = None,
    limited_to: frozenset[UUID] | None = None,
) -> Principal:
    """The principal as `access.decide` wants it; three small queries. A virtual account is in its tenant only."""
    account = VirtualAccount.objects.filter(user=user).first()
    tenants = [account.tenant_id] if account else Membership.objects.filter(user=user).values_list("tenant", flat=True)
    return Principal(
        user_id=user.pk,
        label=f"virtual account {account.name}" if account else user.get_username(),
        active=user.is_active and (account is None or account.enabled),
        tenants=frozenset(tenants),
        teams=frozenset(user.groups.values_list("pk", flat=True)),
        credential=credential,
        credential_expires_at=credential_expires_at,
        limited_to=limited_to,
    )
