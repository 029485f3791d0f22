"""MCP server groups: containers with collaborators of their own (F-102)."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from servers import audit
from servers.admin.collaborators import CollaboratorsAdmin
from servers.forms import GroupForm
from servers.links import admin_url
from servers.models import ServerGroup


@admin.register(ServerGroup)
class ServerGroupAdmin(CollaboratorsAdmin):
    form = GroupForm
    actions_by_event = {
        "create": audit.Action.GROUP_CREATE,
        "change": audit.Action.GROUP_CHANGE,
        "delete": audit.Action.GROUP_DELETE,
    }
    list_display = ("name", "slug", "tenant", "server_count")
    list_select_related = ("tenant",)
    search_fields = ("name", "slug", "description")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.scope(request).may_add_groups

    def has_change_permission(self, request: HttpRequest, obj: ServerGroup | None = None) -> bool:
        scope = self.scope(request)
        if obj is None:
            return scope.superuser or bool(scope.tenants or scope.groups)
        return scope.manages_group(obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ServerGroup]:
        return self.scope(request).visible_groups().annotate(server_total=Count("servers"))

    def get_list_display(self, request: HttpRequest) -> Any:
        many = self.scope(request).administered_tenants()[:2].count() > 1
        return self.list_display if many else tuple(c for c in self.list_display if c != "tenant")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        kwargs["form"] = type("GroupForm", (GroupForm,), {"scope": self.scope(request)})
        return super().get_form(request, obj, change, **kwargs)

    def get_fields(self, request: HttpRequest, obj: ServerGroup | None = None) -> Any:
        several = obj is None and self.scope(request).administered_tenants()[:2].count() > 1
        first = ["tenant"] if several else []
        last = ["servers_in_it"] if obj is not None else []
        return [*first, "name", "slug", "description", *last]

    def get_readonly_fields(self, request: HttpRequest, obj: ServerGroup | None = None) -> tuple[str, ...]:
        return ("servers_in_it",) if obj is not None else ()

    def get_prepopulated_fields(self, request: HttpRequest, obj: ServerGroup | None = None) -> Any:
        return {} if obj is not None else {"slug": ("name",)}

    @admin.display(description="servers", ordering="server_total")
    def server_count(self, group: ServerGroup) -> int:
        return int(getattr(group, "server_total", 0))

    @admin.display(description="servers")
    def servers_in_it(self, group: ServerGroup) -> SafeString:
        rows = format_html_join(
            "", '<li><a href="{}">{}</a></li>', ((admin_url(s), s.name) for s in group.servers.all())
        )
        add = f"{admin_url(group.servers.model, 'add')}?group={group.pk}"
        listed = format_html("<ul>{}</ul>", rows) if rows else mark_safe("<p>None yet.</p>")
        return format_html('{}<p><a class="addlink" href="{}">Add MCP Server</a></p>', listed, add)
