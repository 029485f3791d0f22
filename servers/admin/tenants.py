"""Tenants with their members, and the private addresses that the gateway may call. Superusers only."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from servers import audit
from servers.admin.base import AuditedAdmin, actor_of
from servers.admin.collaborators import PersonField
from servers.models import Membership, PrivateDestination, Tenant
from servers.scope import scope_of_request


class MembershipInline(admin.TabularInline):  # type: ignore[type-arg]
    model = Membership
    autocomplete_fields = ("user",)
    extra = 1
    verbose_name_plural = "members"

    def _open(self, request: HttpRequest) -> bool:
        return scope_of_request(request).superuser

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._open(request)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._open(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._open(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._open(request)

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).select_related("user", "tenant")

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "user":
            kwargs["form_class"] = PersonField
        return super().formfield_for_foreignkey(db_field, request, **kwargs)


@admin.register(Tenant)
class TenantAdmin(AuditedAdmin):
    actions_by_event = {"create": audit.Action.TENANT_CREATE, "change": audit.Action.TENANT_CHANGE}
    list_display = ("name", "slug")
    search_fields = ("name", "slug")
    prepopulated_fields = {"slug": ("name",)}
    inlines = (MembershipInline,)

    def has_delete_permission(self, request: HttpRequest, obj: Tenant | None = None) -> bool:
        return False  # its audit trail stays

    def audit_tenant(self, obj: Tenant) -> Tenant:
        return obj

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        super().save_formset(request, form, formset, change)
        touched = [
            *(("member added", m) for m in formset.new_objects),
            *(("member changed", m) for m, _ in formset.changed_objects),
            *(("member removed", m) for m in formset.deleted_objects),
        ]
        for what, member in touched:
            audit.record(
                audit.Action.TENANT_CHANGE,
                actor=actor_of(request),
                subject=form.instance,
                tenant=form.instance,
                detail={what: member.user.get_username(), "role": member.role},
            )


@admin.register(PrivateDestination)
class PrivateDestinationAdmin(AuditedAdmin):
    actions_by_event = {
        "create": audit.Action.DESTINATION_ALLOW,
        "change": audit.Action.DESTINATION_ALLOW,
        "delete": audit.Action.DESTINATION_REMOVE,
    }
    list_display = ("__str__", "note", "created_at")
    search_fields = ("host", "note")

    def get_readonly_fields(self, request: HttpRequest, obj: PrivateDestination | None = None) -> tuple[str, ...]:
        return ("host", "port") if obj is not None else ()

    def save_model(self, request: HttpRequest, obj: PrivateDestination, form: Any, change: bool) -> None:
        obj.host = obj.host.strip().rstrip(".").lower()
        super().save_model(request, obj, form, change)
