"""From rows to a `Principal`: the person or virtual account behind a credential."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib.auth import get_user_model

from authflows.models import VirtualAccount
from servers.access import Principal


def principal_for(
    user: Any,
    *,
    credential: str,
    credential_expires_at: float | None = None,
    limited_to: frozenset[UUID] | None = None,
    audience: str | None = None,
    sign_in: UUID | None = None,
) -> Principal:
    """The principal as `access.decide` wants it. A virtual account is in its tenant only.

    One query, and one more unless `user` was loaded with its `virtual_account`.
    """
    account: VirtualAccount | None = getattr(user, "virtual_account", None)
    tenants, teams = _tenants_and_teams(user)
    if account is not None:
        tenants = {account.tenant_id}
    return Principal(
        user_id=user.pk,
        label=f"virtual account {account.name}" if account else user.get_username(),
        active=user.is_active and (account is None or account.enabled),
        tenants=frozenset(tenants),
        teams=frozenset(teams),
        credential=credential,
        credential_expires_at=credential_expires_at,
        limited_to=limited_to,
        audience=audience,
        sign_in=sign_in,
    )


def _tenants_and_teams(user: Any) -> tuple[set[UUID], set[int]]:
    # Joined to both: a few times as many rows as there are teams, but one query.
    people = get_user_model()._default_manager.filter(pk=user.pk)
    rows = list(people.values_list("memberships__tenant", "groups"))
    return {tenant for tenant, _ in rows if tenant is not None}, {team for _, team in rows if team is not None}
