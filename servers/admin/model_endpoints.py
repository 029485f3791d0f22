"""Model endpoints: which language models the playground's chat offers to whom (F-603)."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import path

from servers import audit
from servers.admin.base import TenantsAdmin, actor_of
from servers.forms.model_endpoint import ModelEndpointForm
from servers.links import admin_url
from servers.model_endpoint_test import try_endpoint
from servers.models import ModelEndpoint


@admin.register(ModelEndpoint)
class ModelEndpointAdmin(TenantsAdmin):
    form = ModelEndpointForm
    change_form_template = "admin/servers/modelendpoint/change_form.html"
    actions_by_event = {
        "create": audit.Action.MODEL_ENDPOINT_CREATE,
        "change": audit.Action.MODEL_ENDPOINT_CHANGE,
        "delete": audit.Action.MODEL_ENDPOINT_DELETE,
    }
    list_display = ("name", "tenant", "base_url", "models", "for_whom", "enabled")
    list_select_related = ("tenant",)
    search_fields = ("name", "base_url")
    filter_horizontal = ("teams",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ModelEndpoint]:
        return super().get_queryset(request).prefetch_related("teams")

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return not lookup.startswith("key") and super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]

    def get_list_display(self, request: HttpRequest) -> Any:
        many = self.scope(request).administered_tenants()[:2].count() > 1
        return self.list_display if many else tuple(c for c in self.list_display if c != "tenant")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        kwargs["form"] = type("ModelEndpointForm", (ModelEndpointForm,), {"scope": self.scope(request)})
        return super().get_form(request, obj, change, **kwargs)

    def get_fields(self, request: HttpRequest, obj: ModelEndpoint | None = None) -> Any:
        several = obj is None and self.scope(request).administered_tenants()[:2].count() > 1
        no_key = ["no_key"] if obj is not None and obj.key else []
        first = ["tenant"] if several else []
        return [*first, "name", "base_url", "new_key", *no_key, "model_names", "teams", "enabled"]

    def save_model(self, request: HttpRequest, obj: ModelEndpoint, form: Any, change: bool) -> None:
        form.keep_key(obj, actor=actor_of(request))
        super().save_model(request, obj, form, change)

    def get_urls(self) -> list[Any]:
        test = path("<path:object_id>/test/", self.admin_site.admin_view(self.test), name="servers_modelendpoint_test")
        return [test, *super().get_urls()]

    def test(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Try the saved endpoint and say on its page what came out."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        endpoint = self.get_object(request, object_id)
        if endpoint is None or not self.has_change_permission(request, endpoint):
            raise Http404
        tried = try_endpoint(endpoint)
        listed = f" It lists: {', '.join(tried.models)}." if tried.models else ""
        self.message_user(request, f"{tried.sentence}{listed}", messages.SUCCESS if tried.ok else messages.ERROR)
        return HttpResponseRedirect(admin_url(endpoint))

    @admin.display(description="models")
    def models(self, endpoint: ModelEndpoint) -> str:
        return ", ".join(endpoint.model_names) or "none"

    @admin.display(description="for")
    def for_whom(self, endpoint: ModelEndpoint) -> str:
        return ", ".join(team.name for team in endpoint.teams.all()) or "everybody"
