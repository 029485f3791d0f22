"""Which row changes empty which caches. Every write that a decision depends on is listed here.

Signals, because rows are also written by the admin, by Django's own user and group pages and by hand;
the caller cannot forget. Rows of one transaction and their `Change` rows commit together. What signals do not
see is `QuerySet.update()` and the `bulk_` methods: code that uses them on these models calls `changes.record`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.db.models import F, Model, QuerySet
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save

from servers import changes, health
from servers.endpoints import origin_of
from servers.models.access import AccessRule
from servers.models.catalogue import Catalogue
from servers.models.egress import PrivateDestination
from servers.models.secrets import StoredSecret
from servers.models.servers import AuthConfig, Server
from servers.models.tenants import DEFAULT_TENANT_SLUG, Membership, Tenant
from servers.models.virtual import VirtualMember, VirtualSelection
from servers.secrets.references import BadReference, StoredReference, references_in

Handler = Callable[..., None]
_written: dict[type[Model], Handler] = {}
_about_to_change: dict[type[Model], Handler] = {}
_HEALTH_FIELDS = frozenset({"health", "health_detail", "health_at", "updated_at"})
_TESTED_FIELDS = ("url", "ca_certificate", "static_headers")
_MOVED_FROM = "_gatehouse_moved_from"


def watch(model: type[Model], written: Handler, about_to_change: Handler | None = None) -> None:
    """Call `written(instance=…, update_fields=…)` after every save and delete of a row of this model.

    `about_to_change` is called in the same way before a save. A proxy of the model counts as the model.
    """
    _written[model] = written
    if about_to_change is not None:
        _about_to_change[model] = about_to_change


def connect() -> None:
    """Connect the observers; called once when the application starts."""
    User = get_user_model()
    watch(Server, _server_written, _server_about_to_change)
    watch(AuthConfig, _auth_config_written, _auth_config_about_to_change)
    watch(AccessRule, _rule_written, _rule_about_to_change)
    watch(StoredSecret, _secret_written)
    watch(PrivateDestination, _destination_written)
    watch(Tenant, _tenant_written)
    watch(Membership, _membership_written, _membership_about_to_change)
    watch(User, _user_written)
    watch(Catalogue, _catalogue_written)
    watch(VirtualMember, _member_written, _member_about_to_change)
    watch(VirtualSelection, _selection_written)
    # Without a sender, because a proxy model is a sender of its own.
    pre_save.connect(_before_save, dispatch_uid="changes-before-save")
    post_save.connect(_after_write, dispatch_uid="changes-save")
    post_delete.connect(_after_write, dispatch_uid="changes-delete")
    pre_delete.connect(_before_delete, dispatch_uid="changes-before-delete")
    m2m_changed.connect(_teams_changed, sender=User.groups.through, dispatch_uid="changes-teams")


def _catalogue_written(instance: Catalogue, **_: Any) -> None:
    changes.record("catalogue", instance.server_id)


def _member_about_to_change(instance: VirtualMember, update_fields: frozenset[str] | None = None, **_: Any) -> None:
    # A credential is for the member as it is when it is set. Without a noted origin it counts as set just now.
    stored = _stored(VirtualMember, instance).values_list("credential", "credential_epoch").first()
    written = update_fields is None or bool({"credential", "credential_origin"} & update_fields)
    moved = written and (stored is None or stored[0] != instance.credential)
    if stored is not None:
        instance.credential_epoch = _later_epoch(instance.credential_epoch, stored[1], bump=moved)
    if moved or (written and not instance.credential_origin):
        instance.credential_origin = origin_of(instance.server.url) if instance.credential else ""


def _member_written(instance: VirtualMember, update_fields: frozenset[str] | None = None, **_: Any) -> None:
    if update_fields is not None and not {"credential_epoch", "credential_origin"} <= update_fields:
        noted = {"credential_epoch": instance.credential_epoch, "credential_origin": instance.credential_origin}
        VirtualMember.objects.filter(pk=instance.pk).update(**noted)
    changes.record("server", instance.virtual_id)


def _selection_written(instance: VirtualSelection, origin: Any = None, **_: Any) -> None:
    if isinstance(origin, Model) and not isinstance(origin, VirtualSelection):
        return  # goes with its member, or with one of the servers: one change, not one for each of thousands
    changes.record("server", instance.member.virtual_id)


def _before_save(sender: type[Model], **options: Any) -> None:
    if handler := _about_to_change.get(_concrete(sender)):
        handler(**options)


def _after_write(sender: type[Model], **options: Any) -> None:
    if handler := _written.get(_concrete(sender)):
        handler(**options)


def _before_delete(sender: type[Model], instance: Any, **_: Any) -> None:
    if _concrete(sender) is Group:
        changes.record_all("user", instance.user_set.values_list("pk", flat=True))


def _concrete(model: type[Model]) -> type[Model]:
    return model._meta.concrete_model or model


def _server_about_to_change(instance: Server, update_fields: frozenset[str] | None = None, **_: Any) -> None:
    # A new address is a new server: sessions of the old one must not reach it (SE-4, T29).
    stored = _stored(Server, instance).values("session_epoch", *_TESTED_FIELDS).first()
    if stored is None:
        return
    changed = {
        name
        for name in _TESTED_FIELDS
        if stored[name] != getattr(instance, name) and (update_fields is None or name in update_fields)
    }
    instance.session_epoch = _later_epoch(instance.session_epoch, stored["session_epoch"], bump="url" in changed)
    if changed:
        health.forget([instance.pk])
        instance.health, instance.health_detail, instance.health_at = Server.Health.UNKNOWN, {}, None
    if "url" in changed:
        # Also where only some fields are saved.
        Server.objects.filter(pk=instance.pk).update(eras=Server.Eras.UNKNOWN, eras_at=None, versions=[])
        instance.eras, instance.eras_at, instance.versions = Server.Eras.UNKNOWN, None, []


def _auth_config_about_to_change(instance: AuthConfig, update_fields: frozenset[str] | None = None, **_: Any) -> None:
    stored = _stored(AuthConfig, instance).values_list("method", "settings", "epoch").first()
    if stored is not None:
        method, settings, epoch = stored
        moved = (method, settings) != (instance.method, instance.settings)
        moved = moved and (update_fields is None or bool({"method", "settings"} & update_fields))
        instance.epoch = _later_epoch(instance.epoch, epoch, bump=moved)
        if moved:
            health.forget([instance.server_id])


def _stored(model: type[Model], instance: Model) -> QuerySet[Any]:
    rows = model._default_manager.filter(pk=instance.pk)
    return rows.select_for_update() if connection.in_atomic_block else rows


def _later_epoch(own: Any, stored: int, *, bump: bool) -> Any:
    # A row that was read some time ago must not turn the epoch back. An F() expression counts for itself.
    return max(own, stored + 1 if bump else stored) if isinstance(own, int) else own


def _server_written(instance: Server, update_fields: frozenset[str] | None = None, **_: Any) -> None:
    if update_fields is not None and update_fields <= _HEALTH_FIELDS:
        return
    if update_fields is not None and "url" in update_fields and "session_epoch" not in update_fields:
        Server.objects.filter(pk=instance.pk).update(session_epoch=instance.session_epoch)
    changes.record("server", instance.pk)


def _auth_config_written(instance: AuthConfig, update_fields: frozenset[str] | None = None, **_: Any) -> None:
    if update_fields is not None and "epoch" not in update_fields:
        AuthConfig.objects.filter(pk=instance.pk).update(epoch=instance.epoch)
    changes.record("server", instance.server_id)


def _rule_about_to_change(instance: AccessRule, **_: Any) -> None:
    _remember_place(instance, "server_id", "group_id")


def _rule_written(instance: AccessRule, **_: Any) -> None:
    places = {(instance.server_id, instance.group_id), *_forget_place(instance)}
    changes.record_all("server", {server for server, _ in places if server is not None})
    for group in {group for _, group in places if group is not None}:
        record_group(group)


def record_group(group_id: Any) -> None:
    """Every server of the group changed."""
    changes.record_all("server", Server.objects.filter(group_id=group_id).values_list("pk", flat=True))


def _secret_written(instance: StoredSecret, update_fields: frozenset[str] | None = None, **_: Any) -> None:
    changes.record("secret", instance.fqn)
    if update_fields is not None and update_fields == {"sealed_value"}:
        return  # sealed anew, the value is the same
    # Sessions that the old value opened belong to whoever it stood for (SE-4).
    configs = AuthConfig.objects.filter(server__tenant_id=instance.tenant_id)
    using = [config for config in configs if _mentions(config, instance)]
    AuthConfig.objects.filter(pk__in=[config.pk for config in using]).update(epoch=F("epoch") + 1)
    health.forget([config.server_id for config in using])
    changes.record_all("server", [config.server_id for config in using])


def _mentions(config: AuthConfig, secret: StoredSecret) -> bool:
    wanted = StoredReference(secret.tenant.slug, secret.group, secret.key)
    try:
        return any(wanted in references_in(value) for _, value in config.header_templates())
    except BadReference:
        return True


def _destination_written(**_: Any) -> None:
    changes.record("private_destinations", "all")


def _tenant_written(instance: Tenant, **_: Any) -> None:
    changes.record("tenant", instance.pk)


def _membership_about_to_change(instance: Membership, **_: Any) -> None:
    _remember_place(instance, "user_id")


def _membership_written(instance: Membership, **_: Any) -> None:
    changes.record_all("user", {instance.user_id, *(user for (user,) in _forget_place(instance))})


def _remember_place(instance: Model, *fields: str) -> None:
    # The row may be about to leave its server or person, whose caches then change too.
    stored = _stored(type(instance), instance).values_list(*fields).first()
    setattr(instance, _MOVED_FROM, {stored} if stored else set())


def _forget_place(instance: Model) -> set[tuple[Any, ...]]:
    place: set[tuple[Any, ...]] = instance.__dict__.pop(_MOVED_FROM, set())
    return place


def _user_written(
    instance: Any, update_fields: frozenset[str] | None = None, created: bool = False, raw: bool = False, **_: Any
) -> None:
    if update_fields is not None and update_fields <= {"last_login"}:
        return
    if created and not raw:
        _join_default_tenant(instance)
    changes.record("user", instance.pk)


def _join_default_tenant(user: Any) -> None:
    # A person whom nobody put into a tenant belongs to the default one.
    with transaction.atomic():
        tenant = Tenant.objects.filter(slug=DEFAULT_TENANT_SLUG).first()
        if tenant is not None:
            Membership.objects.get_or_create(tenant=tenant, user=user)


def _teams_changed(instance: Any, action: str, pk_set: set[int] | None, reverse: bool, **_: Any) -> None:
    if action not in ("post_add", "post_remove", "pre_clear"):
        return
    if not reverse:
        changes.record("user", instance.pk)
        return
    members = pk_set if pk_set is not None else set(instance.user_set.values_list("pk", flat=True))
    changes.record_all("user", members)
