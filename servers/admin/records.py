"""The audit trail and the calls: filter, look, export, verify; nobody changes them (F-801)."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any, ClassVar, Final

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from servers import audit, records_export
from servers.admin import record_filters as filters
from servers.admin.base import ReadOnlyAdmin, actor_of
from servers.admin.chain_page import chain_view, last_check
from servers.explanations import why
from servers.models import AuditEvent, Call, Tenant
from servers.records_export import MOST_ROWS, Format, Source
from servers.scope import Scope

_SAME_REQUEST: Final = timedelta(hours=1)
_MOST_TOGETHER: Final = 20


def calls_to_read(scope: Scope) -> QuerySet[Call]:
    """The call records that a superuser, tenant admin or auditor reads."""
    if scope.superuser:
        return Call.objects.all()
    slugs = list(Tenant.objects.filter(pk__in=scope.recorded_tenants).values_list("slug", flat=True))
    return Call.objects.filter(tenant__in=slugs)


def events_to_read(scope: Scope) -> QuerySet[AuditEvent]:
    """The audit events that a superuser, tenant admin or auditor reads."""
    found = AuditEvent.objects.all()
    return found if scope.superuser else found.filter(tenant__in=scope.recorded_tenants)


class RecordsAdmin(ReadOnlyAdmin):
    """Superusers see all records, tenant admins and auditors those of their tenants."""

    change_list_template = "admin/gatehouse/records.html"
    change_form_template = "admin/gatehouse/record.html"
    source: ClassVar[Source]

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        scope = self.scope(request)
        if obj is None:
            return scope.reads_records
        return scope.superuser or self.get_queryset(request).filter(pk=obj.pk).exists()

    def get_urls(self) -> Any:
        view = self.admin_site.admin_view(self.export_view)
        return [path("export/", view, name=f"servers_{self.opts.model_name}_export"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        export = reverse(f"admin:servers_{self.opts.model_name}_export")
        context = {"export_url": f"{export}?{request.GET.urlencode()}", "most_rows": f"{MOST_ROWS:,}"}
        return super().changelist_view(request, context | (extra_context or {}))

    def export_view(self, request: HttpRequest) -> HttpResponseBase:
        """A file of what the list shows with its filters. Asking for one is recorded."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        back = f"{reverse(f'admin:servers_{self.opts.model_name}_changelist')}?{request.GET.urlencode()}"
        if request.method != "POST":
            return HttpResponseRedirect(back)
        try:
            form = Format(request.POST.get("format", ""))
            rows = self.get_changelist_instance(request).get_queryset(request)
        except (ValueError, IncorrectLookupParameters):
            self.message_user(request, "That cannot be exported. Choose filters and a format here.", messages.ERROR)
            return HttpResponseRedirect(back)
        count = records_export.count(rows)
        if count is None:
            sentence = f"These are more than {MOST_ROWS:,} rows. Choose a shorter time, or another filter."
            self.message_user(request, sentence, messages.ERROR)
            return HttpResponseRedirect(back)
        self._record_export(request, form, count)
        return records_export.answer(request, rows, source=self.source, form=form)

    def _record_export(self, request: HttpRequest, form: Format, count: int) -> None:
        asked = {key: value for key, value in request.GET.items() if value}
        detail = {"records": self.source.name, "format": str(form), "rows": count, "filters": asked}
        scope = self.scope(request)
        # The admins of each tenant whose records went out read of it.
        tenants = [None] if scope.superuser else [*Tenant.objects.filter(pk__in=scope.recorded_tenants)]
        for tenant in tenants:
            audit.record(
                audit.Action.RECORDS_EXPORT,
                actor=actor_of(request),
                subject=self.opts.verbose_name_plural,
                tenant=tenant,
                detail=detail,
            )

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> Any:
        row = kwargs.get("obj")
        if row is not None and row.request_id:
            context |= _same_request(self.scope(request), row)
        return super().render_change_form(request, context, *args, **kwargs)


def _same_request(scope: Scope, row: Call | AuditEvent) -> dict[str, Any]:
    """What else happened in the request of a record, as far as the person reads it."""
    around = (row.at - _SAME_REQUEST, row.at + _SAME_REQUEST)
    calls = calls_to_read(scope).filter(at__range=around, request_id=row.request_id)
    # All actions are named because the index of times begins with them.
    events = events_to_read(scope).filter(action__in=[*audit.Action], at__range=around, request_id=row.request_id)
    if isinstance(row, Call):
        calls = calls.exclude(pk=row.pk)
    else:
        events = events.exclude(pk=row.pk)
    return {
        "same_calls": calls.order_by("at", "id")[:_MOST_TOGETHER],
        "same_events": events.order_by("sequence")[:_MOST_TOGETHER],
        "request_id": row.request_id,
    }


@admin.register(AuditEvent)
class AuditEventAdmin(RecordsAdmin):
    source = records_export.EVENTS
    list_display = ("sequence", "at", "actor", "action", "subject", "tenant")
    list_select_related = ("tenant",)
    list_filter = (
        filters.ActorFilter, filters.EventServerFilter, filters.EventFilter, filters.EventOutcomeFilter,
        filters.SinceFilter, filters.UntilFilter,
    )  # fmt: skip
    search_fields = ("actor", "subject", "action", "=request_id", "=subject_id")
    search_help_text = "Who, what, or a request id."
    fields = (
        "sequence", "at", "actor", "action", "subject", "subject_id", "tenant", "request_id", "detail_text",
        "previous_hash", "hash",
    )  # fmt: skip
    readonly_fields = ("detail_text",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[AuditEvent]:
        return events_to_read(self.scope(request))

    def get_urls(self) -> Any:
        view = self.admin_site.admin_view(self.verify_view)
        return [path("verify/", view, name="servers_auditevent_verify"), *super().get_urls()]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        chain = {"chain": last_check(), "verify_url": reverse("admin:servers_auditevent_verify")}
        return super().changelist_view(request, chain | (extra_context or {}))

    def verify_view(self, request: HttpRequest) -> HttpResponseBase:
        """Walk the chain, a piece with each request."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return chain_view(request, self.admin_site.each_context(request))

    @admin.display(description="detail")
    def detail_text(self, event: AuditEvent) -> SafeString:
        return format_html("<pre>{}</pre>", json.dumps(event.detail, indent=2, sort_keys=True, ensure_ascii=False))


@admin.register(Call)
class CallAdmin(RecordsAdmin):
    source = records_export.CALLS
    list_display = (
        "at", "principal", "server", "method", "item", "decision", "outcome", "status", "milliseconds",
    )  # fmt: skip
    list_filter = (
        filters.PrincipalFilter, filters.ServerFilter, filters.MethodFilter, filters.DecisionFilter,
        filters.CallOutcomeFilter, filters.SinceFilter, filters.UntilFilter,
    )  # fmt: skip
    search_fields = ("principal", "server", "item", "client", "=request_id")
    search_help_text = "Person, server, tool, client, or a request id."
    ordering = ("-id",)
    readonly_fields = ("why",)

    @admin.display(description="why")
    def why(self, call: Call) -> str:
        return why(call.outcome) or "–"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Call]:
        return calls_to_read(self.scope(request)).order_by("-id")
