"""`/authorize` and the approval page. Thin; the rules are in `authflows.inbound.oauth.authorization`."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods

from authflows.inbound.my_servers import MyServer
from authflows.inbound.oauth import authorization, redirect_uris
from authflows.inbound.oauth.authorization import Answer, TooMany, Unanswerable, Wanted
from authflows.inbound.oauth.trip import Trip
from authflows.models import PendingSignIn
from authflows.outbound.my_members import reached_by
from authflows.outbound.needs import Missing, Need, missing
from authflows.own_key_forms import OwnKeyForm
from authflows.throttle import client_address
from authflows.views import trip
from authflows.views.connect import depart
from authflows.views.csp import allow_form_target
from servers.scope import scope_of


@login_not_required
@require_GET
def authorize(request: HttpRequest) -> HttpResponse:
    """Where clients send the browser (RFC 6749, 4.1.1): on to the approval page, or straight back."""
    address = client_address(request)
    asked = authorization.read(request.GET, address=address)
    if isinstance(asked, Unanswerable):
        return render(request, "authflows/unanswerable.html", {"problem": asked}, status=asked.status)
    if isinstance(asked, Answer):
        return _to_client(asked)
    begun = authorization.begin(asked, user=request.user, address=address)
    if isinstance(begun, Answer):
        return _to_client(begun)
    if isinstance(begun, TooMany):
        response = render(request, "authflows/too_many_sign_ins.html", {"seconds": begun.seconds}, status=429)
        response.headers["Retry-After"] = str(begun.seconds)
        return response
    return redirect("authorize-pending", begun.pk)


@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def pending(request: HttpRequest, pending_id: str) -> HttpResponse:
    """The pages of one request: the question, and what is still to be done after it."""
    asked = authorization.pending(pending_id)
    if asked is None:
        return _ended(request)
    if authorization.belongs_to_another(asked, request.user):
        return render(request, "authflows/not_your_sign_in.html", status=403)
    item = authorization.look_at(asked, request.user)
    if request.method == "POST":
        return _decided(request, asked, item)
    if item is None:
        response = render(request, "authflows/no_access.html", {"asked": asked}, status=403)
    elif request.method == "GET" and not authorization.needs_asking(asked, request.user, item):
        return _next(request, asked, item, authorization.go_on(asked, request.user, item))
    else:
        response = render(request, "authflows/approve.html", _question(request, asked, item))
    allow_form_target(response, asked.redirect_uri)
    return response


def _decided(request: HttpRequest, asked: PendingSignIn, item: Wanted | None) -> HttpResponse:
    decision = request.POST.get("decision")
    if isinstance(item, MyServer) and item.server.is_virtual and decision in trip.DECISIONS:
        return trip.decided(request, asked, item, decision)
    if item is None or decision not in ("approve", "connect", "key"):
        answer = authorization.deny(asked, request.user)
        return _to_client(answer) if answer else _ended(request)
    if decision == "approve":
        outcome = authorization.approve(asked, request.user, item)
    elif asked.approved_at is None:
        return redirect("authorize-pending", asked.pk)
    elif isinstance(item, MyServer) and decision == "key":
        return _own_key(request, asked, item)
    else:
        outcome = authorization.go_on(asked, request.user, item)
    if isinstance(outcome, Trip):
        return redirect("authorize-pending", asked.pk)
    if isinstance(item, MyServer) and isinstance(outcome, Missing) and outcome.need is not Need.OWN_KEY:
        return depart(request, item.server, sign_in=asked)
    return _next(request, asked, item, outcome)


def _next(
    request: HttpRequest, asked: PendingSignIn, item: Wanted, outcome: Answer | Missing | Trip | None
) -> HttpResponse:
    if isinstance(outcome, Answer):
        return _to_client(outcome)
    # Of the API there is nothing to connect on the way.
    if outcome is None or not isinstance(item, MyServer):
        return _ended(request)
    if isinstance(outcome, Trip):
        return trip.show(request, asked, item, outcome)
    if outcome.need is Need.OWN_KEY:
        return _ask_for_key(request, asked, outcome, OwnKeyForm(server=item.server, user=request.user))
    context = {"asked": asked, "client": asked.client, "server": item.server, "missing": outcome}
    response = render(request, "authflows/connect_step.html", context)
    allow_form_target(response, asked.redirect_uri)
    return response


def _own_key(request: HttpRequest, asked: PendingSignIn, item: MyServer) -> HttpResponse:
    """The person's own key, tested before it is kept; then whatever comes next."""
    still_missing = missing(request.user, item.server)
    if still_missing is not None and still_missing.need is Need.OWN_KEY:
        form = OwnKeyForm(request.POST, server=item.server, user=request.user)
        if not form.is_valid() or form.keep(actor=request.user) is None:
            return _ask_for_key(request, asked, still_missing, form)
    return _next(request, asked, item, authorization.go_on(asked, request.user, item))


def _ask_for_key(request: HttpRequest, asked: PendingSignIn, wanted: Missing, form: OwnKeyForm) -> HttpResponse:
    context = {"asked": asked, "client": asked.client, "server": form.server, "missing": wanted, "form": form}
    response = render(request, "authflows/own_key_step.html", context)
    allow_form_target(response, asked.redirect_uri)
    return response


def _question(request: HttpRequest, asked: PendingSignIn, item: Wanted) -> dict[str, object]:
    server = authorization.server_in(item)
    context = {
        "asked": asked,
        "client": asked.client,
        "server": server,
        "opens": server.name if server is not None else "the Gateway API",
        "redirect_host": redirect_uris.shown_host(asked.redirect_uri),
        "loopback": redirect_uris.is_loopback(asked.redirect_uri),
    }
    if server is not None:
        return {**context, "reached": reached_by(request.user, server)}
    return {**context, "manages": scope_of(request.user).may_enter}


def _ended(request: HttpRequest) -> HttpResponse:
    return render(request, "authflows/sign_in_ended.html", status=410)


def _to_client(answer: Answer) -> HttpResponse:
    # Its scheme was checked when the client registered it; 303, so that no form is ever sent on (RFC 9700, 4.12).
    response = HttpResponse(status=303)
    response.headers["Location"] = answer.url
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
