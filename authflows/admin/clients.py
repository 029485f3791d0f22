"""Admin pages of OAuth clients and of what clients may register. Superusers only: clients belong to no tenant."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count, Max, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from authflows.client_forms import ClientForm, HandMadeClientForm, NewClientForm, RegistrationPolicyForm
from authflows.inbound.oauth import hand_made_clients, redirect_uris
from authflows.models import Approval, OAuthClient, RegistrationPolicy
from servers import audit
from servers.admin.base import AuditedAdmin, actor_of
from servers.links import admin_url
from servers.people import person_label

_SHOWN_APPROVALS = 50
_LONGEST_LABEL = 40
_KINDS = {"dcr": "registered itself", "cimd": "metadata document", "manual": "added by hand"}


class KindFilter(admin.SimpleListFilter):
    """How a client became known."""

    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(_KINDS.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(registration_source=self.value()) if self.value() else queryset


@admin.register(OAuthClient)
class OAuthClientAdmin(AuditedAdmin):
    """Programs that ask people to let them in: look, vouch for, switch off, make by hand, delete."""

    actions_by_event = {"change": audit.Action.CLIENT_CHANGE, "delete": audit.Action.CLIENT_DELETE}
    list_display = ("label", "kind", "redirect_hosts", "verified", "enabled", "approval_count", "used_at")
    list_filter = (KindFilter, "verified", "enabled")
    search_fields = ("name", "client_id", "redirect_uris")
    search_help_text = "Name, client id or redirect URI."
    change_form_template = "admin/gatehouse/oauth_client.html"
    view_on_site = False  # the library's page of a client is not served

    def get_queryset(self, request: HttpRequest) -> QuerySet[OAuthClient]:
        found: QuerySet[OAuthClient] = (
            super()
            .get_queryset(request)
            .annotate(approvals_found=Count("approvals"), approval_used_at=Max("approvals__last_used_at"))
        )
        return found

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        if lookup.startswith("client_secret"):
            return False
        return super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]

    # --- columns

    @admin.display(description="name", ordering="name")
    def label(self, client: OAuthClient) -> str:
        return Truncator(str(client)).chars(_LONGEST_LABEL)

    @admin.display(description="kind", ordering="registration_source")
    def kind(self, client: OAuthClient) -> str:
        words, host = _KINDS.get(client.registration_source or "", ""), client.metadata_host
        return f"{words} of {host}" if host else words

    @admin.display(description="answers go to")
    def redirect_hosts(self, client: OAuthClient) -> str:
        hosts = dict.fromkeys(redirect_uris.shown_host(uri) for uri in client.redirect_uris.split())
        return ", ".join(list(hosts)[:5]) + (" …" if len(hosts) > 5 else "")

    @admin.display(description="approvals", ordering="approvals_found")
    def approval_count(self, client: OAuthClient) -> int:
        return int(getattr(client, "approvals_found", 0))

    @admin.display(description="last used", ordering="approval_used_at")
    def used_at(self, client: OAuthClient) -> str:
        found = [at for at in (getattr(client, "approval_used_at", None), client.last_used_at) if at is not None]
        return date_format(max(found), "DATETIME_FORMAT") if found else "never"

    # --- the form

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is None:
            kwargs["form"] = NewClientForm
        else:
            kwargs["form"] = HandMadeClientForm if _by_hand(obj) else ClientForm
        return super().get_form(request, obj, change, **kwargs)

    def get_fields(self, request: HttpRequest, obj: OAuthClient | None = None) -> Any:
        if obj is None:
            return ["name", "redirect_uris", "client_type", "verified"]
        uris = "redirect_uris" if _by_hand(obj) else "redirect_uris_shown"
        return ["name", "verified", "enabled", "kind", "client_id", "secrecy", uris, "created", "used_at"]

    def get_readonly_fields(self, request: HttpRequest, obj: OAuthClient | None = None) -> tuple[str, ...]:
        if obj is None:
            return ()
        name = () if _by_hand(obj) else ("name",)
        return (*name, "kind", "client_id", "secrecy", "redirect_uris_shown", "created", "used_at")

    @admin.display(description="redirect URIs")
    def redirect_uris_shown(self, client: OAuthClient) -> SafeString:
        return format_html_join("", "<code>{}</code><br>", ((uri,) for uri in client.redirect_uris.split()))

    @admin.display(description="secret")
    def secrecy(self, client: OAuthClient) -> str:
        if client.client_type == OAuthClient.CLIENT_PUBLIC:
            return "none: a public client"
        return "set; it is stored as a hash and cannot be shown"

    def save_model(self, request: HttpRequest, obj: OAuthClient, form: Any, change: bool) -> None:
        if change:
            obj.save()
            return
        data = form.cleaned_data
        made, secret = hand_made_clients.create(
            name=data["name"],
            redirect_uris=data["redirect_uris"],
            confidential=data["client_type"] == OAuthClient.CLIENT_CONFIDENTIAL,
            verified=data["verified"],
            actor=actor_of(request),
        )
        obj.__dict__.update(made.__dict__)
        request.gatehouse_client_secret = secret  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: OAuthClient, post_url_continue: Any = None) -> HttpResponse:
        secret = getattr(request, "gatehouse_client_secret", "")
        if secret:
            return self._show_secret(request, obj, secret)
        self.message_user(request, f"{obj} is made. Its client id is {obj.client_id}.")
        return HttpResponseRedirect(admin_url(obj))

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        client = self.get_object(request, unquote(object_id))
        context: dict[str, Any] = dict(extra_context or {})
        if client is not None and self.has_change_permission(request, client):
            found = Approval.objects.filter(client=client).select_related("user", "server__tenant")
            context["approvals"] = [(one, person_label(one.user)) for one in found[:_SHOWN_APPROVALS]]
            context["approval_count"] = self.approval_count(client)
            context["may_have_secret"] = client.client_type == OAuthClient.CLIENT_CONFIDENTIAL
        return super().change_view(request, object_id, form_url, context)

    # --- the secret: on one answer and nowhere else

    def get_urls(self) -> Any:
        view = self.admin_site.admin_view(self.new_secret_view)
        return [path("<int:client_id>/secret/", view, name="authflows_oauthclient_secret"), *super().get_urls()]

    def new_secret_view(self, request: HttpRequest, client_id: int) -> HttpResponse:
        """Replace the secret of a confidential client; the page of the client asks first."""
        client = get_object_or_404(OAuthClient, pk=client_id)
        if not self.has_change_permission(request, client):
            raise PermissionDenied
        if request.method != "POST" or client.client_type != OAuthClient.CLIENT_CONFIDENTIAL:
            return HttpResponseRedirect(admin_url(client))
        return self._show_secret(request, client, hand_made_clients.new_secret(client, actor=actor_of(request)))

    def _show_secret(self, request: HttpRequest, client: OAuthClient, secret: str) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Client secret",
            "client": client,
            "client_url": admin_url(client),
            "secret": secret,
        }
        response = TemplateResponse(request, "admin/gatehouse/client_secret.html", context)
        response["Cache-Control"] = "no-store"
        return response

    # --- deleting

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        clients = list(objs)
        found = Approval.objects.filter(client__in=clients).select_related("user", "server", "client")
        total = found.count()
        lines = [format_html("OAuth client {}", client) for client in clients]
        lines += [
            format_html("Approval of {} for {} on {}: refused from now on", person_label(a.user), a.client, a.opens)
            for a in found[:_SHOWN_APPROVALS]
        ]
        if total > _SHOWN_APPROVALS:
            lines.append(format_html("and {} more approvals", total - _SHOWN_APPROVALS))
        return lines, {"OAuth clients": len(clients), "approvals": total}, set(), []

    def what_ends(self, obj: OAuthClient) -> dict[str, Any]:
        return {"client": obj.client_id, "approvals": obj.approvals.count()}


@admin.register(RegistrationPolicy)
class RegistrationPolicyAdmin(AuditedAdmin):
    """The one row that says how clients may make themselves known."""

    actions_by_event = {"change": audit.Action.REGISTRATION_POLICY_CHANGE}
    form = RegistrationPolicyForm
    fieldsets = (
        ("Clients that register themselves", {"fields": ("dynamic_registration", "registrations_per_hour")}),
        ("Clients with a metadata document", {"fields": ("metadata_documents", "metadata_hosts")}),
        ("For both", {"fields": ("private_redirect_uris", "most_unused_clients", "unused_days")}),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_change_permission(request):
            raise PermissionDenied
        with transaction.atomic():
            policy, _ = RegistrationPolicy.objects.get_or_create(id=1)
        return HttpResponseRedirect(admin_url(policy))

    def response_change(self, request: HttpRequest, obj: RegistrationPolicy) -> HttpResponse:
        self.message_user(request, "The registration policy is saved. It holds from now on.", messages.SUCCESS)
        return HttpResponseRedirect(admin_url(obj))


def _by_hand(client: OAuthClient) -> bool:
    return bool(client.registration_source == OAuthClient.RegistrationSource.MANUAL)
