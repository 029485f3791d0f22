"""“Access requests”: what people ask of the servers that somebody manages, answered in one click (F-504)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Page, Paginator
from django.db.models import Count, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.views.decorators.http import require_http_methods

from servers import access_requests
from servers.access_requests import Effect, Grant, duration_text, requests_for
from servers.admin.base import AuditedAdmin
from servers.chips import Chip
from servers.errors import GatewayError
from servers.forms.access_requests import AnswerForm, durations_for
from servers.links import admin_url
from servers.models import AccessRequest, AccessRule
from servers.people import person_label
from servers.rule_texts import role_text

State = AccessRequest.State
_PAGE_SIZE: Final = 25
_PAGE = method_decorator(require_http_methods(["GET", "HEAD", "POST"]))
_EMPTY: Final = {
    State.PENDING: "Nobody waits for an answer. People can ask for a server once “People may ask for access” "
    "is ticked on its page.",
    State.APPROVED: "No request was approved yet.",
    State.REFUSED: "No request was refused yet.",
    State.WITHDRAWN: "No request was withdrawn.",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One request as its managers see it."""

    request: AccessRequest
    rule: AccessRule | None
    """The person's own rule on the server, as it is now."""

    @property
    def person(self) -> str:
        """Who asks."""
        return person_label(self.request.person)

    @property
    def wanted(self) -> str:
        """For how long it was asked for."""
        return duration_text(self.request.days)

    @property
    def durations(self) -> list[tuple[str, str, bool]]:
        """What can be given."""
        return durations_for(self.request)

    @property
    def server_url(self) -> str:
        """The admin page of the server."""
        return admin_url(self.request.server)

    @property
    def standing(self) -> str:
        """What the person's own rule says, where there is one."""
        if self.rule is None:
            return ""
        words = role_text(self.rule)
        if self.rule.expires_at is None:
            return f"They are {words} already, without end."
        ends = self.rule.expires_at
        if ends > timezone.now():
            return f"They are {words} already, until {ends:%Y-%m-%d %H:%M} UTC."
        as_it_was = f"User{words.removeprefix('Manager').removeprefix('User')}"
        return f"They were {words} until {ends:%Y-%m-%d %H:%M} UTC. Approving makes them {as_it_was} again."


@admin.register(AccessRequest)
class AccessRequestAdmin(AuditedAdmin):
    """The list, which is also where requests are answered; there are no pages of single ones."""

    def has_view_permission(self, request: HttpRequest, obj: AccessRequest | None = None) -> bool:
        scope = self.scope(request)
        if obj is not None:
            return scope.manages_server(obj.server)
        return scope.superuser or bool(scope.tenants or scope.groups or scope.servers)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: AccessRequest | None = None) -> bool:
        return self.has_view_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: AccessRequest | None = None) -> bool:
        # Asked for each when a server or a person goes and takes its requests along. None is deleted on its own.
        return obj is not None and self.has_view_permission(request)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        raise Http404

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        raise Http404

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        if object_id is None:
            raise Http404
        return HttpResponseRedirect(admin_url(AccessRequest, "changelist"))

    def get_queryset(self, request: HttpRequest) -> QuerySet[AccessRequest]:
        return requests_for(self.scope(request))

    @_PAGE
    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """What waits for the person's answer, and what was answered."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST":
            _answer(request)
            return HttpResponseRedirect(request.get_full_path())
        found = self.get_queryset(request)
        state = request.GET.get("state", State.PENDING)
        state = State(state) if state in State.values else State.PENDING
        counts = dict(found.order_by().values_list("state").annotate(Count("pk")))
        # Who waits longest is first; of what was answered, what was answered last.
        order = ("asked_at", "pk") if state == State.PENDING else ("-answered_at", "pk")
        page = Paginator(found.filter(state=state).order_by(*order), _PAGE_SIZE).get_page(request.GET.get("page"))
        context = {
            **self.admin_site.each_context(request),
            "title": "Access requests",
            "opts": self.opts,
            "chips": [Chip(one.value, str(one.label), counts.get(one.value, 0), one == state) for one in State],
            "waiting": state == State.PENDING,
            "rows": _rows(page),
            "page": page,
            "empty": _EMPTY[state],
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, "admin/servers/access_requests/list.html", context)


def _rows(page: Page[AccessRequest]) -> Sequence[Row]:
    requests = list(page.object_list)
    rules = AccessRule.objects.filter(
        server__in={one.server_id for one in requests}, user__in={one.person_id for one in requests}
    )
    held = {(rule.server_id, rule.user_id): rule for rule in rules}
    return [Row(one, held.get((one.server_id, one.person_id))) for one in requests]


def _answer(request: HttpRequest) -> None:
    """Take the answer of the form, and say what became of it."""
    form = AnswerForm(request.POST)
    if not form.is_valid():
        known = [error for name in ("answer", "duration") for error in form.errors.get(name, ())]
        messages.error(request, str(known[0]) if known else "Choose a request and an answer first.")
        return
    answer = form.cleaned_data
    try:
        if answer["do"] == "refuse":
            refused = access_requests.refuse(answer["request"], person=request.user, answer=answer["answer"])
            messages.success(request, f"Refused. {refused.person.get_username()} reads your sentence in the portal.")
        else:
            grant = access_requests.approve(
                answer["request"], days=answer["duration"], person=request.user, answer=answer["answer"]
            )
            messages.success(request, _said(grant))
    except GatewayError as error:
        messages.error(request, error.public_message)


def _said(grant: Grant) -> str:
    until = f"until {grant.ends:%Y-%m-%d %H:%M} UTC" if grant.ends is not None else "without end"
    if grant.effect is Effect.NONE:
        return f"Approved. Their access reached as far already: {until}."
    return f"Approved: they may use the server {until}."
