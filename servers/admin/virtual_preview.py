"""The page that shows a virtual server's list as a chosen person would see it, and what is hidden from them."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final
from uuid import UUID

from django.contrib.auth import get_user_model
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.views.decorators.http import require_safe

from servers.admin.virtual_items import description_of
from servers.admin.virtual_members import VirtualMembersPages
from servers.catalogue.texts import visible
from servers.items import ItemKind
from servers.models import Server
from servers.people import people_of, person_label
from servers.virtual.arrangement import NAMED
from servers.virtual.losses import counted
from servers.virtual.previews import MANY_TOOLS, Hidden, Preview, Shown, preview

_MOST_SUGGESTED: Final = 300
_MOST_LISTED: Final = 500
_HEADINGS: Final = {
    ItemKind.TOOL: "Tools",
    ItemKind.PROMPT: "Prompts",
    ItemKind.RESOURCE: "Resources",
    ItemKind.TEMPLATE: "Resource templates",
}


class VirtualPreviewPage(VirtualMembersPages):
    """Mixed into the admin page of servers."""

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.preview_view)
        return [path("<uuid:server_id>/preview/", view, name="servers_server_preview"), *super().get_urls()]

    @method_decorator(require_safe)
    def preview_view(self, request: HttpRequest, server_id: UUID) -> HttpResponse:
        """Choose a person or virtual account; below, what they would get."""
        virtual = self.virtual_server(request, server_id)
        name = request.GET.get("person", "").strip()
        people = people_of(self.scope(request), get_user_model()._default_manager.all())
        people = people.filter(memberships__tenant=virtual.tenant_id).distinct().order_by("username")
        person = people.filter(username=name).first() if name and "\0" not in name else None
        context: dict[str, Any] = {
            "name": name,
            "people": [(one.get_username(), person_label(one)) for one in people[:_MOST_SUGGESTED]],
            "person": person_label(person) if person is not None else "",
            "unknown": bool(name) and person is None,
        }
        if person is not None:
            context |= _shown(virtual, preview(virtual, person, looker=self.actor(request)))
        return self.answer(request, virtual, "preview", f"Preview of {virtual}", context)


def _shown(virtual: Server, found: Preview) -> dict[str, Any]:
    sections = []
    for kind, heading in _HEADINGS.items():
        entries = [one for one in found.shown if one.entry.item.kind is kind]
        if entries:
            sections.append((heading, len(entries), [_line(one) for one in entries[:_MOST_LISTED]]))
    reasons: dict[tuple[str, str], list[Hidden]] = defaultdict(list)
    for one in found.hidden:
        reasons[one.why, one.member].append(one)
    return {
        "preview": found,
        "many": MANY_TOOLS,
        "members": [(line, counted(line.shown)) for line in found.members],
        "sections": sections,
        "most": _MOST_LISTED,
        "hidden": [
            (member, why, len(items), [(one.kind.label, visible(one.key)) for one in items[:_MOST_LISTED]])
            for (why, member), items in reasons.items()
        ],
    }


def _line(one: Shown) -> dict[str, SafeString | str]:
    entry = one.entry
    renamed = entry.item.kind in NAMED and entry.name != entry.item.key
    return {
        "name": visible(entry.name),
        "key": visible(entry.item.key) if renamed else "",
        "member": one.member,
        "description": visible(description_of(entry.text)),
    }
