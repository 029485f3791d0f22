"""Our AdminSite: Django's stock admin with our name, open to superusers, tenant admins and managers."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.views.autocomplete import AutocompleteJsonView
from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache

from gateway_project import index_page
from servers.people import people_of, person_label, teams_of
from servers.scope import scope_of_request

# Sections of the index, in the order of setting things up; what is not listed comes last under its own name.
SECTIONS: Final = (
    ("MCP servers", ("servers.servergroup", "servers.server", "servers.catalogueitem")),
    ("Credentials upstream", ("authflows.connection", "authflows.ownkey", "authflows.upstreamclient")),
    ("Access", ("servers.accessrequest", "authflows.virtualaccount", "authflows.apikey", "servers.storedsecret")),
    (
        "Sign-in",
        ("authflows.identityprovider", "authflows.oauthclient", "authflows.approval", "authflows.registrationpolicy"),
    ),
    ("People", ("auth.user", "auth.group", "authflows.identity")),
    ("Gateway", ("servers.tenant", "servers.privatedestination", "servers.modelendpoint")),
    ("Records", ("servers.call", "servers.auditevent")),
)
NAMES: Final = {
    "auth.group": "Teams", "auth.user": "People", "authflows.ownkey": "Auth Overrides",
    "servers.catalogueitem": "Catalogue changes",
}  # fmt: skip


# Names of the pages that open to who only reads records. Everything else stays closed, also what comes later.
_RECORD_PAGES: Final = ("index", "app_list", "login", "logout", "jsi18n", "servers_call_", "servers_auditevent_")


class GatehouseAdminSite(admin.AdminSite):
    """The admin of platform admins and of managers."""

    site_header = "Gatehouse"
    site_title = "Gatehouse"
    index_title = "Administration"
    index_template = "admin/gatehouse/index.html"
    empty_value_display = "–"
    names = NAMES

    def has_permission(self, request: HttpRequest) -> bool:
        """Superusers, tenant admins, and live managers of anything; auditors where records are, and nowhere else."""
        scope = scope_of_request(request)
        if scope.may_enter or not scope.reads_records:
            return scope.may_enter
        # Asked from the portal, it decides whether the way to these pages is shown.
        if not request.path.startswith(reverse("admin:index")):
            return True
        match = request.resolver_match
        return match is not None and match.namespace == "admin" and str(match.url_name).startswith(_RECORD_PAGES)

    @method_decorator(never_cache)
    @method_decorator(login_not_required)
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """There is one sign-in page, with its limits on guessing; the admin has none of its own."""
        if request.user.is_authenticated:
            # Who comes with an address was sent here from a page that is closed to them.
            auditor_astray = "next" in request.GET and not scope_of_request(request).may_enter
            if self.has_permission(request) and not auditor_astray:
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
            models = [by_key.pop(key) | {"name": NAMES.get(key, by_key_name)} for key in keys
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
        return super().index(request, {**index_page.page(request, scope), **(extra_context or {})})


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
