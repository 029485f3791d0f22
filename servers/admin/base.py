"""What every admin page of ours shares: closed unless opened, and an audit event for every change."""

from __future__ import annotations

from copy import copy
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db import models, transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.text import capfirst

from servers import audit
from servers.models import Tenant
from servers.scope import Scope, scope_of_request


def actor_of(request: HttpRequest) -> str:
    """The name that stands in the audit trail."""
    return str(request.user.get_username())


class NamedList(ChangeList):
    """A list that is called what it lists, as on the first page, and not by what one may do with it."""

    def __init__(self, request: HttpRequest, model: type[Model], *args: Any, **kwargs: Any) -> None:
        super().__init__(request, model, *args, **kwargs)
        names: dict[str, str] = getattr(self.model_admin.admin_site, "names", {})
        self.title = names.get(self.opts.label_lower) or str(capfirst(self.opts.verbose_name_plural))


class AuditedAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Open to superusers only; subclasses open more. Each change leaves an audit event in its transaction.

    Events name the changed fields as Django's history does, never their values.
    """

    actions_by_event: ClassVar[dict[str, audit.Action]] = {}
    """The audit actions of `create`, `change` and `delete`."""
    formfield_overrides = {models.TextField: {"widget": forms.Textarea(attrs={"rows": 4, "class": "vLargeTextField"})}}
    list_per_page = 50
    show_full_result_count = False

    def scope(self, request: HttpRequest) -> Scope:
        """What the signed-in person may administer."""
        return scope_of_request(request)

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return NamedList

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) or self.has_add_permission(request)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.scope(request).superuser

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.scope(request).superuser

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)

    def audit_tenant(self, obj: Any) -> Tenant | None:
        """The tenant whose admins may read the event."""
        found = getattr(obj, "tenant", None)
        return found if isinstance(found, Tenant) else None

    def record(self, request: HttpRequest, event: str, obj: Any, detail: dict[str, Any] | None = None) -> None:
        """Append the audit event of `create`, `change` or `delete`, where one is defined."""
        action = self.actions_by_event.get(event)
        if action is not None:
            audit.record(action, actor=actor_of(request), subject=obj, tenant=self.audit_tenant(obj), detail=detail)

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self.record(request, "create", obj)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        fields: list[str] = []
        for part in message if isinstance(message, list) else []:
            changed = part.get("changed", {})
            if "name" not in changed:  # rows of inlines have events of their own
                fields += [str(label) for label in changed.get("fields", ())]
        if fields:
            self.record(request, "change", obj, {"fields": fields})
        return super().log_change(request, obj, message)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        with transaction.atomic():
            detail, gone = self.what_ends(obj), copy(obj)  # deleting takes the id from `obj`
            super().delete_model(request, obj)
            self.record(request, "delete", gone, detail)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        with transaction.atomic():
            for obj in queryset:
                self.delete_model(request, obj)

    def what_ends(self, obj: Any) -> dict[str, Any]:
        """Counts of what a deletion takes along, for the audit event."""
        return {}


class TenantsAdmin(AuditedAdmin):
    """Rows that belong to a tenant, open to its admins."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.scope(request).may_add_groups

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        scope = self.scope(request)
        if obj is None:
            return scope.superuser or bool(scope.tenants)
        return scope.administers(obj.tenant_id)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        found = super().get_queryset(request)
        scope = self.scope(request)
        return found if scope.superuser else found.filter(tenant__in=scope.tenants)


class ReadOnlyAdmin(AuditedAdmin):
    """Lists and details that nobody changes."""

    actions: Any = None

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.scope(request).superuser

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def confirm(
    request: HttpRequest,
    model_admin: admin.ModelAdmin[Any],
    *,
    title: str,
    sentence: str,
    items: list[Model],
    action: str,
    button: str,
) -> TemplateResponse:
    """The page that asks before an action on several rows ends something; posting it runs the action."""
    context = {
        **model_admin.admin_site.each_context(request),
        "title": title,
        "sentence": sentence,
        "items": items,
        "action": action,
        "button": button,
        "opts": model_admin.opts,
    }
    request.current_app = model_admin.admin_site.name
    return TemplateResponse(request, "admin/gatehouse/confirm.html", context)
