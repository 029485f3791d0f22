"""What the gateway is at providers, and the connections of people at them. Who sees what: `servers.scope`."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.timezone import localtime

from authflows.models import Connection, UpstreamClient
from authflows.outbound import connections
from authflows.outbound.connections import explain
from authflows.outbound.needs import missing_connection
from servers.admin import beside
from servers.admin.base import ReadOnlyAdmin, actor_of, confirm
from servers.links import admin_url
from servers.models import AuthConfig, Server
from servers.people import person_label

_REVOKED = (
    "Their next call is refused everywhere within a second; they can connect again. Providers are told where they "
    "offer that."
)
_MOST_AT_ONCE = 50


@beside.register
def connections_beside(server: Server) -> beside.Link | None:
    """The link on a server's page."""
    count = Connection.objects.filter(server=server).count()
    method = getattr(getattr(server, "auth_config", None), "method", None)
    if not count and method != AuthConfig.Method.OAUTH2:
        return None
    url = f"{admin_url(Connection, 'changelist')}?server__id__exact={server.pk}"
    return beside.Link(url, f"{count} connection{'' if count == 1 else 's'}")


@admin.register(Connection)
class ConnectionAdmin(ReadOnlyAdmin):
    """Look and revoke: everything for superusers, else what concerns the servers that one manages."""

    list_display = (
        "person", "server", "account", "state_shown", "scopes_shown", "token_until", "last_used",
    )  # fmt: skip
    list_display_links = ("person",)
    list_filter = ("state",)
    search_fields = ("user__username", "server__name", "account_label", "client__issuer")
    search_help_text = "Person, server, account or issuer."
    fields = (
        "person", "server", "account", "state_shown", "trouble", "scopes", "issuer", "origin", "access_expires_at",
        "connected_at", "refreshed_at", "last_used_at",
    )  # fmt: skip
    readonly_fields = ("person", "server", "account", "state_shown", "trouble", "scopes", "issuer")
    actions = ["revoke"]
    change_form_template = "admin/gatehouse/connection.html"

    def has_view_permission(self, request: HttpRequest, obj: Connection | None = None) -> bool:
        scope = self.scope(request)
        return scope.may_enter if obj is None else scope.manages_server(obj.server)

    def has_delete_permission(self, request: HttpRequest, obj: Connection | None = None) -> bool:
        # Asked when a server or a person goes and takes connections along. On their own they are revoked: delete_view.
        return obj is not None and self.has_view_permission(request, obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Connection]:
        rows = super().get_queryset(request)
        found = rows.select_related("user", "server__tenant", "server__auth_config", "client__tenant")
        scope = self.scope(request)
        return found if scope.superuser else found.filter(server__in=scope.visible_servers())

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return lookup in ("server__id__exact", "user__id__exact", "state__exact")

    # --- columns

    @admin.display(description="person", ordering="user__username")
    def person(self, connection: Connection) -> str:
        return person_label(connection.user)

    @admin.display(description="account", ordering="account_label")
    def account(self, connection: Connection) -> str:
        return connection.account_label or "the provider did not say"

    @admin.display(description="state", ordering="state")
    def state_shown(self, connection: Connection) -> SafeString:
        missing = missing_connection(connection, connection.server)
        if missing is None:
            return format_html('<span class="gh-state gh-state-active">{}</span>', "works")
        return format_html(
            '<span class="gh-state gh-state-revoked" title="{}">{}</span>', missing.sentence, "connect again"
        )

    @admin.display(description="last trouble")
    def trouble(self, connection: Connection) -> str:
        return explain(connection.last_error) if connection.last_error else "none"

    @admin.display(description="scopes")
    def scopes(self, connection: Connection) -> str:
        wanted = set(connection.wanted_scope.split()) - set(connection.scope.split())
        given = connection.scope or "none named"
        return f"{given}; wanted besides: {' '.join(sorted(wanted))}" if wanted else given

    @admin.display(description="scopes", ordering="scope")
    def scopes_shown(self, connection: Connection) -> str:
        return Truncator(self.scopes(connection)).chars(60)

    @admin.display(description="token until", ordering="access_expires_at")
    def token_until(self, connection: Connection) -> str:
        return _short(connection.access_expires_at)

    @admin.display(description="last used", ordering="last_used_at")
    def last_used(self, connection: Connection) -> str:
        return _short(connection.last_used_at)

    @admin.display(description="issuer")
    def issuer(self, connection: Connection) -> str:
        return connection.client.issuer

    # --- revoking

    @admin.action(description="Revoke selected connections…")
    def revoke(self, request: HttpRequest, queryset: QuerySet[Connection]) -> HttpResponse | None:
        found = list(queryset[: _MOST_AT_ONCE + 1])
        if len(found) > _MOST_AT_ONCE:
            # Each provider is told, which takes a moment.
            self.message_user(request, f"Choose at most {_MOST_AT_ONCE} connections at a time.", messages.ERROR)
            return None
        if "confirmed" not in request.POST:
            return confirm(
                request,
                self,
                title="Revoke connections?",
                sentence=f"These people's accounts are no longer used for these servers. {_REVOKED}",
                items=[*found],
                action="revoke",
                button="Revoke",
            )
        self._revoke(request, found)
        return None

    def _revoke(self, request: HttpRequest, found: list[Connection]) -> None:
        told = Counter(connections.revoke(connection, actor=actor_of(request)).provider for connection in found)
        words = {"told": "told", "not_offered": "offers no revocation", "failed": "could not be told"}
        outcome = ", ".join(f"{words[kind]}: {count}" for kind, count in sorted(told.items()))
        count = len(found)
        level = messages.WARNING if told["failed"] else messages.SUCCESS
        text = f"{count} connection{'' if count == 1 else 's'} revoked here. Provider {outcome}."
        self.message_user(request, text, level)

    def get_urls(self) -> Any:
        view = self.admin_site.admin_view(self.revoke_view)
        return [path("<uuid:connection_id>/revoke/", view, name="authflows_connection_revoke"), *super().get_urls()]

    def revoke_view(self, request: HttpRequest, connection_id: Any) -> HttpResponse:
        """Revoke one connection; its page asks first."""
        connection = get_object_or_404(self.get_queryset(request), pk=connection_id)
        if request.method != "POST":
            return HttpResponseRedirect(admin_url(connection))
        self._revoke(request, [connection])
        return HttpResponseRedirect(admin_url(Connection, "changelist"))

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        return HttpResponseRedirect(admin_url(get_object_or_404(self.get_queryset(request), pk=object_id)))


def _short(at: datetime | None) -> str:
    return f"{localtime(at):%d %b %Y, %H:%M}" if at else "–"


@admin.register(UpstreamClient)
class UpstreamClientAdmin(ReadOnlyAdmin):
    """Our clients at providers: read-only. Superusers see all, tenant admins and managers those of their servers."""

    list_display = ("issuer", "registration", "client_id_shown", "server", "lost", "people", "created_at")
    list_display_links = ("issuer",)
    list_filter = ("registration",)
    search_fields = ("issuer", "client_id", "server__name")
    fields = (
        "issuer", "registration", "client_id_shown", "server", "tenant", "token_endpoint",
        "token_endpoint_auth_method", "redirect_uri", "secret_expires_at", "lost", "people", "created_at",
    )  # fmt: skip
    readonly_fields = ("client_id_shown", "server", "lost", "people", "secret_expires_at")

    def has_view_permission(self, request: HttpRequest, obj: UpstreamClient | None = None) -> bool:
        scope = self.scope(request)
        if obj is None:
            return scope.may_enter
        return scope.administers(obj.tenant_id) or (obj.server is not None and scope.manages_server(obj.server))

    def get_queryset(self, request: HttpRequest) -> QuerySet[UpstreamClient]:
        found = super().get_queryset(request).select_related("server__tenant", "tenant")
        scope = self.scope(request)
        if scope.superuser:
            return found
        return found.filter(tenant__in=scope.tenants) | found.filter(server__in=scope.visible_servers())

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return lookup in ("registration__exact",)

    @admin.display(description="client id", ordering="client_id")
    def client_id_shown(self, client: UpstreamClient) -> str:
        return client.client_id or "being registered"

    @admin.display(description="state", ordering="lost_at")
    def lost(self, client: UpstreamClient) -> SafeString:
        if client.lost_at is None:
            return format_html('<span class="gh-state gh-state-active">{}</span>', "in use")
        return format_html('<span class="gh-state gh-state-revoked">lost on {:%d %B %Y}</span>', client.lost_at)

    @admin.display(description="connections")
    def people(self, client: UpstreamClient) -> int:
        return client.connections.count()
