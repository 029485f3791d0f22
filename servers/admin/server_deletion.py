"""Deleting servers: what goes with them, and a typed confirmation where it belongs to other people (F-315)."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected
from django.contrib.admin.utils import unquote
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict

from servers.admin.base import AuditedAdmin, actor_of
from servers.admin.endings import ends_with
from servers.credential_endings import Ending, Reason, end, would_end
from servers.models import Server

_DELETED = (Reason.DELETED,)


class ServerDeletion(AuditedAdmin):
    """Mixed into the admin page of servers."""

    delete_confirmation_template = "admin/gatehouse/server_delete.html"

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

    def delete_model(self, request: HttpRequest, obj: Server) -> None:
        with transaction.atomic():
            end(obj, _DELETED, actor=actor_of(request))
            super().delete_model(request, obj)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> Any:
        """Django's page; with credentials of other people it wants the server's slug typed in."""
        server = self.get_object(request, unquote(object_id))
        context: dict[str, Any] = {}
        if isinstance(server, Server):
            others = _of_others(request, server)
            typed = request.POST.get("confirm_ending", "").strip()
            context = {"endings": others, "slug": server.slug}
            if request.method == "POST" and others and typed != server.slug:
                # Without what was posted Django asks again.
                request.POST = QueryDict()
                context["not_confirmed"] = True
        return super().delete_view(request, object_id, {**context, **(extra_context or {})})

    @admin.action(permissions=["delete"], description="Delete selected servers…")
    def delete_selected(self, request: HttpRequest, queryset: QuerySet[Server]) -> HttpResponse | None:
        """Django's action; servers with credentials of other people are deleted one by one."""
        held = [server.name for server in queryset if _of_others(request, server)]
        if held:
            self.message_user(
                request,
                f"People have connected or entered keys at {', '.join(held)}. Delete such a server on its own page, "
                "which shows whose and asks.",
                messages.ERROR,
            )
            return None
        found: HttpResponse | None = delete_selected(self, request, queryset)
        return found


def _of_others(request: HttpRequest, server: Server) -> list[Ending]:
    return [ending for ending in would_end(server, _DELETED) if ending.user_id != request.user.pk]
