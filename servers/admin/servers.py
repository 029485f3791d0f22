"""MCP servers: list, form with the fields of the chosen authentication type, actions."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from servers import audit
from servers.admin.base import actor_of, confirm
from servers.admin.catalogue_page import CataloguePage
from servers.admin.imports import ImportPages
from servers.admin.presets import PresetPages
from servers.admin.server_deletion import ServerDeletion
from servers.admin.server_form_page import ServerFormPage
from servers.admin.virtual_preview import VirtualPreviewPage
from servers.admin.virtual_server_page import VirtualServerPage, members_url
from servers.egress import parse_destination
from servers.errors import DestinationRefused
from servers.models import Server, Tenant
from servers.virtual.losses import losses_of

__all__ = ["ServerAdmin", "end_sessions"]


def end_sessions(server: Server, *, actor: str) -> None:
    """Make every MCP session on this server void; clients open new ones."""
    with transaction.atomic():
        row = Server.objects.select_for_update().select_related("tenant").get(pk=server.pk)
        row.session_epoch += 1
        row.save(update_fields=["session_epoch", "updated_at"])
        audit.record(audit.Action.SERVER_END_SESSIONS, actor=actor, subject=row, tenant=row.tenant)


@admin.register(Server)
class ServerAdmin(
    PresetPages, ImportPages, VirtualPreviewPage, VirtualServerPage, ServerDeletion, CataloguePage, ServerFormPage
):
    actions_by_event = {
        "create": audit.Action.SERVER_CREATE,
        "change": audit.Action.SERVER_CHANGE,
        "delete": audit.Action.SERVER_DELETE,
    }
    list_display = (
        "name", "health_shown", "test_button", "catalogue_line", "tenant", "group", "endpoint", "authentication",
        "enabled",
    )  # fmt: skip
    list_select_related = ("tenant", "group", "auth_config")
    search_fields = ("name", "slug", "description", "url")
    actions = ["enable", "disable", "end_sessions", "delete_selected"]

    def get_list_filter(self, request: HttpRequest) -> Any:
        several = self._several_tenants(request)
        scoped = admin.RelatedOnlyFieldListFilter  # lists only what the person's own servers have
        filters: list[Any] = ["health", "enabled", ("group", scoped), "auth_config__method"]
        return [*filters, ("tenant", scoped)] if several else filters

    def get_list_display(self, request: HttpRequest) -> Any:
        shown = self._several_tenants(request)
        return self.list_display if shown else tuple(c for c in self.list_display if c != "tenant")

    def _several_tenants(self, request: HttpRequest) -> bool:
        scope = self.scope(request)
        return Tenant.objects.count() > 1 if scope.superuser else len(scope.reached_tenants) > 1

    # --- who may what

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.scope(request).may_add_servers

    def has_change_permission(self, request: HttpRequest, obj: Server | None = None) -> bool:
        scope = self.scope(request)
        return scope.may_enter if obj is None else scope.manages_server(obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Server]:
        return self.with_members(self.scope(request).visible_servers())

    # --- actions

    @admin.action(description="Enable selected servers")
    def enable(self, request: HttpRequest, queryset: QuerySet[Server]) -> None:
        self._set_enabled(request, queryset, True)

    @admin.action(description="Disable selected servers")
    def disable(self, request: HttpRequest, queryset: QuerySet[Server]) -> HttpResponse | None:
        lost = [] if "confirmed" in request.POST else losses_of(queryset.filter(enabled=True))
        if lost:
            return confirm(
                request,
                self,
                title="Disable servers?",
                sentence=f"Every call to these servers is refused while they are disabled. {' '.join(lost)}",
                items=list(queryset),
                action="disable",
                button="Disable",
            )
        self._set_enabled(request, queryset, False)
        return None

    def _set_enabled(self, request: HttpRequest, queryset: QuerySet[Server], enabled: bool) -> None:
        with transaction.atomic():
            changed = list(queryset.select_related("tenant").exclude(enabled=enabled))
            for server in changed:
                server.enabled = enabled
                server.save(update_fields=["enabled", "updated_at"])
            for server in changed:
                self.record(request, "change", server, {"fields": ["Enabled"], "enabled": enabled})
        count = len(changed)
        word = "enabled" if enabled else "disabled: every call to it is refused"
        self.message_user(request, f"{count} server{'s' if count != 1 else ''} {word}.", messages.SUCCESS)

    @admin.action(description="End sessions of selected servers…")
    def end_sessions(self, request: HttpRequest, queryset: QuerySet[Server]) -> HttpResponse | None:
        chosen = list(queryset)
        if "confirmed" not in request.POST:
            return confirm(
                request,
                self,
                title="End sessions?",
                sentence="Every client's MCP session on these servers ends now. Clients open a new one with their "
                "next call; calls that are running finish.",
                items=list(chosen),
                action="end_sessions",
                button="End sessions",
            )
        for server in chosen:
            if not self.has_change_permission(request, server):
                raise PermissionDenied
            end_sessions(server, actor=actor_of(request))
        self.message_user(request, f"Sessions ended on {len(chosen)} servers.", messages.SUCCESS)
        return None

    # --- columns

    @admin.display(description="endpoint", ordering="url")
    def endpoint(self, server: Server) -> SafeString | str:
        if server.is_virtual:
            count: int = server.member_count  # type: ignore[attr-defined]
            return format_html('<a href="{}">{} member{}</a>', members_url(server), count, "" if count == 1 else "s")
        try:
            return parse_destination(server.url).authority
        except DestinationRefused:
            return server.url[:60]

    @admin.display(description="authentication", ordering="auth_config__method")
    def authentication(self, server: Server) -> str:
        if server.is_virtual:
            return "by member"
        config = getattr(server, "auth_config", None)
        return config.get_method_display().partition(" (")[0] if config else "No Auth"

    @admin.display(description="test")
    def test_button(self, server: Server) -> SafeString | str:
        if server.is_virtual:
            return ""
        try:
            url = reverse("test-connection", args=[server.pk])
        except NoReverseMatch:
            return ""
        return format_html(
            '<button type="submit" class="button gh-small" formaction="{}" aria-label="Test connection of {}">'
            "Test</button>",
            url,
            server.name,
        )
