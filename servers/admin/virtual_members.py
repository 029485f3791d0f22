"""The pages on which the members of a virtual server are arranged, and what one of them shows is chosen (F-605)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from servers.admin.base import AuditedAdmin
from servers.admin.virtual_items import Items, token_of
from servers.admin.virtual_server_page import members_url, preview_url
from servers.catalogue.facts import catalogue_of
from servers.catalogue.texts import visible
from servers.forms.virtual import MemberForm
from servers.items import ItemKind
from servers.links import admin_url
from servers.models import AuthConfig, Server
from servers.models.virtual import VirtualMember
from servers.virtual import saving
from servers.virtual.actors import Actor, Usable
from servers.virtual.arrangement import Arrangement, arrangement_of
from servers.virtual.losses import counted
from servers.virtual.saving import NotSaved, Saved
from servers.virtual.wanted import Wanted

Method = AuthConfig.Method
_MOST_OFFERED: Final = 100
_NEEDS: Final = {
    Method.OWN_HEADER: "each person enters a key",
    Method.OAUTH2: "each person connects",
    Method.PASSTHROUGH: "the caller's own credential",
    Method.TOKEN_EXCHANGE: "on behalf of the caller",
}
_KINDS: Final = {
    ItemKind.TOOL: "Tools",
    ItemKind.PROMPT: "Prompts",
    ItemKind.RESOURCE: "Resources",
    ItemKind.TEMPLATE: "Templates",
}


@dataclass(slots=True)
class Row:
    """One member on the page of members."""

    member: VirtualMember
    usable: bool
    shows: str
    offers: str
    left_out: int
    read: bool
    needs: str
    order: str
    alias: str
    remove: bool = False
    problem: bool = False


class VirtualMembersPages(AuditedAdmin):
    """Mixed into the admin page of servers."""

    def get_urls(self) -> list[Any]:
        wrap = self.admin_site.admin_view
        return [
            path("<uuid:server_id>/members/", wrap(self.members_view), name="servers_server_members"),
            path("<uuid:server_id>/members/<uuid:member_id>/", wrap(self.member_view), name="servers_server_member"),
            *super().get_urls(),
        ]

    def virtual_server(self, request: HttpRequest, server_id: UUID) -> Server:
        """The virtual server, if the person manages it; raises Http404."""
        found = self.scope(request).visible_servers().filter(kind=Server.Kind.VIRTUAL).select_related("tenant")
        return get_object_or_404(found, pk=server_id)

    def actor(self, request: HttpRequest) -> Actor:
        """The signed-in person, with what they administer."""
        return Actor.of(request.user, scope=self.scope(request))

    def answer(
        self, request: HttpRequest, virtual: Server, page: str, title: str, context: Mapping[str, Any]
    ) -> HttpResponse:
        """One of the pages of a virtual server."""
        refused = context.get("refused")
        shared = {
            "title": title,
            "problems": [visible(problem.text) for problem in refused.problems] if refused is not None else [],
            "virtual": virtual,
            "opts": self.opts,
            "server_url": admin_url(virtual),
            "members_url": members_url(virtual),
            "preview_url": preview_url(virtual),
        }
        request.current_app = self.admin_site.name
        template = f"admin/servers/virtual/{page}.html"
        return TemplateResponse(request, template, {**self.admin_site.each_context(request), **shared, **context})

    # --- all members

    @method_decorator(require_http_methods(["GET", "HEAD", "POST"]))
    def members_view(self, request: HttpRequest, server_id: UUID) -> HttpResponse:
        """Order, prefixes, removing; and adding others."""
        virtual, actor = self.virtual_server(request, server_id), self.actor(request)
        refused: NotSaved | None = None
        if request.method == "POST":
            try:
                saved = saving.edit(virtual, lambda now: _posted(now, virtual, request), actor=actor)
            except NotSaved as error:
                refused = error
            else:
                self._say(request, saved, nothing="Nothing was changed.")
                return HttpResponseRedirect(members_url(virtual))
        members = list(
            VirtualMember.objects.filter(virtual=virtual).select_related("server__tenant", "server__auth_config")
        )
        present = {member.server_id for member in members}
        usable = actor.usable(virtual.tenant_id)
        context = {
            "rows": _rows(virtual, members, usable, request if refused else None, refused),
            "refused": refused,
            **_offered(request, usable, present),
        }
        return self.answer(request, virtual, "members", f"Members of {virtual}", context)

    def _say(self, request: HttpRequest, saved: Saved, *, nothing: str) -> None:
        if saved.anything:
            self.message_user(request, "Saved. Clients see the new list within seconds.", messages.SUCCESS)
        else:
            self.message_user(request, nothing, messages.INFO)
        for warning in saved.warnings:
            self.message_user(request, visible(warning), messages.WARNING)

    # --- one member

    @method_decorator(sensitive_post_parameters())
    @method_decorator(require_http_methods(["GET", "HEAD", "POST"]))
    def member_view(self, request: HttpRequest, server_id: UUID, member_id: UUID) -> HttpResponse:
        """What one member shows: everything or what is chosen, names, descriptions, and its credential."""
        virtual, actor = self.virtual_server(request, server_id), self.actor(request)
        rows = VirtualMember.objects.select_related("virtual__tenant", "server__tenant", "server__auth_config")
        member = get_object_or_404(rows, pk=member_id, virtual=virtual)
        usable = actor.usable(virtual.tenant_id, among={member.server_id}).get(member.server_id)
        if usable is None:
            if request.method == "POST":
                raise PermissionDenied("You may not use this member yourself, so you cannot change what it shows.")
            return self.answer(request, virtual, "member", f"{member.server} in {virtual}", {"member": member})
        settings = request.method == "POST" and request.POST.get("do") == "settings"
        form = MemberForm(request.POST if settings else None, member=member, scope=actor.scope)
        items = _items(request, virtual, member, usable)
        refused: NotSaved | None = None
        if request.method == "POST" and (not settings or form.is_valid()):
            try:
                saved = saving.edit(
                    virtual, lambda now: _changed(now, member, request, form if settings else None, usable), actor=actor
                )
            except NotSaved as error:
                refused = error
                items = replace(items, typed=_typed(request, items))
            else:
                self._say(request, saved, nothing="Nothing was changed.")
                return HttpResponseRedirect(f"{_member_url(member)}{_query(request)}")
        counts = items.counts()
        page, lines = items.page(request.GET.get("p"))
        context = {
            "member": member,
            "usable": True,
            "form": form,
            "refused": refused,
            "page": page,
            "lines": lines,
            "kinds": [(kind, label, counts.get(kind, 0)) for kind, label in _KINDS.items() if kind in counts],
            "items": items,
            "matching": page.paginator.count,
            "total": sum(counts.values()),
            "read": items.catalogue.taken,
            "needs": _needs(member),
        }
        return self.answer(request, virtual, "member", f"{member.server} in {virtual}", context)


def _member_url(member: VirtualMember) -> str:
    return reverse("admin:servers_server_member", args=[member.virtual_id, member.pk])


def _query(request: HttpRequest) -> str:
    kept = {name: value for name in ("kind", "q", "p") if (value := request.GET.get(name, ""))}
    return f"?{urlencode(kept)}#items" if kept or request.POST.get("do") != "settings" else ""


def _posted(now: tuple[Wanted, ...], virtual: Server, request: HttpRequest) -> Iterable[Wanted]:
    """The present members with what the page of members says about them."""
    if request.POST.get("do") == "add":
        fresh = [found for text in request.POST.getlist("server") if (found := _uuid(text)) is not None]
        return [*now, *(Wanted(one) for one in dict.fromkeys(fresh) if one not in {member.server_id for member in now})]
    placed = []
    for place, member in enumerate(now):
        if f"alias-{member.server_id}" not in request.POST:
            placed.append((place + 1, place, member))
        elif f"remove-{member.server_id}" not in request.POST:
            alias = request.POST[f"alias-{member.server_id}"].strip()
            order = request.POST.get(f"order-{member.server_id}", "").strip()
            placed.append((_place(order, otherwise=place + 1), place, replace(member, alias=alias)))
    return [member for _, _, member in sorted(placed, key=lambda found: found[:2])]


def _place(text: str, *, otherwise: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else otherwise


def _changed(
    now: tuple[Wanted, ...], member: VirtualMember, request: HttpRequest, form: MemberForm | None, usable: Usable
) -> Iterable[Wanted]:
    """The present members, with what the page of one says about it."""
    return [_of_one(one, member, request, form, usable) if one.server_id == member.server_id else one for one in now]


def _of_one(
    now: Wanted, member: VirtualMember, request: HttpRequest, form: MemberForm | None, usable: Usable
) -> Wanted:
    catalogue = catalogue_of(member.server_id)
    if form is not None:
        facts, shown = now.facts(), {kind: list[str]() for kind in ItemKind}
        for kind, key in catalogue.items:
            if facts.shows(kind, key):
                shown[kind].append(key)
        return form.wanted(now, shown)
    items = Items(now, catalogue, usable.rights, _kind(request.GET), request.GET.get("q", ""))
    do = request.POST.get("do")
    changed = items.with_all(do == "show_all") if do in ("show_all", "show_none") else items.posted(request.POST)
    return replace(now, selections={**now.selections, **changed})


def _typed(request: HttpRequest, items: Items) -> dict[str, Any]:
    return {token_of(key): selection for key, selection in items.posted(request.POST).items()}


def _items(request: HttpRequest, virtual: Server, member: VirtualMember, usable: Usable) -> Items:
    now = next((one for one in saving.present(virtual) if one.server_id == member.server_id), None)
    if now is None:
        raise Http404
    return Items(now, catalogue_of(member.server_id), usable.rights, _kind(request.GET), request.GET.get("q", ""))


def _kind(data: Mapping[str, Any]) -> ItemKind | None:
    try:
        return ItemKind(data.get("kind", ""))
    except ValueError:
        return None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _needs(member: VirtualMember) -> str:
    if member.credential:
        return "nothing: this virtual server has a credential for all callers"
    config = getattr(member.server, "auth_config", None)
    return _NEEDS.get(Method(config.method), "nothing") if config is not None else "nothing"


def _rows(
    virtual: Server,
    members: list[VirtualMember],
    usable: Mapping[UUID, Usable],
    posted: HttpRequest | None,
    refused: NotSaved | None,
) -> list[Row]:
    arranged = arrangement_of(virtual.pk, virtual=True)
    shows, left_out = _counts(arranged)
    wrong = {problem.member for problem in refused.problems} if refused is not None else set()
    data = posted.POST if posted is not None else {}
    rows = []
    for place, member in enumerate(members):
        catalogue = arranged.catalogues[member.pk]
        key = str(member.server_id)
        rows.append(
            Row(
                member,
                member.server_id in usable,
                counted(shows.get(member.pk, Counter())),
                counted(Counter(kind for kind, _ in catalogue.texts)),
                left_out[member.pk],
                catalogue.taken,
                _needs(member),
                str(data.get(f"order-{key}", place + 1)),
                str(data.get(f"alias-{key}", member.alias)),
                f"remove-{key}" in data,
                member.server_id in wrong,
            )
        )
    # What could not be saved stands there as it was typed, the order too.
    return sorted(rows, key=lambda row: _place(row.order, otherwise=0)) if posted is not None else rows


def _counts(arranged: Arrangement) -> tuple[dict[UUID, Counter[ItemKind]], Counter[UUID]]:
    shows: dict[UUID, Counter[ItemKind]] = {member.id: Counter() for member in arranged.members}
    for kind, entries in arranged.entries.items():
        for entry in entries:
            shows[entry.member.id][kind] += 1
    return shows, Counter(one.entry.member.id for one in arranged.left_out)


def _offered(request: HttpRequest, usable: Mapping[UUID, Usable], present: set[UUID]) -> dict[str, Any]:
    """The servers that can be added, as many as a page holds; the search finds the others."""
    words = request.GET.get("q", "").strip().casefold()
    fitting = [
        found.server
        for found in usable.values()
        if found.server.pk not in present and words in f"{found.server.name}\n{found.server.slug}".casefold()
    ]
    fitting.sort(key=lambda server: (server.name.casefold(), server.slug))
    return {
        "offered": fitting[:_MOST_OFFERED],
        "not_offered": max(0, len(fitting) - _MOST_OFFERED),
        "query": request.GET.get("q", ""),
        "chosen": set(request.POST.getlist("server")) if request.method == "POST" else set(),
        "searchable": bool(words) or len(usable) - len(present) > 8,
    }
