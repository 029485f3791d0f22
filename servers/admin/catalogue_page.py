"""The catalogue of a server: its page, what is decided there, and its line on the server's own pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from django.utils.timesince import timesince
from django.views.decorators.http import require_http_methods

from servers.admin.base import AuditedAdmin
from servers.admin.catalogue_rows import OF_SERVER, ROWS_ON_A_PAGE, Listing
from servers.catalogue import decisions, reading_now
from servers.catalogue.decisions import Decided, Held, HeldItemsAsk, Undecided
from servers.catalogue.settling import EMPTIED, served_condition
from servers.catalogue.texts import visible
from servers.links import admin_url
from servers.models import Server
from servers.models.catalogue import Catalogue, CatalogueItem

Policy = Catalogue.Policy
EXPLAINED: Final = {
    Policy.ACCEPT_ALL: "Callers have at once whatever the server offers. For servers that you would trust with a "
    "change at night.",
    Policy.ACCEPT_HARMLESS: "Callers have at once what can mislead no model: icons, optional inputs without prose. "
    "New tools and new texts wait for somebody.",
    Policy.HOLD_ALL: "Callers go on having what was approved. Everything new or changed waits for somebody.",
}
_NEXT_STEPS: Final = {
    "authentication": "Look at its authentication on the server's page, or connect your own account, and read again.",
    "address": "Look at its address on the server's page and read again.",
    "connect": "See whether it runs and can be reached from here, and read again.",
    "fault": "Its operator has to look at it; the gateway tries again by itself.",
    "tls": "Look at its certificate, or at the custom CA on the server's page, and read again.",
}
_TRY_AGAIN: Final = "Use Test connection on the server's page to find out more, and read again."
_MOST_SHOWN: Final = 50
_ITEM_LINE: Final = f"{capfirst(CatalogueItem._meta.verbose_name)}:"


def catalogue_url(server: Server, query: str = "") -> str:
    """The page of a server's catalogue."""
    url = reverse("admin:servers_server_catalogue", args=[server.pk])
    return f"{url}?{query}" if query else url


def decide(request: HttpRequest, decision: Callable[[], Decided], done: str) -> None:
    """Take a decision and tell the person what came of it. `done` says it of one item, with `{}` for their number."""
    try:
        decided = decision()
    except Undecided as error:
        messages.error(request, visible(error.public_message))
        return
    if decided.done:
        noun = "item" if decided.done == 1 else "items"
        messages.success(request, done.format(f"{decided.done} {noun}"))
    else:
        messages.info(request, "Nothing to do: that was so already.")


def decide_about_rows(request: HttpRequest, action: str) -> None:
    """Approve, refuse, enable or disable the rows that are chosen in a list."""
    chosen = _chosen(request)
    if not chosen:
        messages.warning(request, "Choose rows first.")
        return
    seen = {pk: request.POST.get(f"seen-{pk}", "") for pk in chosen}
    person = request.user
    decision, done = {
        "approve": (lambda: decisions.approve(seen, person=person), "{} approved: callers have them now."),
        "refuse": (lambda: decisions.refuse(seen, person=person), "{} refused: callers keep what was approved."),
        "enable": (lambda: decisions.enable(chosen, person=person), "{} enabled."),
        "disable": (lambda: decisions.disable(chosen, person=person), "{} disabled: nobody has them now."),
    }[action]
    decide(request, decision, done)


ROW_ACTIONS: Final = ("approve", "refuse", "enable", "disable")


def _chosen(request: HttpRequest) -> list[UUID]:
    found = []
    for text in request.POST.getlist("item")[:ROWS_ON_A_PAGE]:
        try:
            found.append(UUID(text))
        except ValueError:
            continue
    return found


class CataloguePage(AuditedAdmin):
    """Mixed into the admin page of servers."""

    def get_urls(self) -> list[Any]:
        page = path(
            "<path:object_id>/catalogue/",
            self.admin_site.admin_view(self.catalogue_view),
            name="servers_server_catalogue",
        )
        return [page, *super().get_urls()]

    @method_decorator(require_http_methods(["GET", "HEAD", "POST"]))
    def catalogue_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the catalogue, or decide something about it."""
        server = self.get_object(request, unquote(object_id))
        if not isinstance(server, Server) or not self.has_change_permission(request, server):
            raise Http404
        if request.method == "POST":
            return self._decide(request, server)
        return self._page(request, server)

    def _page(self, request: HttpRequest, server: Server) -> HttpResponse:
        catalogue = Catalogue.objects.filter(server=server).first() or Catalogue(server=server)
        listing = Listing(CatalogueItem.objects.filter(catalogue__server=server), request.GET, filters=OF_SERVER)
        context = {
            "catalogue": catalogue,
            "listing": listing,
            "members": _members(self.scope(request).visible_servers(), server) if server.is_virtual else None,
            "trouble": _trouble(catalogue),
            "age": _age(catalogue.taken_at),
            "policies": [(value, label, EXPLAINED[Policy(value)]) for value, label in Policy.choices],
            "instructions": visible(catalogue.instructions),
            "offered_instructions": visible(catalogue.offered_instructions),
            "instructions_seen": decisions.text_digest(catalogue.offered_instructions),
        }
        return self._answer(request, server, "admin/servers/catalogue/page.html", f"Catalogue of {server}", context)

    def _answer(
        self, request: HttpRequest, server: Server, template: str, title: str, context: Mapping[str, Any]
    ) -> HttpResponse:
        shared = {"title": title, "server": server, "opts": self.opts, "server_url": admin_url(server)}
        request.current_app = self.admin_site.name
        return TemplateResponse(request, template, {**self.admin_site.each_context(request), **shared, **context})

    # --- what is decided here

    def _decide(self, request: HttpRequest, server: Server) -> HttpResponse:
        action = request.POST.get("do", "")
        if action == "policy":
            return self._policy(request, server)
        if action == "approve_held":
            return self._approve_held(request, server)
        if action == "read":
            taken = reading_now.read_now(server, person=request.user)
            level = messages.WARNING if taken.failure else messages.SUCCESS
            messages.add_message(request, level, visible(reading_now.sentence_of(taken)))
        elif action == "accept_empty":
            decide(
                request,
                lambda: decisions.accept_empty(server, person=request.user),
                "Accepted: {} no longer offered.",
            )
        elif action == "approve_instructions":
            seen = request.POST.get("seen", "")
            decide(
                request,
                lambda: decisions.approve_instructions(server, seen=seen, person=request.user),
                "The instructions are approved: clients get them from now on.",
            )
        elif action in ROW_ACTIONS:
            decide_about_rows(request, action)
        else:
            messages.error(request, "Choose what to do first.")
        return HttpResponseRedirect(catalogue_url(server, urlsplit(request.get_full_path()).query))

    def _policy(self, request: HttpRequest, server: Server) -> HttpResponse:
        wanted, said = request.POST.get("policy", ""), request.POST.get("held", "")
        if wanted not in Policy.values:
            messages.error(request, "Choose one of the policies.")
            return HttpResponseRedirect(catalogue_url(server))
        held, policy = Held(said) if said in list(Held) else None, Policy(wanted)
        seen = request.POST.get("seen", "")
        try:
            decided = decisions.set_policy(server, policy=policy, person=request.user, held=held, seen=seen)
        except HeldItemsAsk as asked:
            return self._ask(request, server, "policy", asked.count)
        except Undecided as error:
            messages.error(request, visible(error.public_message))
        else:
            approved = f" {decided.done} approved with it." if decided.done else ""
            messages.success(request, f"The policy is now: {policy.label.lower()}.{approved}")
        return HttpResponseRedirect(catalogue_url(server))

    def _approve_held(self, request: HttpRequest, server: Server) -> HttpResponse:
        seen = request.POST.get("seen", "")
        if not seen:
            return self._ask(request, server, "approve_held", 0)
        decide(
            request,
            lambda: decisions.approve_held(server, seen=seen, person=request.user),
            "{} approved: callers have them now.",
        )
        return HttpResponseRedirect(catalogue_url(server))

    def _ask(self, request: HttpRequest, server: Server, action: str, count: int) -> HttpResponse:
        held = CatalogueItem.objects.filter(catalogue__server=server, state=CatalogueItem.State.HELD, problem="")
        names = [(item.get_kind_display(), visible(item.key)) for item in held.only("kind", "key")[:_MOST_SHOWN]]
        count = count or held.count()
        context = {
            "action": action,
            "policy": Policy.ACCEPT_ALL,
            "seen": decisions.held_digest(server),
            "count": count,
            "names": names,
            "more": count - len(names),
            "back": catalogue_url(server, "show=held"),
        }
        title = "What becomes of held changes?" if action == "policy" else "Approve everything that is held?"
        return self._answer(request, server, "admin/servers/catalogue/ask.html", title, context)

    # --- the line on the server's own pages

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        listed, *rest = super().get_deleted_objects(objs, request)
        return [_without_items(listed), *rest]  # their number stands above the list

    def get_fieldsets(self, request: HttpRequest, obj: Server | None = None) -> Any:
        found = super().get_fieldsets(request, obj)
        if obj is None or obj.is_virtual:
            return found
        (name, options), *rest = found
        fields = list(options["fields"])
        place = fields.index("health_line") + 1 if "health_line" in fields else len(fields)
        return [(name, {**options, "fields": [*fields[:place], "catalogue_line", *fields[place:]]}), *rest]

    def get_readonly_fields(self, request: HttpRequest, obj: Server | None = None) -> Any:
        found = super().get_readonly_fields(request, obj)
        return found if obj is None or obj.is_virtual else (*found, "catalogue_line")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        return ServersWithCatalogues

    @admin.display(description="catalogue")
    def catalogue_line(self, server: Server) -> SafeString | str:
        """Number of tools, and what waits; a link to the page."""
        if server.is_virtual:
            return ""
        if not hasattr(server, "catalogue_counts"):
            add_counts([server])
        counts: Mapping[str, Any] | None = server.catalogue_counts  # type: ignore[attr-defined]
        if counts is None or counts["taken_at"] is None:
            return format_html('<a href="{}">not read yet</a>', catalogue_url(server))
        words = format_html('<a href="{}">{} tool{}</a>', catalogue_url(server), counts["tools"], _s(counts["tools"]))
        if counts["held"]:
            held = catalogue_url(server, "show=held")
            words = format_html('{}, <a class="gh-held" href="{}">{} held</a>', words, held, counts["held"])
        if counts["failure"]:
            words = format_html('{}, <span class="gh-state gh-state-revoked">not current</span>', words)
        return words


class ServersWithCatalogues(ChangeList):
    """The list of servers; what their catalogues hold is counted for the shown ones, in one query."""

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        add_counts(self.result_list)


def add_counts(servers: list[Server]) -> None:
    """Keep on each server what `catalogue_line` shows: tools that callers have, and what is held."""
    items = CatalogueItem.objects.filter(catalogue__server__in=servers).order_by()
    tools = served_condition() & Q(kind=CatalogueItem.Kind.TOOL)
    held = Q(state=CatalogueItem.State.HELD)
    numbers = {
        row["catalogue_id"]: row
        for row in items.values("catalogue_id").annotate(tools=Count("pk", filter=tools), held=Count("pk", filter=held))
    }
    none = {"tools": 0, "held": 0}
    known = {
        server_id: {**numbers.get(pk, none), "taken_at": taken_at, "failure": failure}
        for pk, server_id, taken_at, failure in Catalogue.objects.filter(server__in=servers).values_list(
            "pk", "server_id", "taken_at", "failure"
        )
    }
    for server in servers:
        server.catalogue_counts = known.get(server.pk)  # type: ignore[attr-defined]


def _age(at: datetime | None) -> str:
    """How long ago that was; empty when it never was."""
    if at is None:
        return ""
    return f"{timesince(at)} ago" if (timezone.now() - at).total_seconds() >= 60 else "just now"


def _without_items(listed: Any) -> Any:
    """What a deletion takes along, without one line for each of thousands of items."""
    if isinstance(listed, list):
        return [_without_items(one) for one in listed if not _is_item(one)]
    return listed


def _is_item(one: Any) -> bool:
    return isinstance(one, str) and one.startswith(_ITEM_LINE)


def _trouble(catalogue: Catalogue) -> dict[str, Any] | None:
    """What the last try came to, and the next step, where it failed."""
    if not catalogue.failure:
        return None
    emptied = catalogue.failure == EMPTIED
    step = "" if emptied else _NEXT_STEPS.get(catalogue.failure, _TRY_AGAIN)
    return {
        "age": _age(catalogue.tried_at),
        "sentence": visible(catalogue.failure_sentence),
        "step": step,
        "emptied": emptied,
    }


def _members(visible_servers: Any, server: Server) -> list[tuple[str, str]]:
    shown = {row.pk: row for row in visible_servers.filter(member_of__virtual=server)}
    members = server.members.select_related("server").order_by("position", "alias")
    return [(str(one.server), catalogue_url(one.server) if one.server_id in shown else "") for one in members]


def _s(count: int) -> str:
    return "" if count == 1 else "s"
