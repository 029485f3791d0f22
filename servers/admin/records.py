"""The audit trail and the calls: read, filter, search; nobody changes them (F-801)."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from servers.admin.base import ReadOnlyAdmin
from servers.explanations import why
from servers.models import AuditEvent, Call, Tenant


class RecordsAdmin(ReadOnlyAdmin):
    """Superusers see all records, tenant admins those of their tenants."""

    show_full_result_count = False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        scope = self.scope(request)
        if obj is None:
            return scope.superuser or bool(scope.tenants)
        return scope.superuser or self.get_queryset(request).filter(pk=obj.pk).exists()


@admin.register(AuditEvent)
class AuditEventAdmin(RecordsAdmin):
    list_display = ("sequence", "at", "actor", "action", "subject", "tenant")
    list_select_related = ("tenant",)
    list_filter = ("at", "action", ("tenant", admin.RelatedOnlyFieldListFilter))
    search_fields = ("actor", "subject", "action", "=request_id", "=subject_id")
    search_help_text = "Who, what, or a request id."
    fields = (
        "sequence", "at", "actor", "action", "subject", "subject_id", "tenant", "request_id", "detail_text",
        "previous_hash", "hash",
    )  # fmt: skip
    readonly_fields = ("detail_text",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEvent]:
        found = super().get_queryset(request)
        scope = self.scope(request)
        return found if scope.superuser else found.filter(tenant__in=scope.tenants)

    @admin.display(description="detail")
    def detail_text(self, event: AuditEvent) -> SafeString:
        return format_html("<pre>{}</pre>", json.dumps(event.detail, indent=2, sort_keys=True))


class _RecentValuesFilter(admin.SimpleListFilter):
    """The values that the newest rows have; looking through a large table for all of them would take long."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        newest = model_admin.get_queryset(request).order_by("-pk").values_list(self.parameter_name, flat=True)
        return [(value, value) for value in sorted({v for v in newest[:5000] if v})]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        chosen = self.value()
        return queryset.filter(**{str(self.parameter_name): chosen}) if chosen else queryset


def _recent_values(name: str) -> type[_RecentValuesFilter]:
    return type(f"Recent{name.title()}", (_RecentValuesFilter,), {"title": name, "parameter_name": name})


class OwnServersFilter(admin.SimpleListFilter):
    """Servers by name, only those the person may see."""

    title = "server"
    parameter_name = "server"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        servers = model_admin.scope(request).visible_servers().order_by("name")[:200]
        return [(str(pk), name) for pk, name in servers.values_list("pk", "name")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Call]) -> QuerySet[Call]:
        chosen = self.value()
        if not chosen or chosen not in {key for key, _ in self.lookup_choices}:
            return queryset
        return queryset.filter(server_id=chosen)


@admin.register(Call)
class CallAdmin(RecordsAdmin):
    list_display = (
        "at", "principal", "server", "method", "item", "decision", "outcome", "status", "milliseconds",
    )  # fmt: skip
    list_filter = (
        "at", OwnServersFilter, _recent_values("outcome"), _recent_values("decision"), _recent_values("method"),
    )  # fmt: skip
    search_fields = ("principal", "server", "item", "client", "=request_id")
    search_help_text = "Person, server, tool, client, or a request id."
    ordering = ("-id",)
    readonly_fields = ("why",)

    @admin.display(description="why")
    def why(self, call: Call) -> str:
        return why(call.outcome) or "–"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Call]:
        found = super().get_queryset(request)
        scope = self.scope(request)
        if scope.superuser:
            return found
        slugs = list(Tenant.objects.filter(pk__in=scope.tenants).values_list("slug", flat=True))
        return found.filter(tenant__in=slugs)
