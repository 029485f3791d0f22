"""Secrets of our own store: named, write-only, and where each is used."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db import transaction
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from servers import audit
from servers.admin.base import TenantsAdmin, actor_of
from servers.forms import SecretForm
from servers.header_auth import uses_of_secrets
from servers.links import admin_url
from servers.models import ModelEndpoint, Server, StoredSecret
from servers.secrets.store import set_secret


@admin.register(StoredSecret)
class StoredSecretAdmin(TenantsAdmin):
    form = SecretForm
    actions_by_event = {"delete": audit.Action.SECRET_DELETE}  # `set_secret` records the others itself
    list_select_related = ("tenant",)
    search_fields = ("group", "key")
    ordering = ("tenant__slug", "group", "key")

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        if lookup.startswith("sealed_value"):
            return False
        return super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        kwargs["form"] = type("SecretForm", (SecretForm,), {"scope": self.scope(request)})
        return super().get_form(request, obj, change, **kwargs)

    def get_fields(self, request: HttpRequest, obj: StoredSecret | None = None) -> Any:
        if obj is not None:
            return ["fqn", "updated_at", "value", "used_by"]
        several = self.scope(request).administered_tenants()[:2].count() > 1
        return [*(["tenant"] if several else []), "group", "key", "value"]

    def get_readonly_fields(self, request: HttpRequest, obj: StoredSecret | None = None) -> tuple[str, ...]:
        return ("fqn", "updated_at", "used_by") if obj is not None else ()

    def get_list_display(self, request: HttpRequest) -> Any:
        uses: dict[str, list[Server | ModelEndpoint]] = {}

        @admin.display(description="used by")
        def used_by(secret: StoredSecret) -> SafeString | str:
            if not uses:
                uses.update(self._uses(request) or {"": []})
            return _links(uses.get(secret.fqn, []))

        return ("fqn", "updated_at", used_by)

    def save_model(self, request: HttpRequest, obj: StoredSecret, form: Any, change: bool) -> None:
        saved = set_secret(
            tenant=obj.tenant,
            group=obj.group,
            key=obj.key,
            value=form.cleaned_data["value"],
            actor=actor_of(request),
        )
        obj.pk = saved.pk
        obj._state.adding = False

    def has_delete_permission(self, request: HttpRequest, obj: StoredSecret | None = None) -> bool:
        return self.has_change_permission(request, obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        listed, counts, missing, protected = super().get_deleted_objects(objs, request)
        uses = self._uses(request)
        for secret in objs:
            names = ", ".join(s.name for s in uses.get(secret.fqn, ()))
            if names:
                protected = [*protected, f"{secret.fqn} is used by {names}. Change those first."]
        return listed, counts, missing, protected

    def delete_model(self, request: HttpRequest, obj: StoredSecret) -> None:
        with transaction.atomic():
            used = self._uses(request).get(obj.fqn, ())
            if used:
                names = ", ".join(s.name for s in used)
                self.message_user(request, f"{obj.fqn} is used by {names}: not deleted.", messages.ERROR)
                return
            super().delete_model(request, obj)

    def _uses(self, request: HttpRequest) -> dict[str, list[Server | ModelEndpoint]]:
        return uses_of_secrets(self.scope(request).administered_tenants())

    @admin.display(description="used by")
    def used_by(self, secret: StoredSecret) -> SafeString | str:
        return _links(uses_of_secrets([secret.tenant]).get(secret.fqn, []))


def _links(servers: list[Server | ModelEndpoint]) -> SafeString | str:
    return format_html_join(", ", '<a href="{}">{}</a>', ((admin_url(s), s.name) for s in servers)) or "nothing"
