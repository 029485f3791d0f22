"""MCP servers: list, form with the fields of the chosen authentication type, actions."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.forms import Script
from django.http import HttpRequest, HttpResponse
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timesince import timesince

from servers import audit, health
from servers.admin.base import actor_of, confirm
from servers.admin.beside import links_of
from servers.admin.collaborators import CollaboratorsAdmin
from servers.admin.endings import ends_with
from servers.destinations import allow_private, check_address
from servers.egress import parse_destination
from servers.errors import DestinationRefused, SecretUnavailable
from servers.forms import NO_AUTH_WARNING, ServerForm
from servers.models import Server, Tenant
from servers.scope import Scope


def server_form(scope: Scope, base: type[ServerForm] = ServerForm, **attributes: Any) -> type[ServerForm]:
    """The form bound to what one person may choose."""
    return type(base.__name__, (base,), {"scope": scope, **attributes})


def end_sessions(server: Server, *, actor: str) -> None:
    """Make every MCP session on this server void; clients open new ones."""
    with transaction.atomic():
        row = Server.objects.select_for_update().select_related("tenant").get(pk=server.pk)
        row.session_epoch += 1
        row.save(update_fields=["session_epoch", "updated_at"])
        audit.record(audit.Action.SERVER_END_SESSIONS, actor=actor, subject=row, tenant=row.tenant)


@admin.register(Server)
class ServerAdmin(CollaboratorsAdmin):
    actions_by_event = {
        "create": audit.Action.SERVER_CREATE,
        "change": audit.Action.SERVER_CHANGE,
        "delete": audit.Action.SERVER_DELETE,
    }
    change_form_template = "admin/gatehouse/server_form.html"
    list_display = (
        "name", "health_shown", "test_button", "tenant", "group", "endpoint", "authentication", "enabled",
    )  # fmt: skip
    list_select_related = ("tenant", "group", "auth_config")
    search_fields = ("name", "slug", "description", "url")
    actions = ["enable", "disable", "end_sessions"]

    class Media:
        js = (Script("gatehouse/admin/server-form.js", type="module"),)

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
        return self.scope(request).visible_servers()

    # --- the form

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        check = getattr(request, "gatehouse_address_check", None)
        kwargs["form"] = server_form(self.scope(request), address_check=check)
        return super().get_form(request, obj, change, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Server | None = None) -> Any:
        scope = self.scope(request)
        several = obj is None and scope.tenants_for_new_servers()[:2].count() > 1
        url = ["url", "allow_private"] if scope.superuser else ["url"]
        about = [*(["tenant"] if several else []), "name", "slug", "group", "description", "enabled"]
        beside = ["people"] if obj is not None and links_of(obj) else []
        shown = [(None, {"fields": ["gateway_url", "health_line", *beside]})] if obj is not None else []
        return [
            *shown,
            (None, {"fields": about}),
            ("Where it is", {"fields": url}),
            ("Authentication", {"fields": ["method", "headers"], "description": self._warning()}),
            (
                "Limits, TLS and headers",
                {
                    "classes": ["collapse"],
                    "fields": [
                        "connect_timeout", "response_timeout", "max_request_bytes", "ca_certificate",
                        "static_headers", "allowed_request_headers",
                    ],
                },
            ),
        ]  # fmt: skip

    @staticmethod
    def _warning() -> SafeString:
        return format_html('<p class="gh-warning" data-for-method="none">{}</p>', NO_AUTH_WARNING)

    def get_readonly_fields(self, request: HttpRequest, obj: Server | None = None) -> tuple[str, ...]:
        return ("gateway_url", "health_line", "people") if obj is not None else ()

    def get_prepopulated_fields(self, request: HttpRequest, obj: Server | None = None) -> Any:
        return {} if obj is not None else {"slug": ("name",)}

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if request.method == "POST" and self._may_post(request, object_id):
            # Before the transaction of the form begins: the DNS may be slow.
            url = request.POST.get("url", "").strip()
            request.gatehouse_address_check = check_address(url)  # type: ignore[attr-defined]
        context = {
            "test_url": self._test_url(),
            "server_id": object_id or "",
            "tested": request.POST.get(health.NOTE_FIELD, ""),
            **(extra_context or {}),
        }
        return super().changeform_view(request, object_id, form_url, context)

    def _may_post(self, request: HttpRequest, object_id: str | None) -> bool:
        if object_id is None:
            return self.has_add_permission(request)
        stored = self.get_object(request, unquote(object_id))
        return stored is not None and stored.url != request.POST.get("url", "").strip()

    @staticmethod
    def _test_url() -> str:
        try:
            return reverse("test-connection-draft")
        except NoReverseMatch:  # the proxy's pages are not served here
            return ""

    # --- saving

    def save_model(self, request: HttpRequest, obj: Server, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if form.cleaned_data.get("allow_private") and self.scope(request).superuser:
            check = getattr(request, "gatehouse_address_check", None)
            if check is not None and check.url == obj.url and check.is_private and check.destination:
                row = allow_private(check.destination, actor=actor_of(request), note=f"MCP server {obj.name}"[:200])
                self.message_user(request, f"The gateway may now call {row}.")
        form.save_authentication(obj, actor=actor_of(request))
        self._keep_test(request, obj, form)

    @staticmethod
    def _keep_test(request: HttpRequest, server: Server, form: ServerForm) -> None:
        """What Test connection said of these very values before they were saved is the server's health."""
        note = request.POST.get(health.NOTE_FIELD, "")
        if not note:
            return
        try:
            digest = form.connection_digest()
        except SecretUnavailable:
            return
        tested = health.read_note(note, user_id=request.user.pk, values_digest=digest)
        if tested is not None:
            health.keep(server, tested)

    # --- deleting

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        listed, counts, missing, protected = super().get_deleted_objects(objs, request)
        hidden = {name for name in counts if "relationship" in str(name)}
        lines = ends_with(objs)
        counts = {name: count for name, count in counts.items() if name not in hidden}
        if lines:
            counts["API keys limited to it"] = len(lines)
        return [*listed, *lines], counts, missing, protected

    def what_ends(self, obj: Server) -> dict[str, Any]:
        return {**super().what_ends(obj), "limited_keys": len(ends_with([obj]))}

    # --- actions

    @admin.action(description="Enable selected servers")
    def enable(self, request: HttpRequest, queryset: QuerySet[Server]) -> None:
        self._set_enabled(request, queryset, True)

    @admin.action(description="Disable selected servers")
    def disable(self, request: HttpRequest, queryset: QuerySet[Server]) -> None:
        self._set_enabled(request, queryset, False)

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
    def endpoint(self, server: Server) -> str:
        try:
            return parse_destination(server.url).authority
        except DestinationRefused:
            return server.url[:60]

    @admin.display(description="authentication", ordering="auth_config__method")
    def authentication(self, server: Server) -> str:
        config = getattr(server, "auth_config", None)
        return config.get_method_display().partition(" (")[0] if config else "No Auth"

    @admin.display(description="health", ordering="health")
    def health_shown(self, server: Server) -> SafeString:
        ago = f" {timesince(server.health_at, timezone.now(), depth=1)} ago" if server.health_at else ""
        return format_html(
            '<span class="gh-health gh-health-{}">{}</span><span class="gh-ago">{}</span>',
            server.health,
            server.get_health_display(),
            ago,
        )

    @admin.display(description="health")
    def health_line(self, server: Server) -> SafeString:
        sentence = str(server.health_detail.get("sentence", ""))
        return format_html("{}<br>{}", self.health_shown(server), sentence) if sentence else self.health_shown(server)

    @admin.display(description="people")
    def people(self, server: Server) -> SafeString:
        return format_html_join(" · ", '<a href="{}">{}</a>', ((link.url, link.text) for link in links_of(server)))

    @admin.display(description="MCP URL for clients")
    def gateway_url(self, server: Server) -> SafeString:
        return format_html("<code>{}</code>", server.mcp_url)

    @admin.display(description="test")
    def test_button(self, server: Server) -> SafeString | str:
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
