"""Virtual servers among the servers of the admin: added on a page of their own, changed without an endpoint."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.forms import Media, Script
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from servers.admin.base import AuditedAdmin
from servers.admin.beside import links_of
from servers.forms.virtual import VirtualServerForm
from servers.models import Server
from servers.models.virtual import VirtualMember
from servers.virtual.actors import Actor

_NEW = "gatehouse_new_virtual_server"


class VirtualServerPage(AuditedAdmin):
    """Mixed into the admin page of servers, before the form of those that have an endpoint."""

    @property
    def media(self) -> Media:
        script: Any = Script("gatehouse/admin/virtual.js", type="module")
        own = Media(css={"all": ["gatehouse/admin/virtual.css"]}, js=[script])
        return super().media + own

    def get_urls(self) -> list[Any]:
        add = self.admin_site.admin_view(self.add_virtual_view)
        return [path("add-virtual/", add, name="servers_server_add_virtual"), *super().get_urls()]

    def add_virtual_view(self, request: HttpRequest) -> HttpResponse:
        """The form of a new virtual server."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        setattr(request, _NEW, True)
        return self.changeform_view(request, None, "", {"title": "Add virtual server", "new_virtual": True})

    def _is_virtual(self, request: HttpRequest, server: Server | None) -> bool:
        return server.is_virtual if server is not None else getattr(request, _NEW, False)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if not self._is_virtual(request, obj):
            return super().get_form(request, obj, change, **kwargs)
        actor = Actor.of(request.user, scope=self.scope(request))
        form = type("VirtualServerForm", (VirtualServerForm,), {"scope": actor.scope, "actor": actor})
        # Past the form of servers with an endpoint, which stands between this class and Django's.
        return admin.ModelAdmin.get_form(self, request, obj, change, form=form, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Server | None = None) -> Any:
        if not self._is_virtual(request, obj):
            return super().get_fieldsets(request, obj)
        several = obj is None and self.scope(request).tenants_for_new_servers()[:2].count() > 1
        about = [*(["tenant"] if several else []), "name", "slug", "group", "description", "enabled", "requestable"]
        if obj is None:
            return [(None, {"fields": about}), ("Members", {"fields": ["members", "list_unconnected"]})]
        beside = ["people"] if links_of(obj) else []
        shown = ["gateway_url", "members_line", *beside]
        return [(None, {"fields": shown}), (None, {"fields": [*about, "list_unconnected"]})]

    def get_readonly_fields(self, request: HttpRequest, obj: Server | None = None) -> Any:
        if not self._is_virtual(request, obj):
            return super().get_readonly_fields(request, obj)
        return ("gateway_url", "members_line", "people") if obj is not None else ()

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if object_id is None and not self._is_virtual(request, None):
            return super().changeform_view(request, object_id, form_url, extra_context)
        if object_id is not None and not _names_virtual_server(object_id):
            return super().changeform_view(request, object_id, form_url, extra_context)
        # No address to check and nothing to test.
        context = {"title": "Change virtual server", **(extra_context or {})}
        return admin.ModelAdmin.changeform_view(self, request, object_id, form_url, context)

    def save_model(self, request: HttpRequest, obj: Server, form: Any, change: bool) -> None:
        if not isinstance(form, VirtualServerForm):
            super().save_model(request, obj, form, change)
            return
        obj.save()
        form.save_members(obj)

    def response_add(self, request: HttpRequest, obj: Server, post_url_continue: Any = None) -> HttpResponse:
        if not obj.is_virtual:
            return super().response_add(request, obj, post_url_continue)
        text = "{} is made. Give its members the prefixes that people should see, and choose what each of them shows."
        self.message_user(request, text.format(obj))
        return HttpResponseRedirect(members_url(obj))

    # --- columns and lines

    def with_members(self, servers: QuerySet[Server]) -> QuerySet[Server]:
        """The servers, each with the number of its members as `member_count`."""
        counts = VirtualMember.objects.filter(virtual=OuterRef("pk")).order_by().values("virtual")
        return servers.annotate(member_count=Coalesce(Subquery(counts.annotate(n=Count("pk")).values("n")), 0))

    @admin.display(description="members")
    def members_line(self, server: Server) -> SafeString:
        members = VirtualMember.objects.filter(virtual=server).select_related("server")
        listed = format_html_join(
            "",
            '<li>{}{} <span class="gh-health gh-health-{}">{}</span></li>',
            (
                (
                    member.server,
                    f" ({member.alias}__…)" if member.alias else "",
                    member.server.health if member.server.enabled else "unknown",
                    member.server.get_health_display() if member.server.enabled else "Switched off",
                )
                for member in members
            ),
        )
        return format_html(
            '<ul class="gh-members-line">{}</ul><p><a href="{}">Members and what they show</a> · '
            '<a href="{}">Preview</a></p>',
            listed,
            members_url(server),
            preview_url(server),
        )


def members_url(virtual: Server) -> str:
    """The page on which members are added, ordered, named and removed."""
    return reverse("admin:servers_server_members", args=[virtual.pk])


def preview_url(virtual: Server) -> str:
    """The page that shows the list as a chosen person would see it."""
    return reverse("admin:servers_server_preview", args=[virtual.pk])


def _names_virtual_server(object_id: str) -> bool:
    try:
        return Server.objects.filter(pk=UUID(object_id), kind=Server.Kind.VIRTUAL).exists()
    except ValueError:
        return False
