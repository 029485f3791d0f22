"""Deleting servers: what goes with them, and a typed confirmation where it belongs to other people (F-315)."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.actions import delete_selected
from django.contrib.admin.utils import unquote
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict
from django.utils.text import capfirst

from servers.admin.base import AuditedAdmin, actor_of
from servers.admin.endings import ends_with
from servers.credential_endings import Ending, Reason, end, would_end
from servers.models import CatalogueItem, Server, VirtualSelection
from servers.virtual.losses import losses_of

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
        return [*_without_items(listed), *lines], counts, missing, protected

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
            lost = losses_of([server])
            context = {"endings": others, "losses": lost, "slug": server.slug}
            if request.method == "POST" and (others or lost) and typed != server.slug:
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
        lost = [
            f"{server.name}: {' '.join(lines)}" for server in queryset if (lines := _losses_besides(server, queryset))
        ]
        if lost:
            self.message_user(
                request,
                f"{' '.join(lost)} Delete such a server on its own page, which asks.",
                messages.ERROR,
            )
            return None
        found: HttpResponse | None = delete_selected(self, request, queryset)
        return found


def _losses_besides(server: Server, going: QuerySet[Server]) -> list[str]:
    """What virtual servers lose with this one, those left out that are deleted too."""
    if set(server.member_of.values_list("virtual_id", flat=True)) <= {one.pk for one in going}:
        return []
    return losses_of([server])


_COUNTED_ONLY = tuple(str(capfirst(model._meta.verbose_name)) for model in (CatalogueItem, VirtualSelection))


def _without_items(listed: list[Any]) -> list[Any]:
    """The nested list without the rows of single items, of which there may be thousands; their number is shown."""
    kept = [part for part in listed if isinstance(part, list) or not str(part).startswith(_COUNTED_ONLY)]
    found = [_without_items(part) if isinstance(part, list) else part for part in kept]
    return [part for part in found if part != []]


def _of_others(request: HttpRequest, server: Server) -> list[Ending]:
    return [ending for ending in would_end(server, _DELETED) if ending.user_id != request.user.pk]
