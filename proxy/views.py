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

from authflows.outbound.credentials import METHODS
from authflows.outbound.tester_credentials import NothingToTestWith, headers_for
from proxy.catalogue_reading import probe_and_read
from proxy.probe import ProbeResult, Target, probe, probe_all
from proxy.probe_http import Step
from proxy.targets import target_of, target_with
from servers import audit, health
from servers.admin.server_form_page import server_form, server_of_draft
from servers.catalogue.due import sees_everything
from servers.catalogue.readings import NotRead, Reading
from servers.catalogue.taking import take
from servers.destinations import allow_private
from servers.egress import parse_destination
from servers.errors import DestinationRefused, SecretUnavailable
from servers.forms import ServerForm, ServerTestForm
from servers.header_auth import same_origin
from servers.links import admin_url
from servers.models import AuthConfig, Server
from servers.scope import scope_of_request

MOST_AT_ONCE: Final = 50
# What a test needs; errors in other fields of an unfinished form do not stand in its way.
_NEEDED: Final = ("url", "method", "headers", "static_headers", "ca_certificate", "connect_timeout", "tenant")


Tested = tuple[ProbeResult, Reading | NotRead | None]
"""How a test went, and what was read of the server's offer with it; None: it was not asked for."""


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
    server = server_of_draft(request, scope)
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
    # As it is saved, the test is a reading of what the server offers too.
    as_saved = server if server is not None and not form.has_changed() else None
    result, reading = _test(target) if as_saved is not None else (probe(target), None)
    if result.private_address and form.cleaned_data.get("allow_private") and scope.superuser:
        allow_private(destination, actor=_actor(request), note=f"MCP server {name}"[:200])
        result, reading = _test(target) if as_saved is not None else (probe(target), None)
    result = _with(result, missing)
    note = ""
    if as_saved is not None:
        result = _keep(as_saved, result, reading, actor=_actor(request))
    elif not result.private_address:  # saving may allow the address, and then this outcome says nothing
        note = health.note_of(_tested(result), user_id=request.user.pk, values_digest=digest)
    can_allow = f"{destination.host}:{destination.port}" if result.private_address and scope.superuser else ""
    return _answer(request, name, result, can_allow, note)


@require_POST
def test_server(request: HttpRequest, server_id: UUID) -> HttpResponse:
    """Test a server as it is saved, keep the outcome as its health, and show it."""
    testable = scope_of_request(request).visible_servers().exclude(kind=Server.Kind.VIRTUAL)
    server = get_object_or_404(testable.select_related("tenant"), pk=server_id)
    return test_several(request, [server])


def test_several(request: HttpRequest, servers: list[Server]) -> HttpResponse:
    """Test saved servers that the person manages and show a line for each."""
    scope = scope_of_request(request)
    if not all(scope.manages_server(server) for server in servers):
        raise PermissionDenied
    rows = []
    for server, (result, reading) in zip(servers, _results(request, servers), strict=True):
        rows.append(Row(server.name, admin_url(server), _keep(server, result, reading, actor=_actor(request))))
    return _page(request, rows)


def _test(target: Target) -> Tested:
    """A test that reads what the server offers too, unless there is no credential to read it with."""
    if target.callers_bring:
        return probe(target), None
    return probe_and_read(target)


def _keep(server: Server, result: ProbeResult, reading: Reading | NotRead | None, *, actor: str) -> ProbeResult:
    """The outcome as the server's health, and what it offers in its catalogue; tells of both."""
    store_health(server, result, actor=actor)
    method = AuthConfig.objects.filter(server=server).values_list("method", flat=True).first() or AuthConfig.Method.NONE
    whole = sees_everything(method)
    # That one person's credential is refused says nothing of the server.
    if reading is None or not (whole or isinstance(reading, Reading)):
        return result
    taken = take(server, reading, actor=actor, whole=whole)
    if not result.ok:
        return result
    waiting = f"{taken.held} new or changed item{' waits' if taken.held == 1 else 's wait'} for approval."
    return _with(result, " ".join(filter(None, [taken.failure, waiting if taken.held else ""])))


def _results(request: HttpRequest, servers: list[Server]) -> list[Tested]:
    targets: list[Target] = []
    missing: list[str] = []
    ready: dict[UUID, Tested] = {}
    for server in servers:
        try:
            target = target_of(server)
            config = AuthConfig.objects.filter(server=server).first()
            own, lacking = _of_tester(request, server, config.method if config else "", server.url)
        except SecretUnavailable as error:
            failed = ProbeResult(ok=False, sentence=error.public_message, step=Step.AUTHENTICATION)
            ready[server.pk] = failed, None
            continue
        targets.append(target_with(server, own) if own else target)
        missing.append(lacking)
    tested = zip(probe_all(targets, test=_test), missing, strict=True)
    found = ((_with(result, lacking), reading) for (result, reading), lacking in tested)
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


def _actor(request: HttpRequest) -> str:
    return str(request.user.get_username())


def _answer(request: HttpRequest, name: str, result: ProbeResult, can_allow: str = "", note: str = "") -> HttpResponse:
    if "application/json" in request.headers.get("accept", ""):
        return JsonResponse({**result.as_dict(), "can_allow": can_allow, "note": note})
    return _page(request, [Row(name, "", result)])


def _page(request: HttpRequest, rows: list[Row]) -> HttpResponse:
    context: dict[str, Any] = {**admin.site.each_context(request), "title": "Test connection", "rows": rows}
    return TemplateResponse(request, "admin/gatehouse/test_results.html", context)
