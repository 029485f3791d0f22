"""Which row changes empty which caches. Every write that a decision depends on is listed here.

Signals, because rows are also written by the admin, by Django's own user and group pages and by hand;
the caller cannot forget. Rows of one transaction and their `Change` rows commit together.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import F
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save

from servers import changes
from servers.models.access import AccessRule
from servers.models.egress import PrivateDestination
from servers.models.secrets import StoredSecret
from servers.models.servers import AuthConfig, Server
from servers.models.tenants import DEFAULT_TENANT_SLUG, Membership, Tenant


def connect() -> None:
    """Connect the observers; called once when the application starts."""
    User = get_user_model()
    for model, handler in (
        (Server, _server_written),
        (AuthConfig, _auth_config_written),
        (AccessRule, _rule_written),
        (StoredSecret, _secret_written),
        (PrivateDestination, _destination_written),
        (Tenant, _tenant_written),
        (Membership, _membership_written),
        (User, _user_written),
    ):
        post_save.connect(handler, sender=model, dispatch_uid=f"changes-save-{model.__name__}")
        post_delete.connect(handler, sender=model, dispatch_uid=f"changes-delete-{model.__name__}")
    pre_save.connect(_server_about_to_change, sender=Server, dispatch_uid="changes-server-epoch")
    pre_save.connect(_auth_config_about_to_change, sender=AuthConfig, dispatch_uid="changes-auth-epoch")
    pre_delete.connect(_team_about_to_go, sender=Group, dispatch_uid="changes-team")
    m2m_changed.connect(_teams_changed, sender=User.groups.through, dispatch_uid="changes-teams")
    post_save.connect(_join_default_tenant, sender=User, dispatch_uid="default-tenant")


def _server_about_to_change(instance: Server, **_: Any) -> None:
    # A new address is a new server: sessions of the old one must not reach it (SE-4, T29).
    stored = Server.objects.filter(pk=instance.pk).values_list("url", flat=True).first()
    if stored is not None and stored != instance.url:
        instance.session_epoch += 1


def _auth_config_about_to_change(instance: AuthConfig, **_: Any) -> None:
    stored = AuthConfig.objects.filter(pk=instance.pk).values_list("method", "settings").first()
    if stored is not None and stored != (instance.method, instance.settings):
        instance.epoch += 1


def _server_written(instance: Server, **_: Any) -> None:
    changes.record("server", instance.pk)


def _auth_config_written(instance: AuthConfig, **_: Any) -> None:
    changes.record("server", instance.server_id)


def _rule_written(instance: AccessRule, **_: Any) -> None:
    if instance.server_id is not None:
        changes.record("server", instance.server_id)
    if instance.group_id is not None:
        record_group(instance.group_id)


def record_group(group_id: Any) -> None:
    """Every server of the group changed."""
    for server_id in Server.objects.filter(group_id=group_id).values_list("pk", flat=True):
        changes.record("server", server_id)


def _secret_written(instance: StoredSecret, **options: Any) -> None:
    changes.record("secret", instance.fqn)
    update_fields = options.get("update_fields")
    if update_fields is not None and set(update_fields) == {"sealed_value"}:
        return  # sealed anew, the value is the same
    # Sessions that the old value opened belong to whoever it stood for (SE-4).
    using = [c.pk for c in AuthConfig.objects.select_related("server").all() if _mentions(c, instance)]
    for config in AuthConfig.objects.filter(pk__in=using):
        AuthConfig.objects.filter(pk=config.pk).update(epoch=F("epoch") + 1)
        changes.record("server", config.server_id)


def _mentions(config: AuthConfig, secret: StoredSecret) -> bool:
    tail = f"secret://{secret.tenant.slug}:{secret.group}:{secret.key}"
    return any(tail in value for _, value in config.header_templates())


def _destination_written(**_: Any) -> None:
    changes.record("private_destinations", "all")


def _tenant_written(instance: Tenant, **_: Any) -> None:
    changes.record("tenant", instance.pk)


def _membership_written(instance: Membership, **_: Any) -> None:
    changes.record("user", instance.user_id)


def _user_written(instance: Any, **options: Any) -> None:
    if options.get("update_fields") is not None and set(options["update_fields"]) == {"last_login"}:
        return
    changes.record("user", instance.pk)


def _team_about_to_go(instance: Group, **_: Any) -> None:
    for user_id in instance.user_set.values_list("pk", flat=True):
        changes.record("user", user_id)


def _teams_changed(instance: Any, action: str, pk_set: set[int] | None, reverse: bool, **_: Any) -> None:
    if action not in ("post_add", "post_remove", "pre_clear"):
        return
    if not reverse:
        changes.record("user", instance.pk)
        return
    members = pk_set if pk_set is not None else set(instance.user_set.values_list("pk", flat=True))
    for user_id in members:
        changes.record("user", user_id)


def _join_default_tenant(instance: Any, created: bool, raw: bool, **_: Any) -> None:
    # A person whom nobody put into a tenant belongs to the default one.
    if created and not raw:
        with transaction.atomic():
            tenant = Tenant.objects.filter(slug=DEFAULT_TENANT_SLUG).first()
            if tenant is not None:
                Membership.objects.get_or_create(tenant=tenant, user=instance)
