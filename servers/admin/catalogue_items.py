"""Items of catalogues: the list of all changes that wait for a decision, and the page of one item."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_http_methods

from servers.admin.base import AuditedAdmin
from servers.admin.catalogue_difference import changed_fields
from servers.admin.catalogue_page import ROW_ACTIONS, catalogue_url, decide, decide_about_rows
from servers.admin.catalogue_rows import HELD, OF_ALL, Listing, Row, parsed, said_hints
from servers.catalogue import decisions, reach
from servers.catalogue.decisions import Undecided
from servers.catalogue.texts import arguments_of, as_json, plain, properties_of, visible
from servers.links import admin_url
from servers.models import Server
from servers.models.catalogue import CatalogueItem

State, Kind = CatalogueItem.State, CatalogueItem.Kind
_SAYS: Final = {"yes": True, "no": False, "": None}
_PAGE = method_decorator(require_http_methods(["GET", "HEAD", "POST"]))


@admin.register(CatalogueItem)
class CatalogueItemAdmin(AuditedAdmin):
    """“Catalogue changes”: what is held on the servers that the person manages."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        scope = self.scope(request)
        return scope.may_enter if obj is None else scope.manages_server(obj.catalogue.server)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_view_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # Asked for each when a server goes and takes its catalogue along. On its own none is deleted: delete_view.
        return obj is not None and self.scope(request).may_enter

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        raise Http404

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        raise Http404

    def get_queryset(self, request: HttpRequest) -> QuerySet[CatalogueItem]:
        found = CatalogueItem.objects.select_related("catalogue__server__tenant", "catalogue__server__group")
        scope = self.scope(request)
        return found if scope.superuser else found.filter(catalogue__server__in=scope.visible_servers())

    # --- all that is held

    @_PAGE
    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """What waits for a decision, over all servers that the person manages."""
        if request.method == "POST":
            action = request.POST.get("do", "")
            if action in ("approve", "refuse"):
                decide_about_rows(request, action)
            else:
                messages.error(request, "Choose what to do first.")
            return HttpResponseRedirect(request.get_full_path())
        held = CatalogueItem.objects.filter(HELD)
        if not self.scope(request).superuser:
            held = held.filter(catalogue__server__in=self.scope(request).visible_servers())
        listing = Listing(held, request.GET, filters=OF_ALL, several=True)
        return self._answer(request, "changes.html", "Catalogue changes", {"listing": listing})

    def _answer(self, request: HttpRequest, template: str, title: str, context: dict[str, Any]) -> HttpResponse:
        request.current_app = self.admin_site.name
        shared = {**self.admin_site.each_context(request), "title": title, "opts": self.opts}
        return TemplateResponse(request, f"admin/servers/catalogue/{template}", {**shared, **context})

    def _about(self, request: HttpRequest, item: CatalogueItem) -> dict[str, Any]:
        scope = self.scope(request)
        reached = [
            (one, one.rule.group if one.rule.group is not None and scope.manages_group(one.rule.group) else None)
            for one in reach.reach_of(item)
        ]
        others = CatalogueItem.objects.filter(HELD, catalogue=item.catalogue_id).exclude(pk=item.pk).count()
        return {**_about(item), "reach": reached, "others": others}

    # --- one item

    @_PAGE
    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """One item: what changed, what callers have, its hints, and whom it reaches."""
        item = self.get_object(request, unquote(object_id or ""))
        if not isinstance(item, CatalogueItem):
            raise Http404
        if request.method == "POST":
            self._decide(request, item)
            return HttpResponseRedirect(urlsplit(request.get_full_path()).path)
        return self._answer(
            request, "item.html", f"{item.get_kind_display()} {plain(item.key)}"[:200], self._about(request, item)
        )

    def _decide(self, request: HttpRequest, item: CatalogueItem) -> None:
        action = request.POST.get("do", "")
        if action in ROW_ACTIONS:
            decide_about_rows(request, action)
        elif action == "hints":
            read_only = _SAYS.get(request.POST.get("read_only", ""))
            destructive = _SAYS.get(request.POST.get("destructive", ""))
            decide(
                request,
                lambda: decisions.correct_hints(
                    item.pk, read_only=read_only, destructive=destructive, person=request.user
                ),
                "The hints are saved: rules and callers go by them.",
            )
        elif action in ("open", "close"):
            self._switch(request, item, on=action == "open")
        else:
            messages.error(request, "Choose what to do first.")

    @staticmethod
    def _switch(request: HttpRequest, item: CatalogueItem, *, on: bool) -> None:
        try:
            rule_id = UUID(request.POST.get("rule", ""))
            changed = reach.switch(item, rule_id=rule_id, on=on, person=request.user)
        except ValueError:
            messages.error(request, "Choose a collaborator first.")
        except Undecided as error:
            messages.error(request, visible(error.public_message))
        else:
            words = "on for this collaborator" if on else "off for this collaborator"
            messages.success(request, f"Switched {words}." if changed else f"It was {words} already.")


def _about(item: CatalogueItem) -> dict[str, Any]:
    server: Server = item.catalogue.server
    differs = bool(item.approved) and item.state in (State.HELD, State.REFUSED)
    offered, shown = parsed(item.offered), parsed(item.served or item.approved or item.offered)
    changed, more = changed_fields(parsed(item.approved), offered) if differs else ([], False)
    inputs, inputs_cut = properties_of(shown.get("inputSchema"))
    outputs, outputs_cut = properties_of(shown.get("outputSchema"))
    return {
        "item": item,
        "row": Row(item),
        "server": server,
        "server_url": admin_url(server),
        "catalogue_url": catalogue_url(server),
        "differs": differs,
        "changed": changed,
        "changed_more": more,
        "may_approve": item.state in (State.HELD, State.REFUSED) and not item.problem,
        "may_refuse": item.state == State.HELD,
        "problem": visible(item.problem),
        "description": visible(str(shown.get("description") or "")),
        "facts": [(label, visible(str(shown[name]))) for name, label in _FACTS if shown.get(name)],
        "tables": [
            ("Inputs", inputs, inputs_cut) if item.kind == Kind.TOOL else None,
            ("Outputs", outputs, outputs_cut) if "outputSchema" in shown else None,
            ("Arguments", arguments_of(shown.get("arguments")), False) if item.kind == Kind.PROMPT else None,
        ],
        "texts": [(words, as_json(parsed(text))) for words, text in _texts(item)],
        "hints": _hint_fields(item),
        "callers": _callers(item),
    }


_FACTS: Final = (
    ("title", "Title"), ("uri", "URI"), ("uriTemplate", "URI template"), ("mimeType", "Content type"),
    ("size", "Bytes"),
)  # fmt: skip


def _texts(item: CatalogueItem) -> list[tuple[str, str]]:
    """The definitions there are, each with what it is; equal ones once."""
    found = {
        item.served: "As callers have it, with the corrected hints",
        item.offered: "As the server offers it",
        item.approved: "As it was approved",
    }
    return [(words, text) for text, words in found.items() if text]


def _callers(item: CatalogueItem) -> str:
    """What callers have of it, in a sentence."""
    if item.state == State.GONE:
        return "The server no longer offers it, so nobody has it."
    if not item.enabled:
        return "It is disabled, so nobody has it."
    if item.state == State.APPROVED:
        return "Callers have it, as far as their rules open it." if not item.problem else "Nobody has it."
    if item.approved:
        return "Callers have the definition that was approved before, as far as their rules open it."
    return "Nobody has it."


_HINTS: Final = (
    ("read_only", "Does it only read?", "It only reads", "It may change something"),
    ("destructive", "May it destroy something?", "It may destroy something", "It destroys nothing"),
)


def _hint_fields(item: CatalogueItem) -> list[dict[str, Any]]:
    """The two questions of the form, with what is chosen."""
    if item.kind != Kind.TOOL:
        return []
    fields = []
    for says, (name, label, yes, no) in zip(said_hints(item), _HINTS, strict=True):
        corrected = getattr(item, name)
        choices = [
            ("", f"As the server says: {(yes if says else no).lower()}", corrected is None),
            ("yes", yes, corrected is True),
            ("no", no, corrected is False),
        ]
        fields.append({"name": name, "label": label, "choices": choices})
    return fields
