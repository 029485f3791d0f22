"""The form of a server: the fields of the chosen authentication type, what is shown beside them, and saving."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.forms import Script
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.timesince import timesince

from servers import health
from servers.admin.base import actor_of
from servers.admin.beside import links_of
from servers.admin.collaborators import CollaboratorsAdmin
from servers.catalogue import reading_now
from servers.destinations import allow_private, check_address
from servers.errors import SecretUnavailable
from servers.forms import NO_AUTH_WARNING, ServerForm
from servers.models import Server
from servers.scope import Scope

_OF_METHODS = (
    "method", "headers", "own_headers", "own_labels", "passthrough_header", "passthrough_audience",
    "passthrough_confirm", "callback_url", "discover", "registration", "client_id", "client_secret", "scopes",
    "exchange_variant", "subject_token_type", "exchange_audience",
)  # fmt: skip
_PROVIDER = (
    "issuer", "authorization_endpoint", "token_endpoint", "revocation_endpoint", "registration_endpoint",
    "userinfo_endpoint", "what_will_happen",
)  # fmt: skip
_QUIRKS = (
    "token_endpoint_auth_method", "authorize_parameters", "token_parameters", "lifetime_seconds", "iss_supported",
    "no_pkce", "no_resource",
)  # fmt: skip
_SHOWN = ("callback_url", "discover", "what_will_happen")


def server_form(scope: Scope, base: type[ServerForm] = ServerForm, **attributes: Any) -> type[ServerForm]:
    """The form bound to what one person may choose."""
    return type(base.__name__, (base,), {"scope": scope, **attributes})


def server_of_draft(request: HttpRequest, scope: Scope) -> Server | None:
    """The saved server that a form's typed-in values are about; None for a new one.

    Raises PermissionDenied and Http404 when the person may do neither. Virtual servers have no such form.
    """
    text = request.POST.get("server_id", "")
    if not text:
        if not scope.may_add_servers:
            raise PermissionDenied
        return None
    try:
        server_id = UUID(text)
    except ValueError as error:
        raise PermissionDenied from error
    found = scope.visible_servers().exclude(kind=Server.Kind.VIRTUAL).select_related("tenant", "group")
    return get_object_or_404(found, pk=server_id)


class ServerFormPage(CollaboratorsAdmin):
    """Mixed into the admin page of servers."""

    change_form_template = "admin/gatehouse/server_form.html"

    class Media:
        js = (
            Script("gatehouse/admin/server-form.js", type="module"),
            Script("gatehouse/admin/copy.js", type="module"),
            Script("gatehouse/admin/server-oauth.js", type="module"),
        )

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        check = getattr(request, "gatehouse_address_check", None)
        kwargs["form"] = server_form(self.scope(request), address_check=check, person_id=request.user.pk)
        return super().get_form(request, obj, change, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Server | None = None) -> Any:
        scope = self.scope(request)
        several = obj is None and scope.tenants_for_new_servers()[:2].count() > 1
        url = ["url", "allow_private"] if scope.superuser else ["url"]
        about = [*(["tenant"] if several else []), "name", "slug", "group", "description", "enabled", "requestable"]
        beside = ["people"] if obj is not None and links_of(obj) else []
        shown = [(None, {"fields": ["gateway_url", "health_line", *beside]})] if obj is not None else []
        return [
            *shown,
            (None, {"fields": about}),
            ("Where it is", {"fields": url}),
            ("Authentication", {"fields": _OF_METHODS, "description": self._warning()}),
            ("Provider", {"fields": _PROVIDER}),
            ("Provider's quirks", {"classes": ["collapse"], "fields": _QUIRKS}),
            ("Protocol", {"classes": ["collapse"], "fields": ["eras_line", "path"] if obj is not None else ["path"]}),
            (
                "Limits, TLS and headers",
                {
                    "classes": ["collapse"],
                    "fields": [
                        "connect_timeout", "response_timeout", "max_request_bytes", "ca_certificate",
                        "static_headers", "allowed_request_headers",
                    ],
                },
            ),
        ]  # fmt: skip

    @staticmethod
    def _warning() -> SafeString:
        return format_html('<p class="gh-warning" data-for-methods="none">{}</p>', NO_AUTH_WARNING)

    def get_readonly_fields(self, request: HttpRequest, obj: Server | None = None) -> tuple[str, ...]:
        return (*(("gateway_url", "health_line", "people", "eras_line") if obj is not None else ()), *_SHOWN)

    def get_prepopulated_fields(self, request: HttpRequest, obj: Server | None = None) -> Any:
        return {} if obj is not None else {"slug": ("name",)}

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        if request.method == "POST" and self._may_post(request, object_id):
            # Before the transaction of the form begins: the DNS may be slow.
            url = request.POST.get("url", "").strip()
            request.gatehouse_address_check = check_address(url)  # type: ignore[attr-defined]
        context = {
            "test_url": _url_of("test-connection-draft"),
            "server_id": object_id or "",
            "tested": request.POST.get(health.NOTE_FIELD, ""),
            **(extra_context or {}),
        }
        return super().changeform_view(request, object_id, form_url, context)

    def _may_post(self, request: HttpRequest, object_id: str | None) -> bool:
        if object_id is None:
            return self.has_add_permission(request)
        stored = self.get_object(request, unquote(object_id))
        return stored is not None and stored.url != request.POST.get("url", "").strip()

    # --- saving

    def save_model(self, request: HttpRequest, obj: Server, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if form.cleaned_data.get("allow_private") and self.scope(request).superuser:
            check = getattr(request, "gatehouse_address_check", None)
            if check is not None and check.url == obj.url and check.is_private and check.destination:
                row = allow_private(check.destination, actor=actor_of(request), note=f"MCP server {obj.name}"[:200])
                self.message_user(request, f"The gateway may now call {row}.")
        form.save_authentication(obj, actor=actor_of(request))
        self._keep_test(request, obj, form)

    @staticmethod
    def _keep_test(request: HttpRequest, server: Server, form: ServerForm) -> None:
        """What Test connection said of these very values before they were saved is the server's health."""
        note = request.POST.get(health.NOTE_FIELD, "")
        if not note:
            return
        try:
            digest = form.connection_digest()
        except SecretUnavailable:
            return
        tested = health.read_note(note, user_id=request.user.pk, values_digest=digest)
        if tested is not None:
            health.keep(server, tested)
            if tested.ok:
                actor = actor_of(request)
                transaction.on_commit(lambda: reading_now.read_saved(server.pk, actor=actor), robust=True)

    # --- what is shown between the fields

    @admin.display(description="health", ordering="health")
    def health_shown(self, server: Server) -> SafeString | str:
        if server.is_virtual:
            return ""
        ago = f" {timesince(server.health_at, timezone.now(), depth=1)} ago" if server.health_at else ""
        return format_html(
            '<span class="gh-health gh-health-{}">{}</span><span class="gh-ago">{}</span>',
            server.health,
            server.get_health_display(),
            ago,
        )

    @admin.display(description="health")
    def health_line(self, server: Server) -> SafeString:
        sentence, shown = str(server.health_detail.get("sentence", "")), format_html("{}", self.health_shown(server))
        return format_html("{}<br>{}", shown, sentence) if sentence else shown

    @admin.display(description="speaks")
    def eras_line(self, server: Server) -> str:
        if not server.eras or server.eras_at is None:
            return "Not known yet: a test of the connection tells, or the first client that needs to know."
        versions = f", {', '.join(server.versions)}" if server.versions else ""
        return (
            f"{server.get_eras_display()}{versions}; found out {timesince(server.eras_at, timezone.now(), depth=1)} ago"
        )

    @admin.display(description="people")
    def people(self, server: Server) -> SafeString:
        return format_html_join(" · ", '<a href="{}">{}</a>', ((link.url, link.text) for link in links_of(server)))

    @admin.display(description="MCP URL for clients")
    def gateway_url(self, server: Server) -> SafeString:
        return format_html("<code>{}</code>", server.mcp_url)

    @admin.display(description="Callback URL")
    def callback_url(self, server: Server | None) -> SafeString:
        return format_html(
            '<div data-for-methods="oauth2"><code id="gh-callback-url">{}</code> '
            '<button type="button" class="button gh-small" data-copy="gh-callback-url" hidden>Copy</button>'
            '<p class="gh-note">Enter it at the provider, where the app is made.</p></div>',
            f"{settings.PUBLIC_URL}{_url_of('oauth2-callback')}",
        )

    @admin.display(description="Discover")
    def discover(self, server: Server | None) -> SafeString:
        return format_html(
            '<div data-for-methods="oauth2 client_credentials" id="gh-discover" data-url="{0}">'
            '<button type="button" class="button gh-small" hidden>Discover</button>'
            '<noscript><button type="submit" class="button" formaction="{0}">Discover</button></noscript>'
            '<p class="gh-note">Reads the server\'s own metadata and fills in the fields. Nothing is saved.</p>'
            '<div role="status" aria-live="polite"></div></div>',
            _url_of("discover-draft"),
        )

    @admin.display(description="What will happen")
    def what_will_happen(self, server: Server | None) -> SafeString:
        return format_html(
            '<div data-for-methods="oauth2 client_credentials token_exchange" id="gh-plan" data-url="{0}">'
            '<noscript><button type="submit" class="button" formaction="{0}">Show</button></noscript>'
            '<div role="status" aria-live="polite"></div></div>',
            _url_of("plan-draft"),
        )


def _url_of(name: str) -> str:
    try:
        return reverse(name)
    except NoReverseMatch:  # the pages of that package are not served here
        return ""
