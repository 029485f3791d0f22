"""Virtual accounts: make, delete. A program's identity is a user that cannot sign in (F-207)."""

from __future__ import annotations

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import transaction

from authflows.models import ApiKey, VirtualAccount
from servers import audit
from servers.models import AccessRule, Membership, Tenant
from servers.people import VIRTUAL_PREFIX


def create_virtual_account(tenant: Tenant, *, name: str, description: str, actor: str) -> VirtualAccount:
    """Make the account with its user, a member of `tenant` only. Raises ValidationError for a bad or taken name."""
    User = get_user_model()
    account = VirtualAccount(tenant=tenant, name=name, description=description)
    account.full_clean(exclude=("user",))
    username = f"{VIRTUAL_PREFIX}{tenant.slug}/{name}"
    if User.objects.filter(username=username).exists():
        raise ValidationError({"name": "A virtual account of this name exists."})
    with transaction.atomic():
        user = User(username=username)
        user.set_unusable_password()
        user.save(force_insert=True)
        # A new user joins the default tenant by itself; a program belongs to its own tenant alone.
        Membership.objects.filter(user=user).exclude(tenant=tenant).delete()
        Membership.objects.get_or_create(user=user, tenant=tenant)
        account.user = user
        account.save(force_insert=True)
        audit.record(audit.Action.VIRTUAL_ACCOUNT_CREATE, actor=actor, subject=account, tenant=tenant)
    return account


def what_ends_with(account: VirtualAccount) -> dict[str, int]:
    """Counts of what a deletion takes along: live keys, and rules on servers and groups."""
    return {
        "keys": ApiKey.objects.filter(owner=account.user, revoked_at__isnull=True).count(),
        "rules": AccessRule.objects.filter(user=account.user).count(),
    }


def delete_virtual_account(account: VirtualAccount, *, actor: str) -> None:
    """Remove the account with its user, keys and rules: refused everywhere within a second."""
    with transaction.atomic():
        detail = dict(what_ends_with(account))
        account.user.delete()
        audit.record(
            audit.Action.VIRTUAL_ACCOUNT_DELETE, actor=actor, subject=account, tenant=account.tenant, detail=detail
        )
