"""Admin pages of API keys and virtual accounts. Who sees what: `servers.scope`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from authflows.forms import AccountKeyForm, VirtualAccountForm
from authflows.inbound.api_keys import create_key, revoke_key
from authflows.inbound.virtual_accounts import create_virtual_account, delete_virtual_account
from authflows.models import ApiKey, VirtualAccount
from servers import audit
from servers.admin import endings
from servers.admin.base import ReadOnlyAdmin, TenantsAdmin, actor_of, confirm
from servers.links import admin_url
from servers.models import AccessRule, Membership, Server
from servers.people import person_label
from servers.rule_texts import role_text
from servers.scope import Scope


@endings.register
def keys_limited_to(servers: Iterable[Server]) -> list[str]:
    """A line for each live key that is limited to one of these servers."""
    keys = ApiKey.objects.filter(servers__in=list(servers), revoked_at__isnull=True).select_related("owner").distinct()
    return [f"API key {key} of {person_label(key.owner)} is limited to it" for key in keys]


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin):
    """Everybody's keys: look and revoke. People make their own keys on their own page."""

    list_display = ("name", "prefix", "owner_label", "state_shown", "expires_at", "last_used_at", "created_at")
    list_select_related = ("owner",)
    search_fields = ("name", "prefix", "owner__username")
    search_help_text = "Name, prefix or owner."
    fields = (
        "name", "prefix", "owner_label", "state_shown", "limits", "expires_at", "last_used_at", "created_at",
        "revoked_at",
    )  # fmt: skip
    readonly_fields = ("owner_label", "state_shown", "limits")
    actions = ["revoke"]
    change_form_template = "admin/gatehouse/api_key.html"

    def has_view_permission(self, request: HttpRequest, obj: ApiKey | None = None) -> bool:
        scope = self.scope(request)
        if obj is None:
            return scope.superuser or bool(scope.tenants)
        return scope.superuser or keys_of(scope).filter(pk=obj.pk).exists()

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiKey]:
        return keys_of(self.scope(request)).select_related("owner")

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        if lookup.startswith("digest"):
            return False
        return super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]

    @admin.display(description="owner", ordering="owner__username")
    def owner_label(self, key: ApiKey) -> str:
        return person_label(key.owner)

    @admin.display(description="state")
    def state_shown(self, key: ApiKey) -> SafeString:
        return format_html('<span class="gh-state gh-state-{0}">{0}</span>', key.state())

    @admin.display(description="limited to")
    def limits(self, key: ApiKey) -> str:
        if not key.limited:
            return "every server that its owner may use"
        return ", ".join(key.servers.values_list("name", flat=True)) or "no server (those it was for are gone)"

    @admin.action(description="Revoke selected API keys…")
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> HttpResponse | None:
        keys = [key for key in queryset if key.revoked_at is None]
        if "confirmed" not in request.POST:
            return confirm(
                request,
                self,
                title="Revoke API keys?",
                sentence="Whatever uses these keys is refused from now on, in running sessions too. A revoked key "
                "cannot be brought back.",
                items=[*keys],
                action="revoke",
                button="Revoke",
            )
        for key in keys:
            revoke_key(key, actor=actor_of(request))
        self.message_user(request, f"{len(keys)} API key{'s' if len(keys) != 1 else ''} revoked.", messages.SUCCESS)
        return None

    def get_urls(self) -> Any:
        revoke = self.admin_site.admin_view(self.revoke_view)
        return [path("<uuid:key_id>/revoke/", revoke, name="authflows_apikey_revoke"), *super().get_urls()]

    def revoke_view(self, request: HttpRequest, key_id: Any) -> HttpResponse:
        """Revoke one key; the page of the key asks first."""
        key = get_object_or_404(self.get_queryset(request), pk=key_id)
        if request.method != "POST":
            return HttpResponseRedirect(admin_url(key))
        revoke_key(key, actor=actor_of(request))
        self.message_user(request, f"{key} is revoked.", messages.SUCCESS)
        account = VirtualAccount.objects.filter(user=key.owner_id).first()
        return HttpResponseRedirect(admin_url(account) if account else admin_url(key))


def keys_of(scope: Scope) -> QuerySet[ApiKey]:
    """The keys that a person may revoke: all, or those of people who belong to the person's tenants alone."""
    if scope.superuser:
        return ApiKey.objects.all()
    elsewhere = Membership.objects.exclude(tenant__in=scope.tenants).values("user")
    inside = Membership.objects.filter(tenant__in=scope.tenants).values("user")
    return ApiKey.objects.filter(owner__in=inside).exclude(owner__in=elsewhere).exclude(owner__is_superuser=True)


@admin.register(VirtualAccount)
class VirtualAccountAdmin(TenantsAdmin):
    """Programs: identity, keys, and where they are collaborators."""

    actions_by_event = {"change": audit.Action.VIRTUAL_ACCOUNT_CHANGE}
    list_display = ("name", "tenant", "enabled", "description", "created_at")
    list_select_related = ("tenant",)
    list_filter = ("enabled",)
    search_fields = ("name", "description")
    change_form_template = "admin/gatehouse/virtual_account.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[VirtualAccount]:
        return super().get_queryset(request).select_related("tenant", "user")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        kwargs["form"] = type("VirtualAccountForm", (VirtualAccountForm,), {"scope": self.scope(request)})
        return super().get_form(request, obj, change, **kwargs)

    def get_fields(self, request: HttpRequest, obj: VirtualAccount | None = None) -> Any:
        if obj is not None:
            return ["name", "tenant", "description", "enabled"]
        several = self.scope(request).administered_tenants()[:2].count() > 1
        return [*(["tenant"] if several else []), "name", "description"]

    def get_readonly_fields(self, request: HttpRequest, obj: VirtualAccount | None = None) -> tuple[str, ...]:
        return ("name", "tenant") if obj is not None else ()

    def save_model(self, request: HttpRequest, obj: VirtualAccount, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)
            return
        made = create_virtual_account(obj.tenant, name=obj.name, description=obj.description, actor=actor_of(request))
        obj.pk, obj.user = made.pk, made.user
        obj._state.adding = False

    def response_add(self, request: HttpRequest, obj: VirtualAccount, post_url_continue: Any = None) -> HttpResponse:
        self.message_user(request, f"Virtual account {obj} is made. Make a key for it, and give it access.")
        return HttpResponseRedirect(admin_url(obj))

    def delete_model(self, request: HttpRequest, obj: VirtualAccount) -> None:
        delete_virtual_account(obj, actor=actor_of(request))

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        lines: list[Any] = []
        keys, rules = 0, 0
        for account in objs:
            lines.append(f"Virtual account {account}")
            live = ApiKey.objects.filter(owner=account.user_id, revoked_at__isnull=True)
            lines += [f"API key {key}: refused from now on" for key in live]
            held = AccessRule.objects.filter(user=account.user_id).select_related("server", "group", "user")
            lines += [f"Access to {rule.server or rule.group}, as {role_text(rule)}" for rule in held]
            keys, rules = keys + len(live), rules + len(held)
        counts = {"virtual accounts": len(objs), "API keys": keys, "collaborators": rules}
        return lines, counts, set(), []

    # --- keys

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        account = self.get_object(request, object_id)
        context: dict[str, Any] = dict(extra_context or {})
        if account is not None and self.has_change_permission(request, account):
            context["keys"] = list(ApiKey.objects.filter(owner=account.user).order_by("-created_at"))
            context["access"] = self._access(account)
        return super().change_view(request, object_id, form_url, context)

    @staticmethod
    def _access(account: VirtualAccount) -> SafeString:
        rules = AccessRule.objects.filter(user=account.user).select_related("server", "group")
        rows = [(admin_url(h), str(h), role_text(r)) for r in rules if (h := r.server or r.group)]
        return format_html_join("", '<li><a href="{}">{}</a>, as {}</li>', rows)

    def get_urls(self) -> Any:
        add = self.admin_site.admin_view(self.add_key_view)
        return [path("<uuid:account_id>/keys/add/", add, name="authflows_virtualaccount_add_key"), *super().get_urls()]

    def add_key_view(self, request: HttpRequest, account_id: Any) -> HttpResponse:
        """Make a key; its text is on the answer to this POST and nowhere else."""
        account = get_object_or_404(self.get_queryset(request), pk=account_id)
        if not self.has_change_permission(request, account):
            raise PermissionDenied
        form = AccountKeyForm(request.POST or None, tenant=account.tenant)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "account": account,
            "account_url": admin_url(account),
            "title": f"Add API key for {account}",
            "form": form,
            "media": self.media + form.media,
        }
        template = "admin/gatehouse/add_key.html"
        if request.method == "POST" and form.is_valid():
            data = form.cleaned_data
            key, context["token"] = create_key(
                owner=account.user,
                name=data["name"],
                actor=actor_of(request),
                servers=list(data["servers"]) or None,
                expires_at=data["expires_at"],
            )
            context |= {"key": key, "title": "API key made"}
            template = "admin/gatehouse/key_made.html"
        response = TemplateResponse(request, template, context)
        response["Cache-Control"] = "no-store"
        return response
