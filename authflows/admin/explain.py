"""Why can't they? The admin's page, about anybody whom the reader may administer."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.views.decorators.http import require_safe

from authflows.explain import explain
from authflows.explaining import questions
from authflows.explaining.steps import Reader
from servers.people import person_label
from servers.scope import Scope, scope_of_request

_MOST_SUGGESTED: Final = 300


@require_safe
def why(request: HttpRequest) -> HttpResponse:
    """Ask about a person and a server; below, every step of the decision with the rule behind it and its fix."""
    scope = scope_of_request(request)
    asked = bool(request.GET.get("person") and request.GET.get("server"))
    form = questions.AdminQuestionForm(request.GET)
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": "Why can’t they?",
        "form": form,
        "asked": asked,
        "servers": list(scope.visible_servers().select_related("tenant").order_by("name")[:_MOST_SUGGESTED]),
        "people": [(one.get_username(), person_label(one)) for one in questions.askable(scope)[:_MOST_SUGGESTED]],
    }
    if asked and form.is_valid():
        context |= _answer(scope, form)
    return TemplateResponse(request, "admin/gatehouse/why.html", context)


def _answer(scope: Scope, form: questions.AdminQuestionForm) -> dict[str, Any]:
    person = questions.askable(scope).filter(username=form.cleaned_data["person"].strip()).first()
    server = questions.administered(scope, form.cleaned_data["server"])
    if person is None or server is None:
        return {"unknown_person": person is None, "unknown_server": server is None}
    told = explain(person, server, item=form.item_asked, client=form.cleaned_data["client"], reader=Reader(scope))
    return {"told": told, "server": server, "person": person_label(person)}
