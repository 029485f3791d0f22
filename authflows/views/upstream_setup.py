"""Discover and What will happen, on the form of a server: nothing is saved, JSON for scripts and a page for people."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import admin
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.views.decorators.http import require_POST

from authflows.outbound import plan
from authflows.outbound.discovery import Discovered, discover
from authflows.outbound.plan import Line
from servers.admin.server_form_page import server_form, server_of_draft
from servers.destinations import allow_private, check_address
from servers.forms import ServerForm, ServerTestForm
from servers.method_settings import ExchangeSettings
from servers.models import AuthConfig, Server
from servers.oauth_settings import OAuthSettings
from servers.scope import Scope, scope_of_request

Method = AuthConfig.Method
_FILLED: Final = (
    "registration",
    "issuer",
    "authorization_endpoint",
    "token_endpoint",
    "revocation_endpoint",
    "registration_endpoint",
    "userinfo_endpoint",
    "token_endpoint_auth_method",
)
_PINNED: Final = {
    "issuer": "Issuer",
    "authorization_endpoint": "Authorization endpoint",
    "token_endpoint": "Token endpoint",
    "revocation_endpoint": "Revocation endpoint",
    "registration_endpoint": "Registration endpoint",
    "userinfo_endpoint": "Userinfo endpoint",
}


@require_POST
def discover_draft(request: HttpRequest) -> HttpResponse:
    """Ask the server that is typed in how people sign in to it; fills fields, saves nothing."""
    scope = scope_of_request(request)
    server = server_of_draft(request, scope)
    form = server_form(scope, ServerTestForm)(request.POST, instance=server)
    form.is_valid()
    for name in ("url", "ca_certificate"):
        for problem in form.errors.get(name, ()):
            return _answer(request, {"ok": False, "sentence": str(problem), "steps": []})
    url = form.cleaned_data["url"]
    _allow_where_ticked(form, url, request, scope)
    found = discover(
        url,
        ca_certificate=form.cleaned_data.get("ca_certificate", ""),
        has_app=bool(request.POST.get("client_id", "").strip()),
    )
    steps = [{"what": step.what, "outcome": step.outcome} for step in found.steps]
    if not isinstance(found, Discovered):
        return _answer(request, {"ok": False, "sentence": found.sentence, "steps": steps})
    settings = found.settings
    return _answer(
        request,
        {
            "ok": True,
            "sentence": "Read from the server's own metadata. Look it over and save; nothing is saved yet.",
            "steps": steps,
            "notes": list(found.notes),
            "differences": _differences(server, settings),
            "values": {name: getattr(settings, name) for name in _FILLED},
            "switches": {"iss_supported": settings.iss_supported, "discovered": settings.discovered},
            "scopes": " ".join(settings.scopes),
        },
    )


@require_POST
def plan_draft(request: HttpRequest) -> HttpResponse:
    """What the values that are typed in amount to."""
    scope = scope_of_request(request)
    form = server_form(scope, ServerTestForm)(request.POST, instance=server_of_draft(request, scope))
    form.is_valid()
    lines = _lines(form)
    told = [{"what": line.what, "text": line.text, "unusual": line.unusual} for line in lines]
    return _answer(request, {"ok": bool(told), "sentence": _unfinished(form) if not told else "", "plan": told})


def _lines(form: ServerForm) -> list[Line]:
    result, method = form.oauth_result, form.cleaned_data.get("method")
    url = form.cleaned_data.get("url", "")
    if isinstance(result, ExchangeSettings):
        return plan.of_exchange(result, url=url)
    if not isinstance(result, OAuthSettings):
        return []
    if method == Method.CLIENT_CREDENTIALS:
        return plan.of_client_credentials(result, url=url)
    return plan.of_connections(result, url=url)


def _unfinished(form: ServerForm) -> str:
    """The first thing that is missing before anything can be told."""
    if form.chosen_tenant() is None:
        return "Choose a tenant first."
    for name in ("url", *_FILLED, "client_id", "scopes", "authorize_parameters", "token_parameters"):
        for problem in form.errors.get(name, ()):
            return f"{form[name].label}: {problem}"
    return "Choose an authentication type of OAuth2 first."


def _differences(server: Server | None, found: OAuthSettings) -> list[str]:
    """What the metadata says otherwise than what is saved: an admin has to see it before it counts (T21, T22)."""
    config = AuthConfig.objects.filter(server=server, method=Method.OAUTH2).first() if server else None
    if config is None:
        return []
    stored = OAuthSettings.read(config.settings)
    return [
        f"{label}: was {getattr(stored, name) or 'empty'}, now {getattr(found, name) or 'empty'}"
        for name, label in _PINNED.items()
        if getattr(stored, name) != getattr(found, name)
    ]


def _allow_where_ticked(form: ServerForm, url: str, request: HttpRequest, scope: Scope) -> None:
    """A superuser who ticked so allows the server's own private address, as Test connection does; no other."""
    if not (form.cleaned_data.get("allow_private") and scope.superuser):
        return
    check = check_address(url)
    if check.is_private and check.destination is not None:
        name = request.POST.get("name", "").strip() or "new"
        allow_private(check.destination, actor=request.user.get_username(), note=f"MCP server {name}"[:200])


def _answer(request: HttpRequest, found: dict[str, Any]) -> HttpResponse:
    if "application/json" in request.headers.get("accept", ""):
        return JsonResponse(found)
    context = {**admin.site.each_context(request), "title": "Discover", "found": found}
    return TemplateResponse(request, "admin/gatehouse/discovered.html", context)
