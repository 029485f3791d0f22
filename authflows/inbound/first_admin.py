"""The first admin: nobody has a password yet, so a link that works once makes the first account."""

from __future__ import annotations

import hashlib
import secrets
from datetime import timedelta
from enum import Enum
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import transaction
from django.urls import reverse
from django.utils import timezone

from authflows.models import OneTimeLink
from servers import audit
from servers.errors import GatewayError
from servers.models import AccessRule, Membership, Role, Server, Tenant
from servers.models.tenants import DEFAULT_TENANT_SLUG

LINK_LIFETIME = timedelta(hours=24)


class AdminExists(GatewayError):
    """There is an admin already; more are made in the admin pages."""

    code = "admin_exists"


class LinkState(Enum):
    """What a link is good for."""

    USABLE = "usable"
    UNKNOWN = "unknown"
    USED = "used"
    EXPIRED = "expired"
    ADMIN_EXISTS = "admin_exists"


class LinkUnusable(GatewayError):
    """The link does not work (any more); `state` says why."""

    code = "link_unusable"

    def __init__(self, state: LinkState) -> None:
        super().__init__("This link does not work.", state.value)
        self.state = state


def admin_exists() -> bool:
    """Whether somebody can administer this gateway: an active superuser."""
    return get_user_model()._default_manager.filter(is_superuser=True, is_active=True).exists()


def make_link() -> str:
    """A new link to create the first admin; links made before end now. Raises AdminExists."""
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        _stand_in_line()
        if admin_exists():
            raise AdminExists("An admin exists already. More admins are made under People in the admin.")
        now = timezone.now()
        _unused().filter(expires_at__gt=now).update(expires_at=now)
        link = OneTimeLink.objects.create(
            purpose=OneTimeLink.Purpose.FIRST_ADMIN, digest=digest_of(token), expires_at=now + LINK_LIFETIME
        )
        audit.record(audit.Action.FIRST_ADMIN_LINK, actor="command line", subject=link)
    return settings.PUBLIC_URL + reverse("first-admin-link", args=[token])


def digest_of(token: str) -> str:
    """What is stored of a link. The token is 256 random bits, so a plain hash is enough."""
    return hashlib.sha256(token.encode()).hexdigest()


def state_of(digest: str) -> LinkState:
    """What the link with this digest is good for, now."""
    link = OneTimeLink.objects.filter(purpose=OneTimeLink.Purpose.FIRST_ADMIN, digest=digest).first()
    if link is None:
        return LinkState.UNKNOWN
    if link.used_at is not None:
        return LinkState.USED
    if admin_exists():
        return LinkState.ADMIN_EXISTS
    return LinkState.USABLE if link.expires_at > timezone.now() else LinkState.EXPIRED


def create(digest: str, *, user: Any) -> None:
    """Use the link up and save `user`, a new unsaved account, as superuser and admin of the default tenant.

    They also become Manager of every server that has none, such as the sample. Raises LinkUnusable; of two
    calls at once exactly one succeeds.
    """
    with transaction.atomic():
        _stand_in_line()
        now = timezone.now()
        state = state_of(digest)
        if state is not LinkState.USABLE:
            raise LinkUnusable(state)
        if not _unused().filter(digest=digest, expires_at__gt=now).update(used_at=now):
            raise LinkUnusable(LinkState.USED)
        user.is_staff = user.is_superuser = user.is_active = True
        user.save()
        tenant = Tenant.objects.get(slug=DEFAULT_TENANT_SLUG)
        Membership.objects.update_or_create(tenant=tenant, user=user, defaults={"role": Membership.Role.ADMIN})
        adopted = _servers_without_manager(tenant)
        for server in adopted:
            AccessRule.objects.create(server=server, user=user, role=Role.MANAGER)
        audit.record(
            audit.Action.FIRST_ADMIN_CREATE,
            actor=user.get_username(),
            subject=user,
            tenant=tenant,
            detail={"manager_of": [server.slug for server in adopted]},
        )


def _stand_in_line() -> None:
    # One row that every installation has: whoever makes links or admins goes one after the other.
    Tenant.objects.select_for_update().get(slug=DEFAULT_TENANT_SLUG)


def _unused() -> Any:
    return OneTimeLink.objects.filter(purpose=OneTimeLink.Purpose.FIRST_ADMIN, used_at__isnull=True)


def _servers_without_manager(tenant: Tenant) -> list[Server]:
    managed = AccessRule.objects.filter(role=Role.MANAGER)
    return list(
        Server.objects.filter(tenant=tenant)
        .exclude(pk__in=managed.filter(server__isnull=False).values("server"))
        .exclude(group__in=managed.filter(group__isnull=False).values("group"))
    )
