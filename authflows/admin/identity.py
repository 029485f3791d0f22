"""Admin pages of identity providers, and of who signs in by them. Who sees what: `servers.scope`."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.forms import Script
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from authflows.inbound.identity import my_identities, provider_check, sso, sso_preview
from authflows.inbound.identity.provider_secrets import forget_client_secret, store_client_secret
from authflows.inbound.identity.sso import Purpose
from authflows.inbound.identity.sso_presets import PRESETS
from authflows.models import AccountMapping, Identity, IdentityProvider, TeamMapping, VirtualAccount
from authflows.provider_forms import IdentityForm, IdentityProviderForm, discovery_for
from authflows.views.sso import to_provider
from servers import audit
from servers.admin.base import AuditedAdmin, actor_of
from servers.admin.people import PersonAdmin
from servers.links import admin_url
from servers.models import Membership
from servers.people import person_label, teams_of
from servers.scope import Scope, scope_of_request
from servers.secrets.references import references_in

_MAPPING_FIELDS = {TeamMapping: "team mappings", AccountMapping: "virtual account mappings"}


def providers_of(scope: Scope) -> QuerySet[IdentityProvider]:
    """The providers that a person administers."""
    if scope.superuser:
        return IdentityProvider.objects.all()
    return IdentityProvider.objects.filter(tenant__in=scope.tenants, vouches_for_all=False)


class _MappingInline(admin.TabularInline):  # type: ignore[type-arg]
    """Open to whoever may change the provider."""

    extra = 0

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True


class TeamMappingInline(_MappingInline):
    """Groups at the provider that mean teams here."""

    model = TeamMapping
    verbose_name_plural = "groups that mean teams"

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "team":
            kwargs["queryset"] = teams_of(scope_of_request(request), Group.objects.order_by("name"))
        return super().formfield_for_foreignkey(db_field, request, **kwargs)


class AccountMappingInline(_MappingInline):
    """Claims of JWTs that mean virtual accounts here."""

    model = AccountMapping
    verbose_name_plural = "JWTs that mean virtual accounts"

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "virtual_account":
            scope = scope_of_request(request)
            accounts = VirtualAccount.objects.select_related("tenant")
            kwargs["queryset"] = accounts if scope.superuser else accounts.filter(tenant__in=scope.tenants)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)


@admin.register(IdentityProvider)
class IdentityProviderAdmin(AuditedAdmin):
    """Providers: for signing in, for JWTs, or both. One that the settings declare is shown and not changed."""

    actions_by_event = {
        "create": audit.Action.IDENTITY_PROVIDER_CREATE,
        "change": audit.Action.IDENTITY_PROVIDER_CHANGE,
        "delete": audit.Action.IDENTITY_PROVIDER_DELETE,
    }
    list_display = ("name", "preset", "issuer", "enabled", "sign_in", "accept_tokens", "people_total", "made_by")
    list_select_related = ("tenant",)
    search_fields = ("name", "slug", "issuer")
    change_form_template = "admin/gatehouse/identity_provider.html"
    inlines = (TeamMappingInline, AccountMappingInline)

    class Media:
        js = (Script("gatehouse/admin/provider-form.js", type="module"),)

    # --- who may what

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.scope(request).may_add_groups

    def has_change_permission(self, request: HttpRequest, obj: IdentityProvider | None = None) -> bool:
        scope = self.scope(request)
        if obj is None:
            return scope.superuser or bool(scope.tenants)
        return sso_preview.may_administer(scope, obj)

    def has_delete_permission(self, request: HttpRequest, obj: IdentityProvider | None = None) -> bool:
        return self.has_change_permission(request, obj) and not (obj is not None and obj.managed)

    def get_queryset(self, request: HttpRequest) -> QuerySet[IdentityProvider]:
        return providers_of(self.scope(request)).select_related("tenant")

    # --- the list

    @admin.display(description="people")
    def people_total(self, provider: IdentityProvider) -> int:
        return Identity.objects.filter(provider=provider.slug).count()

    @admin.display(description="set by")
    def made_by(self, provider: IdentityProvider) -> str:
        return "the operator's settings" if provider.managed else "an admin"

    # --- the form

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        attributes = {"scope": self.scope(request), "discovery": getattr(request, "gatehouse_discovery", None)}
        kwargs["form"] = type("IdentityProviderForm", (IdentityProviderForm,), attributes)
        if obj is not None and obj.managed:
            kwargs["fields"] = ()
        return super().get_form(request, obj, change, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: IdentityProvider | None = None) -> Any:
        scope = self.scope(request)
        several = obj is None and scope.administered_tenants()[:2].count() > 1
        managed = obj is not None and obj.managed
        secret = "secret_shown" if managed else "secret"
        about = ["preset", *(["tenant"] if several else []), "name", "slug", "issuer", "enabled"]
        return [
            (None, {"fields": about}),
            ("Signing in", {"fields": ["sign_in", "client_id", secret, "extra_scopes"]}),
            (
                "People and teams",
                {
                    "fields": [
                        "creation", "allowed_domains", "allowed_groups", "username_claim", "groups_claim",
                        *(["vouches_for_all"] if scope.superuser else []),
                    ],
                },
            ),
            (
                "JWTs in requests",
                {"fields": ["accept_tokens", "audiences", "jwks_url", "algorithms"], "classes": ["gh-jwt"]},
            ),
        ]  # fmt: skip

    def get_readonly_fields(self, request: HttpRequest, obj: IdentityProvider | None = None) -> Any:
        if obj is None:
            return ()
        if not obj.managed:
            return ("slug",)
        return (*(name for name in IdentityProviderForm.Meta.fields if name != "tenant"), "secret_shown")

    def get_prepopulated_fields(self, request: HttpRequest, obj: IdentityProvider | None = None) -> Any:
        return {} if obj is not None else {"slug": ("name",)}

    @admin.display(description="client secret")
    def secret_shown(self, provider: IdentityProvider) -> str:
        return "in the operator's settings"

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        stored = self.get_object(request, object_id) if object_id else None
        may = self.has_change_permission(request, stored) if stored else self.has_add_permission(request)
        if request.method == "POST" and may and not (stored and stored.managed):
            # Before the transaction of the form begins: the provider may be slow.
            request.gatehouse_discovery = discovery_for(request.POST, stored)  # type: ignore[attr-defined]
        pattern = IdentityProvider(slug=stored.slug if stored else "SLUG")
        context = {
            "presets": [(kind, preset) for kind, preset in PRESETS.items()],
            "chosen_preset": stored.preset if stored else request.POST.get("preset", IdentityProvider.Preset.OIDC),
            "redirect_uri": sso.redirect_uri(pattern).replace("SLUG", "<slug>"),
            **(extra_context or {}),
        }
        return super().changeform_view(request, object_id, form_url, context)

    # --- saving

    def save_model(self, request: HttpRequest, obj: IdentityProvider, form: Any, change: bool) -> None:
        value = form.cleaned_data.get("secret", "")
        if value and references_in(value):
            obj.client_secret = value
        elif value:
            obj.client_secret = store_client_secret(obj, value, actor=actor_of(request))
        super().save_model(request, obj, form, change)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        changed = formset.has_changed()
        super().save_formset(request, form, formset, change)
        if changed and change:
            self.record(request, "change", form.instance, {"fields": [_MAPPING_FIELDS[formset.model]]})

    # --- deleting

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        lines: list[Any] = []
        total = 0
        for provider in objs:
            lines.append(f"Identity provider {provider}")
            for identity in Identity.objects.filter(provider=provider.slug).select_related("user"):
                lines.append(f"{person_label(identity.user)} signs in with it ({identity.uid}) and cannot any more")
                total += 1
            lines += [f"Group {mapping}: memberships stay as they are" for mapping in provider.team_mappings.all()]
            lines += [f"JWTs with {mapping} are refused" for mapping in provider.account_mappings.all()]
        return lines, {"identity providers": len(objs), "sign-in identities": total}, set(), []

    def delete_model(self, request: HttpRequest, obj: IdentityProvider) -> None:
        with transaction.atomic():
            for identity in Identity.objects.filter(provider=obj.slug):
                identity.delete()
            forget_client_secret(obj, actor=actor_of(request))
            super().delete_model(request, obj)

    # --- Check and Test

    def get_urls(self) -> Any:
        view = self.admin_site.admin_view
        return [
            path("<uuid:provider_id>/check/", view(self.check_view), name="authflows_identityprovider_check"),
            path("<uuid:provider_id>/test/", view(self.test_view), name="authflows_identityprovider_test"),
            *super().get_urls(),
        ]

    def check_view(self, request: HttpRequest, provider_id: Any) -> HttpResponse:
        """Ask the provider for its description and keys, and show what was found."""
        provider = self._administered(request, provider_id)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"Check of {provider}",
            "provider": provider,
            "check": provider_check.check(provider),
            "redirect_uri": sso.redirect_uri(provider),
        }
        return TemplateResponse(request, "admin/gatehouse/sso_check.html", context)

    def test_view(self, request: HttpRequest, provider_id: Any) -> HttpResponse:
        """Send the admin's browser there; what comes back is only shown. A link, as every way to a provider."""
        return to_provider(request, self._administered(request, provider_id), purpose=Purpose.TEST)

    def _administered(self, request: HttpRequest, provider_id: Any) -> IdentityProvider:
        provider = get_object_or_404(self.get_queryset(request), pk=provider_id)
        if not self.has_change_permission(request, provider):
            raise PermissionDenied
        return provider


@admin.register(Identity)
class IdentityAdmin(AuditedAdmin):
    """Who signs in by which provider. Added here by an admin, or by the person, or at the first sign-in."""

    list_display = ("person", "provider", "uid", "created")
    list_select_related = ("user",)
    search_fields = ("user__username", "uid", "provider")
    search_help_text = "User name, subject or provider."
    fields = ("user", "provider", "uid")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.scope(request).may_add_groups and providers_of(self.scope(request)).exists()

    def has_change_permission(self, request: HttpRequest, obj: Identity | None = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Identity | None = None) -> bool:
        scope = self.scope(request)
        if obj is None:
            return scope.superuser or bool(scope.tenants)
        return self.get_queryset(request).filter(pk=obj.pk).exists()

    def has_delete_permission(self, request: HttpRequest, obj: Identity | None = None) -> bool:
        return self.has_view_permission(request, obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Identity]:
        scope = self.scope(request)
        found: QuerySet[Identity] = super().get_queryset(request).select_related("user").order_by("user__username")
        if scope.superuser:
            return found
        found = found.filter(provider__in=providers_of(scope).values("slug"), user__is_superuser=False)
        return found.exclude(user__memberships__in=Membership.objects.exclude(tenant__in=scope.tenants))

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is None:
            scope = self.scope(request)
            attributes = {"scope": scope, "providers": list(providers_of(scope).select_related("tenant"))}
            kwargs["form"] = type("IdentityForm", (IdentityForm,), attributes)
        return super().get_form(request, obj, change, **kwargs)

    def save_model(self, request: HttpRequest, obj: Identity, form: Any, change: bool) -> None:
        provider = next(p for p in form.providers if p.slug == obj.provider)
        added = my_identities.add(obj.user, provider, obj.uid, actor=actor_of(request))
        if added is None:
            raise PermissionDenied("This subject signs somebody in already.")
        obj.pk = added.pk
        obj._state.adding = False

    def delete_model(self, request: HttpRequest, obj: Identity) -> None:
        my_identities.remove(obj, actor=actor_of(request))

    @admin.display(description="person", ordering="user__username")
    def person(self, identity: Identity) -> str:
        return person_label(identity.user)


class PersonWithIdentitiesAdmin(PersonAdmin):
    """The person's page, with the identities that this package knows of."""

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return (*super().get_readonly_fields(request, obj), "identities")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        found = super().get_fieldsets(request, obj)
        return found if obj is None else (*found, ("Single sign-on", {"fields": ("identities",)}))

    @admin.display(description="signs in by")
    def identities(self, person: Any) -> SafeString | str:
        found = Identity.objects.filter(user=person).order_by("provider", "uid")
        return format_html_join(", ", '<a href="{}">{}</a>', ((admin_url(i), str(i)) for i in found)) or "password only"


admin.site.unregister(get_user_model())
admin.site.register(get_user_model(), PersonWithIdentitiesAdmin)
