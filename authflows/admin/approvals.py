"""Admin pages of approvals: which person let which client use which server, or the Gateway API.

Who sees what: `servers.scope`. Those of the API belong to no tenant, so superusers alone see them.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import path
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from authflows.inbound.oauth import approvals
from authflows.models import Approval
from servers.admin.base import ReadOnlyAdmin, actor_of, confirm
from servers.links import admin_url
from servers.people import person_label

_REVOKED = "Their next call is refused and their open streams end; people may approve anew."


@admin.register(Approval)
class ApprovalAdmin(ReadOnlyAdmin):
    """Look and revoke: everything for superusers, else what concerns the servers that one manages."""

    list_display = ("client_shown", "person", "opens", "redirect_host", "created_at", "last_used_at")
    list_display_links = ("client_shown",)
    search_fields = ("client__name", "client__client_id", "user__username", "server__name")
    search_help_text = "Client, person or server."
    fields = ("client_shown", "person", "opens", "redirect_host", "created_at", "last_used_at")
    readonly_fields = ("client_shown", "person", "opens")
    actions = ["revoke"]
    change_form_template = "admin/gatehouse/approval.html"

    def has_view_permission(self, request: HttpRequest, obj: Approval | None = None) -> bool:
        scope = self.scope(request)
        if obj is None:
            return scope.may_enter
        return scope.superuser if obj.server is None else scope.manages_server(obj.server)

    def has_delete_permission(self, request: HttpRequest, obj: Approval | None = None) -> bool:
        # Asked when a server goes and takes its approvals along. On their own they are revoked: see delete_view.
        return obj is not None and self.has_view_permission(request, obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Approval]:
        found = super().get_queryset(request).select_related("client", "user", "server__tenant")
        scope = self.scope(request)
        return found if scope.superuser else found.filter(server__in=scope.visible_servers())

    @admin.display(description="client", ordering="client__name")
    def client_shown(self, approval: Approval) -> SafeString:
        client, name = approval.client, Truncator(str(approval.client)).chars(40)
        if client.verified:
            return format_html('{} <span class="gh-state gh-state-active">verified</span>', name)
        if client.metadata_host:
            return format_html("{} (calls itself “{}”)", client.metadata_host, name)
        return format_html("calls itself “{}”", name)

    @admin.display(description="person", ordering="user__username")
    def person(self, approval: Approval) -> str:
        return person_label(approval.user)

    @admin.display(description="may use", ordering="server__name")
    def opens(self, approval: Approval) -> str:
        return approval.opens

    @admin.action(description="Revoke selected approvals…")
    def revoke(self, request: HttpRequest, queryset: QuerySet[Approval]) -> HttpResponse | None:
        found = list(queryset)
        if "confirmed" not in request.POST:
            return confirm(
                request,
                self,
                title="Revoke approvals?",
                sentence=f"These clients may no longer act for these people there. {_REVOKED}",
                items=[*found],
                action="revoke",
                button="Revoke",
            )
        for approval in found:
            approvals.revoke(approval, actor=actor_of(request))
        self.message_user(request, f"{len(found)} approval{'s' if len(found) != 1 else ''} revoked.", messages.SUCCESS)
        return None

    def get_urls(self) -> Any:
        view = self.admin_site.admin_view(self.revoke_view)
        return [path("<uuid:approval_id>/revoke/", view, name="authflows_approval_revoke"), *super().get_urls()]

    def revoke_view(self, request: HttpRequest, approval_id: Any) -> HttpResponse:
        """Revoke one approval; its page asks first."""
        approval = get_object_or_404(self.get_queryset(request), pk=approval_id)
        if request.method != "POST":
            return HttpResponseRedirect(admin_url(approval))
        approvals.revoke(approval, actor=actor_of(request))
        self.message_user(request, f"Revoked: {approval}.", messages.SUCCESS)
        return HttpResponseRedirect(admin_url(Approval, "changelist"))

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        return HttpResponseRedirect(admin_url(get_object_or_404(self.get_queryset(request), pk=object_id)))
