"""Auth Overrides: own keys of people and virtual accounts, as those see them who manage the servers (F-309).

Who, where, by whom, until when; never a value. Who sees what: `servers.scope`.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_post_parameters

from authflows.models import OwnKey
from authflows.outbound import own_keys
from authflows.outbound.needs import missing_own_key
from authflows.outbound.overrides import METHODS, servers_with_overrides
from authflows.outbound.own_keys import Kept
from authflows.override_forms import OverrideForm, ServerChoiceForm
from servers.admin import beside
from servers.admin.base import ReadOnlyAdmin, actor_of, confirm
from servers.errors import SecretUnavailable
from servers.links import admin_url
from servers.models import Server
from servers.people import person_label
from servers.scope import Scope, scope_of_request

_REMOVED = "Their next call goes without it: it is refused where each person needs a key, else the shared one is used."
_TITLE = "Auth Overrides: keys of people and virtual accounts"


@beside.register
def keys_beside(server: Server) -> beside.Link | None:
    """The link on a server's page."""
    if getattr(getattr(server, "auth_config", None), "method", None) not in METHODS:
        return None
    count = OwnKey.objects.filter(server=server).count()
    url = f"{admin_url(OwnKey, 'changelist')}?server__id__exact={server.pk}"
    return beside.Link(url, f"{count} own key{'' if count == 1 else 's'} (Auth Overrides)")


@admin.register(OwnKey)
class OwnKeyAdmin(ReadOnlyAdmin):
    """Look, set for somebody, remove: everything for superusers, else what concerns the servers one manages."""

    list_display = ("person", "server", "state", "set_by", "expires_at", "comment", "last_used_at", "updated_at")
    list_display_links = ("person",)
    search_fields = ("user__username", "server__name", "comment", "set_by")
    search_help_text = "Person, server, comment or who set it."
    fields = (
        "person", "server", "state", "values", "origin", "set_by", "expires_at", "comment", "last_used_at",
        "created_at", "updated_at",
    )  # fmt: skip
    readonly_fields = ("person", "server", "state", "values")
    actions = ["remove"]
    change_form_template = "admin/gatehouse/own_key.html"

    # --- who may what

    def has_view_permission(self, request: HttpRequest, obj: OwnKey | None = None) -> bool:
        scope = self.scope(request)
        return scope.may_enter if obj is None else scope.manages_server(obj.server)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.scope(request).may_enter

    def has_delete_permission(self, request: HttpRequest, obj: OwnKey | None = None) -> bool:
        # Asked when a server or a person goes and takes the keys along. On their own they are removed: delete_view.
        return obj is not None and self.has_view_permission(request, obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[OwnKey]:
        rows = super().get_queryset(request).select_related("user", "server__tenant", "server__auth_config")
        scope = self.scope(request)
        return rows if scope.superuser else rows.filter(server__in=scope.visible_servers())

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        return lookup in ("server__id__exact", "user__id__exact")

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        return super().changelist_view(request, {"title": _TITLE, **(extra_context or {})})

    # --- columns

    @admin.display(description="for", ordering="user__username")
    def person(self, key: OwnKey) -> str:
        return person_label(key.user)

    @admin.display(description="state")
    def state(self, key: OwnKey) -> SafeString:
        missing = missing_own_key(key, key.server)
        if missing is None:
            return format_html('<span class="gh-state gh-state-active">{}</span>', "works")
        word = "refused" if key.refused_at else "not used"
        return format_html('<span class="gh-state gh-state-revoked" title="{}">{}</span>', missing.sentence, word)

    @admin.display(description="values")
    def values(self, key: OwnKey) -> str:
        try:
            return ", ".join(own_keys.open_key(key).values)
        except SecretUnavailable as error:
            return error.public_message

    # --- setting

    def get_urls(self) -> Any:
        wrap = self.admin_site.admin_view
        return [
            path("servers/<uuid:server_id>/set/", wrap(self.set_view), name="authflows_ownkey_set"),
            path("<uuid:key_id>/remove/", wrap(self.remove_view), name="authflows_ownkey_remove"),
            *super().get_urls(),
        ]

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Which server, then its form; a list of one is not asked about."""
        servers = _settable(self.scope(request))
        form = ServerChoiceForm(request.GET if "server" in request.GET else None, servers=servers)
        chosen = form.cleaned_data["server"] if form.is_bound and form.is_valid() else None
        if chosen is None and servers.count() == 1:
            chosen = servers.get()
        if chosen is not None:
            return HttpResponseRedirect(reverse("admin:authflows_ownkey_set", args=[chosen.pk]))
        context = {"title": "Set a key for somebody", "form": form, "none": not servers.exists()}
        return self._page(request, "admin/gatehouse/own_key_server.html", context)

    @method_decorator(sensitive_post_parameters())
    def set_view(self, request: HttpRequest, server_id: Any) -> HttpResponse:
        """Set or replace the key of somebody who may use the server."""
        servers = _settable(self.scope(request)).select_related("tenant", "auth_config")
        server = get_object_or_404(servers, pk=server_id)
        posted = request.POST if request.method == "POST" else None
        form = OverrideForm(posted, server=server, initial={"person": request.GET.get("for")})
        if posted is not None and form.is_valid() and (kept := form.keep(actor=request.user)):
            self._say_kept(request, form, kept)
            return HttpResponseRedirect(admin_url(kept.key))
        context = {
            "title": f"Set a key for somebody on {server}",
            "form": form,
            "server": server,
            "server_url": admin_url(server),
            "media": self.media + form.media,
        }
        return self._page(request, "admin/gatehouse/own_key_set.html", context)

    def _say_kept(self, request: HttpRequest, form: OverrideForm, kept: Kept) -> None:
        name = person_label(kept.key.user)
        if kept.tested:
            self.message_user(request, f"Set for {name}: {form.server} accepted it.", messages.SUCCESS)
        else:
            self.message_user(request, f"Set for {name}, untested: {form.server} could not be asked.", messages.WARNING)
        for note in form.notes:
            self.message_user(request, note, messages.INFO)

    def _page(self, request: HttpRequest, template: str, context: dict[str, Any]) -> TemplateResponse:
        shared = {"opts": self.opts, "list_url": admin_url(OwnKey, "changelist")}
        return TemplateResponse(request, template, {**self.admin_site.each_context(request), **shared, **context})

    # --- removing

    @admin.action(description="Remove selected keys…")
    def remove(self, request: HttpRequest, queryset: QuerySet[OwnKey]) -> HttpResponse | None:
        found = list(queryset)
        if "confirmed" not in request.POST:
            return confirm(
                request,
                self,
                title="Remove keys?",
                sentence=_REMOVED,
                items=[*found],
                action="remove",
                button="Remove",
            )
        for key in found:
            own_keys.remove(key, actor=actor_of(request))
        self.message_user(request, f"{len(found)} key{'' if len(found) == 1 else 's'} removed.", messages.SUCCESS)
        return None

    def remove_view(self, request: HttpRequest, key_id: Any) -> HttpResponse:
        """Remove one key; its page asks first."""
        key = get_object_or_404(self.get_queryset(request), pk=key_id)
        if request.method != "POST":
            return HttpResponseRedirect(admin_url(key))
        own_keys.remove(key, actor=actor_of(request))
        self.message_user(request, f"Removed: the key of {person_label(key.user)} for {key.server}.", messages.SUCCESS)
        return HttpResponseRedirect(admin_url(OwnKey, "changelist"))

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        return HttpResponseRedirect(admin_url(get_object_or_404(self.get_queryset(request), pk=object_id)))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        context: dict[str, Any] = dict(extra_context or {})
        key = self.get_object(request, object_id)
        if key is not None and _settable(scope_of_request(request)).filter(pk=key.server_id).exists():
            url = reverse("admin:authflows_ownkey_set", args=[key.server_id])
            context["replace_url"] = f"{url}?for={key.user_id}"
        return super().change_view(request, object_id, form_url, context)


def _settable(scope: Scope) -> QuerySet[Server]:
    return servers_with_overrides(scope.visible_servers()).distinct().order_by("name")
