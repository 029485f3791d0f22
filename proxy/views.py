"""The pages and answers of Test connection: for values not saved yet, for one server, for several."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.http import require_POST

from authflows.outbound.credentials import METHODS, shared_headers
from authflows.outbound.tester_credentials import NothingToTestWith, headers_for
from proxy.probe import ProbeResult, Target, probe, probe_all
from proxy.probe_http import Step
from servers import audit, health
from servers.admin.servers import server_form
from servers.destinations import allow_private
from servers.egress import parse_destination
from servers.errors import DestinationRefused, SecretUnavailable
from servers.forms import ServerForm, ServerTestForm
from servers.header_auth import same_origin
from servers.links import admin_url
from servers.models import AuthConfig, Server
from servers.scope import Scope, scope_of_request

MOST_AT_ONCE: Final = 50
# What a test needs; errors in other fields of an unfinished form do not stand in its way.
_NEEDED: Final = ("url", "method", "headers", "static_headers", "ca_certificate", "connect_timeout", "tenant")


@dataclass(frozen=True)
class Row:
    """One line of the results page."""

    name: str
    url: str
    result: ProbeResult


@require_POST
def test_draft(request: HttpRequest) -> HttpResponse:
    """Test the values of the form as they are typed. Answers JSON to scripts and a page to people."""
    scope = scope_of_request(request)
    server = _server_of(request, scope)
    form = server_form(scope, ServerTestForm)(request.POST, instance=server)
    form.is_valid()
    problem = _first_problem(form)
    name = request.POST.get("name", "").strip()[:200] or "New server"
    if problem is not None:
        return _answer(request, name, ProbeResult(ok=False, sentence=problem, step="form"))
    try:
        own, missing = _of_tester(request, server, form.cleaned_data["method"], form.cleaned_data["url"])
        target = Target(
            url=form.cleaned_data["url"],
            credential=own or tuple(form.credential_headers()),
            static_headers=tuple(form.cleaned_data.get("static_headers", {}).items()),
            ca_certificate=form.cleaned_data.get("ca_certificate", ""),
            connect_timeout=form.cleaned_data.get("connect_timeout") or 10,
            callers_bring=not own and form.cleaned_data["method"] not in METHODS,
        )
        destination = parse_destination(target.url)
        digest = form.connection_digest()
    except SecretUnavailable as error:
        failed = ProbeResult(ok=False, sentence=error.public_message, step=Step.AUTHENTICATION)
        return _answer(request, name, failed)
    except DestinationRefused as error:
        return _answer(request, name, ProbeResult(ok=False, sentence=error.public_message, step=Step.ADDRESS))
    result = probe(target)
    if result.private_address and form.cleaned_data.get("allow_private") and scope.superuser:
        allow_private(destination, actor=_actor(request), note=f"MCP server {name}"[:200])
        result = probe(target)
    result = _with(result, missing)
    note = ""
    if server is not None and not form.has_changed():
        store_health(server, result, actor=_actor(request))
    elif not result.private_address:  # saving may allow the address, and then this outcome says nothing
        note = health.note_of(_tested(result), user_id=request.user.pk, values_digest=digest)
    can_allow = f"{destination.host}:{destination.port}" if result.private_address and scope.superuser else ""
    return _answer(request, name, result, can_allow, note)


@require_POST
def test_server(request: HttpRequest, server_id: UUID) -> HttpResponse:
    """Test a server as it is saved, keep the outcome as its health, and show it."""
    server = get_object_or_404(scope_of_request(request).visible_servers().select_related("tenant"), pk=server_id)
    return test_several(request, [server])


def test_several(request: HttpRequest, servers: list[Server]) -> HttpResponse:
    """Test saved servers that the person manages and show a line for each."""
    scope = scope_of_request(request)
    if not all(scope.manages_server(server) for server in servers):
        raise PermissionDenied
    rows = []
    for server, result in zip(servers, _results(request, servers), strict=True):
        store_health(server, result, actor=_actor(request))
        rows.append(Row(server.name, admin_url(server), result))
    return _page(request, rows)


def _results(request: HttpRequest, servers: list[Server]) -> list[ProbeResult]:
    targets: list[Target] = []
    missing: list[str] = []
    ready: dict[UUID, ProbeResult] = {}
    for server in servers:
        try:
            target = target_of(server)
            config = AuthConfig.objects.filter(server=server).first()
            own, lacking = _of_tester(request, server, config.method if config else "", server.url)
        except SecretUnavailable as error:
            ready[server.pk] = ProbeResult(ok=False, sentence=error.public_message, step=Step.AUTHENTICATION)
            continue
        targets.append(replace(target, credential=own, callers_bring=False) if own else target)
        missing.append(lacking)
    found = map(_with, probe_all(targets), missing)
    return [ready.get(server.pk) or next(found) for server in servers]


def _of_tester(
    request: HttpRequest, server: Server | None, method: str, url: str
) -> tuple[tuple[tuple[str, str], ...], str]:
    """The tester's own credential for a server as it is saved, or why there is none; raises SecretUnavailable.

    What is typed in and not saved gets none: it may lead elsewhere.
    """
    if method in METHODS:
        return (), ""
    if server is None or not same_origin(server.url, url):
        return (), "Save it first; then the test uses what you have connected or entered yourself."
    config = AuthConfig.objects.filter(server=server, method=method).first()
    if config is None:
        return (), "Save it first; then the test uses what you have connected or entered yourself."
    server.auth_config = config
    try:
        return tuple(headers_for(request.user, server, config) or ()), ""
    except NothingToTestWith as nothing:
        return (), str(nothing)


def _with(result: ProbeResult, missing: str) -> ProbeResult:
    return replace(result, sentence=f"{result.sentence} {missing}") if missing and result.ok else result


def target_of(server: Server) -> Target:
    """What a saved server amounts to; raises SecretUnavailable."""
    config = AuthConfig.objects.filter(server=server).first() or AuthConfig(server=server)
    return Target(
        url=server.url,
        credential=tuple(shared_headers(server, config)),
        static_headers=tuple((str(name), str(value)) for name, value in server.static_headers.items()),
        ca_certificate=server.ca_certificate,
        connect_timeout=server.connect_timeout,
        callers_bring=config.method not in METHODS,
    )


def store_health(server: Server, result: ProbeResult, *, actor: str) -> None:
    """Keep the outcome on the server's row, with its audit event. No decision depends on it."""
    with transaction.atomic():
        health.keep(server, _tested(result))
        audit.record(
            audit.Action.SERVER_TEST,
            actor=actor,
            subject=server,
            tenant=server.tenant,
            detail={"ok": result.ok, "step": str(result.step), "milliseconds": result.milliseconds},
        )


def _tested(result: ProbeResult) -> health.Tested:
    return health.Tested(ok=result.ok, detail=result.as_dict(), at=timezone.now())


def _first_problem(form: ServerForm) -> str | None:
    for name in _NEEDED:
        for problem in form.errors.get(name, ()):
            return f"{form[name].label}: {problem}"
    return "Choose a tenant first." if form.chosen_tenant() is None else None


def _server_of(request: HttpRequest, scope: Scope) -> Server | None:
    """The saved server that the form is about; None for a new one. Raises when the person may do neither."""
    text = request.POST.get("server_id", "")
    if not text:
        if not scope.may_add_servers:
            raise PermissionDenied
        return None
    try:
        server_id = UUID(text)
    except ValueError as error:
        raise PermissionDenied from error
    return get_object_or_404(scope.visible_servers().select_related("tenant", "group"), pk=server_id)


def _actor(request: HttpRequest) -> str:
    return str(request.user.get_username())


def _answer(request: HttpRequest, name: str, result: ProbeResult, can_allow: str = "", note: str = "") -> HttpResponse:
    if "application/json" in request.headers.get("accept", ""):
        return JsonResponse({**result.as_dict(), "can_allow": can_allow, "note": note})
    return _page(request, [Row(name, "", result)])


def _page(request: HttpRequest, rows: list[Row]) -> HttpResponse:
    context: dict[str, Any] = {**admin.site.each_context(request), "title": "Test connection", "rows": rows}
    return TemplateResponse(request, "admin/gatehouse/test_results.html", context)
