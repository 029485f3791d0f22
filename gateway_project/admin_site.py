"""Our AdminSite: Django's stock admin with our name, open to superusers, tenant admins and managers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.views.autocomplete import AutocompleteJsonView
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.db.models import Count, Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache

from servers.people import people_of, person_label, teams_of
from servers.scope import Scope, scope_of_request

# Sections of the index, in the order of setting things up; what is not listed comes last under its own name.
SECTIONS: Final = (
    ("MCP servers", ("servers.servergroup", "servers.server", "servers.catalogueitem")),
    ("Credentials upstream", ("authflows.connection", "authflows.ownkey", "authflows.upstreamclient")),
    ("Access", ("authflows.virtualaccount", "authflows.apikey", "authflows.ownkey", "servers.storedsecret")),
    (
        "Sign-in",
        ("authflows.identityprovider", "authflows.oauthclient", "authflows.approval", "authflows.registrationpolicy"),
    ),
    ("People", ("auth.user", "auth.group", "authflows.identity")),
    ("Gateway", ("servers.tenant", "servers.privatedestination")),
    ("Records", ("servers.call", "servers.auditevent")),
)
_NAMES: Final = {
    "auth.group": "Teams", "auth.user": "People", "authflows.ownkey": "Auth Overrides",
    "servers.catalogueitem": "Catalogue changes",
}  # fmt: skip


class GatehouseAdminSite(admin.AdminSite):
    """The admin of platform admins and of managers."""

    site_header = "Gatehouse"
    site_title = "Gatehouse"
    index_title = "Administration"
    index_template = "admin/gatehouse/index.html"
    empty_value_display = "–"

    def has_permission(self, request: HttpRequest) -> bool:
        """Superusers, tenant admins, and live managers of anything."""
        return scope_of_request(request).may_enter

    @method_decorator(never_cache)
    @method_decorator(login_not_required)
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """There is one sign-in page, with its limits on guessing; the admin has none of its own."""
        if request.user.is_authenticated:
            if self.has_permission(request):
                return HttpResponseRedirect(reverse("admin:index"))
            raise PermissionDenied(
                "These pages are for admins and for managers of MCP servers. Ask one of them if you need access."
            )
        target = request.GET.get("next") or reverse("admin:index")
        return HttpResponseRedirect(f"{resolve_url(settings.LOGIN_URL)}?{urlencode({'next': target})}")

    def autocomplete_view(self, request: HttpRequest) -> HttpResponse:
        answer: HttpResponse = ScopedAutocomplete.as_view(admin_site=self)(request)  # type: ignore[assignment]
        return answer

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        found = self._build_app_dict(request, app_label)
        if app_label is not None:
            return list(found.values())
        by_key = {
            f"{label}.{model['object_name'].lower()}": model for label, app in found.items() for model in app["models"]
        }
        sections: list[Any] = []
        for number, (name, keys) in enumerate(SECTIONS):
            models = [by_key.pop(key) | {"name": _NAMES.get(key, by_key_name)} for key in keys
                      if key in by_key and (by_key_name := by_key[key]["name"])]  # fmt: skip
            if models:
                label = f"section-{number}"
                sections.append({"name": name, "app_label": label, "app_url": "#", "models": models})
        if by_key:
            rest = sorted(by_key.values(), key=lambda model: str(model["name"]))
            sections.append({"name": "More", "app_label": "section-more", "app_url": "#", "models": rest})
        return sections

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        scope = scope_of_request(request)
        context = {"numbers": numbers(scope), "steps": steps(request, scope), **(extra_context or {})}
        return super().index(request, context)


class ScopedAutocomplete(AutocompleteJsonView):
    """Choices of people and teams, limited to the tenants that the asking person reaches."""

    def has_perm(self, request: HttpRequest, obj: Any = None) -> bool:
        scope = scope_of_request(request)
        source = self.source_field.model._meta.label_lower
        if source == "servers.accessrule" and self.source_field.name in ("user", "team"):
            return scope.may_enter
        return scope.superuser

    def get_queryset(self) -> Any:
        scope = scope_of_request(self.request)
        found = self.model_admin.model._default_manager.all().order_by("pk")
        name = self.source_field.name
        if name == "user":
            found = people_of(scope, found).order_by("username")
        elif name == "team":
            found = teams_of(scope, found).order_by("name")
        elif not scope.superuser:
            raise Http404
        found, duplicates = self.model_admin.get_search_results(self.request, found, self.term)
        return found.distinct() if duplicates else found

    def serialize_result(self, obj: Any, to_field_name: str) -> dict[str, str]:
        label = person_label(obj) if self.source_field.name == "user" else str(obj)
        return {"id": str(getattr(obj, to_field_name)), "text": label}


@dataclass(frozen=True)
class Step:
    """One step of setting up: what to do, where, and whether it is done."""

    text: str
    url: str
    done: bool


def steps(request: HttpRequest, scope: Scope) -> list[Step]:
    """The way to a first call; empty when all is done or the person may not do it."""
    from authflows.models import ApiKey
    from servers.models import AccessRule, Server

    if not scope.may_add_servers:
        return []
    servers = scope.visible_servers()
    mine = Q(user=request.user.pk)
    given = AccessRule.objects.filter(Q(server__in=servers) | Q(group__in=scope.visible_groups())).exclude(mine)
    found = [
        Step("Add an MCP server", reverse("admin:servers_server_add"), servers.exists()),
        Step(
            "Test its connection",
            reverse("admin:servers_server_changelist"),
            servers.filter(health=Server.Health.OK).exists(),
        ),
        Step("Give somebody access", reverse("admin:servers_server_changelist"), given.exists()),
        Step("Make yourself an API key", _keys_url(), ApiKey.objects.filter(owner=request.user.pk).exists()),
    ]
    return [] if all(step.done for step in found) else found


def _keys_url() -> str:
    try:
        return reverse("my-keys")
    except NoReverseMatch:
        return reverse("admin:index")


def numbers(scope: Scope) -> dict[str, Any]:
    """Servers by health, and the calls of the last 24 hours, of what the person administers."""
    from servers.models import IS_ERROR, Call, Server, Tenant
    from servers.models.catalogue import CatalogueItem

    # A virtual server has no health of its own.
    tested = scope.visible_servers().exclude(kind=Server.Kind.VIRTUAL)
    health = dict(tested.order_by().values_list("health").annotate(Count("pk")))
    calls = Call.objects.filter(at__gte=timezone.now() - timedelta(hours=24))
    if not scope.superuser:
        slugs = list(Tenant.objects.filter(pk__in=scope.tenants).values_list("slug", flat=True))
        mine = list(scope.visible_servers().values_list("pk", flat=True))
        calls = calls.filter(Q(tenant__in=slugs) | Q(server_id__in=mine))
    held = CatalogueItem.objects.filter(state=CatalogueItem.State.HELD)
    if not scope.superuser:
        held = held.filter(catalogue__server__in=scope.visible_servers())
    totals = calls.aggregate(calls=Count("pk"), errors=Count("pk", filter=IS_ERROR))
    return {
        "health": [
            {"value": value, "label": label, "count": health.get(value, 0)}
            for value, label in Server.Health.choices
            # Of the ways to fail, those that there are.
            if health.get(value) or value in (Server.Health.UNKNOWN, Server.Health.OK)
        ],
        "held": held.count(),
        **totals,
    }
