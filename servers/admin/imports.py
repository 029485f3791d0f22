"""Import of servers: the file, the preview with a line for each entry, and the import of what was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods

from servers.admin.base import AuditedAdmin, actor_of
from servers.errors import GatewayError
from servers.forms.imports import ImportForm, ImportPlaceForm
from servers.imports import adding, draft
from servers.imports.adding import Choice
from servers.imports.documents import BadDocument
from servers.imports.planning import Line, Outcome, plan, same
from servers.imports.reading import entries_of
from servers.links import admin_url
from servers.models import Server, ServerGroup, Tenant
from servers.scope import Scope


class ImportPages(AuditedAdmin):
    """Mixed into the admin page of servers, before its form."""

    def get_urls(self) -> list[Any]:
        view = self.admin_site.admin_view(self.import_view)
        return [path("import/", view, name="servers_server_import"), *super().get_urls()]

    @method_decorator(sensitive_post_parameters())
    @method_decorator(require_http_methods(["GET", "HEAD", "POST"]))
    def import_view(self, request: HttpRequest) -> HttpResponse:
        """The file's form; posted: the preview; posted from there: the import."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        scope = self.scope(request)
        if request.method != "POST":
            return self._import_page(request, "form.html", {"form": _bound(ImportForm, scope)})
        if "draft" in request.POST:
            return self._import(request, scope)
        form = _bound(ImportForm, scope, request.POST, request.FILES)
        if form.is_valid():
            text = str(form.cleaned_data["text"])
            try:
                return self._preview(request, scope, form, text, _lines(scope, form, text))
            except BadDocument as bad:
                form.add_error("file" if request.FILES else "text", str(bad))
        return self._import_page(request, "form.html", {"form": form})

    def _import(self, request: HttpRequest, scope: Scope) -> HttpResponse:
        try:
            text = draft.open_draft(request.POST["draft"], user_id=request.user.pk)
        except GatewayError as error:
            messages.error(request, error.public_message)
            return HttpResponseRedirect(request.path)
        form = _bound(ImportPlaceForm, scope, request.POST)
        if not form.is_valid():
            messages.error(request, "Choose where the servers go again.")
            return HttpResponseRedirect(request.path)
        lines = _lines(scope, form, text)
        choices = _choices(lines, request.POST)
        found = adding.problems(choices, may_allow_private=scope.superuser)
        if not choices:
            messages.error(request, "Choose at least one server.")
        elif not found:
            try:
                made = adding.add(
                    choices, tenant=_tenant(form), group=_group(form), person=request.user, actor=actor_of(request)
                )
            except ValidationError as error:
                messages.error(request, f"Nothing was imported. {' '.join(error.messages)}")
            else:
                _tell(request, made)
                return HttpResponseRedirect(admin_url(Server, "changelist"))
        else:
            messages.error(request, "Nothing was imported yet: correct or untick what is marked below.")
        lines = [replace(line, problem=found.get(line.number, "")) for line in lines]
        chosen = {choice.line.number for choice in choices}
        return self._preview(request, scope, form, text, lines, chosen=chosen)

    def _preview(
        self,
        request: HttpRequest,
        scope: Scope,
        form: ImportPlaceForm,
        text: str,
        lines: Sequence[Line],
        *,
        chosen: set[int] | None = None,
    ) -> HttpResponse:
        usable = [line for line in lines if line.can_be_chosen]
        context = {
            "draft": draft.seal(text, user_id=request.user.pk),
            "tenant": _tenant(form),
            "group": _group(form),
            "lines": lines,
            "usable": len(usable),
            "chosen": {line.number for line in usable} if chosen is None else chosen,
            "counts": _counts(lines),
        }
        return self._import_page(request, "preview.html", context)

    def _import_page(self, request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
        request.current_app = self.admin_site.name
        shared = {**self.admin_site.each_context(request), "title": "Import servers", "opts": self.opts}
        return TemplateResponse(request, f"admin/servers/import/{template}", {**shared, **context})


def _bound(base: type[ImportPlaceForm], scope: Scope, *args: Any) -> ImportPlaceForm:
    form: ImportPlaceForm = type(base.__name__, (base,), {"scope": scope})(*args)
    return form


def _tenant(form: ImportPlaceForm) -> Tenant:
    tenant = form.chosen_tenant()
    if tenant is None:
        raise PermissionDenied
    return tenant


def _group(form: BaseForm) -> ServerGroup | None:
    found = form.cleaned_data.get("group")
    return found if isinstance(found, ServerGroup) else None


def _lines(scope: Scope, form: ImportPlaceForm, text: str) -> list[Line]:
    """The preview's lines; what exists is told only of servers that the person may see. Raises BadDocument."""
    tenant = _tenant(form)
    visible = scope.visible_servers().filter(tenant=tenant).exclude(url="")
    present = {same(url): name for url, name in visible.values_list("url", "name")}
    slugs = Server.objects.filter(tenant=tenant).values_list("slug", flat=True)
    return plan(entries_of(text), slugs=slugs, present=present)


def _choices(lines: Sequence[Line], posted: QueryDict) -> list[Choice]:
    ticked = set(posted.getlist("entry"))
    found = []
    for line in lines:
        if line.can_be_chosen and line.remote is not None and str(line.number) in ticked:
            typed = {
                one.name: posted.get(f"value-{line.number}-{number}", "").strip()
                for number, one in enumerate(line.remote.missing)
            }
            found.append(Choice(line, {name: value for name, value in typed.items() if value}))
    return found


def _counts(lines: Sequence[Line]) -> list[tuple[Outcome, str, int]]:
    words = {line.outcome: line.words for line in lines}
    return [
        (outcome, words[outcome], sum(line.outcome == outcome for line in lines))
        for outcome in Outcome
        if outcome in words
    ]


def _tell(request: HttpRequest, made: Sequence[Server]) -> None:
    count = len(made)
    messages.success(
        request,
        f"{count} server{'' if count == 1 else 's'} added. Test each, then give people access: so far only you and "
        "the admins have any.",
    )
    if off := [server.name for server in made if not server.enabled]:
        messages.warning(request, f"Switched off until their sign-in is set up: {', '.join(off)}.")
