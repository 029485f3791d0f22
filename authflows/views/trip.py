"""The pages of a sign-in to a virtual server after Approve. Thin; the rules are in `authflows.inbound.oauth.trip`.

Every form here ends in a redirect to the page of the request, which shows what comes next or answers the client.
"""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from authflows.inbound.my_servers import MyServer
from authflows.inbound.oauth import trip as trips
from authflows.inbound.oauth.trip import Stop, Trip
from authflows.models import PendingSignIn
from authflows.own_key_forms import OwnKeyForm
from authflows.views.connect import depart
from authflows.views.csp import allow_form_target

DECISIONS: Final = frozenset(("connect", "key", "skip", "go-on"))


def show(request: HttpRequest, asked: PendingSignIn, item: MyServer, trip: Trip) -> HttpResponse:
    """All members with their state; or, where the address names one that takes a key, the page of that key."""
    stop = trip.stop_at(request.GET.get("key", ""))
    if stop is not None and stop.asks_for_key:
        form = OwnKeyForm(server=stop.member.server, user=request.user)
        return _ask_for_key(request, asked, item, stop, form)
    context = {"asked": asked, "client": asked.client, "server": item.server, "trip": trip}
    response = render(request, "authflows/trip.html", context)
    allow_form_target(response, asked.redirect_uri)
    return response


def decided(request: HttpRequest, asked: PendingSignIn, item: MyServer, decision: str) -> HttpResponse:
    """What the person pressed. Only after the approval; anything that is over by now leads to what is next."""
    if asked.approved_at is not None:
        trip = trips.trip_of(asked, request.user, item.server)
        stop = trip.stop_at(request.POST.get("member", ""))
        if decision == "go-on":
            trips.skip(asked, (one.member.server.pk for one in trip.open))
        elif stop is not None and decision == "skip":
            trips.skip(asked, [stop.member.server.pk])
        elif stop is not None and decision == "key" and stop.asks_for_key:
            form = OwnKeyForm(request.POST, server=stop.member.server, user=request.user)
            if not form.is_valid() or form.keep(actor=request.user) is None:
                return _ask_for_key(request, asked, item, stop, form)
        elif stop is not None and decision == "connect" and not stop.asks_for_key:
            return depart(request, stop.member.server, sign_in=asked)
    return redirect("authorize-pending", asked.pk)


def _ask_for_key(
    request: HttpRequest, asked: PendingSignIn, item: MyServer, stop: Stop, form: OwnKeyForm
) -> HttpResponse:
    context = {
        "asked": asked,
        "client": asked.client,
        "server": stop.member.server,
        "through": item.server,
        "missing": stop.member.missing,
        "form": form,
    }
    response = render(request, "authflows/own_key_step.html", context)
    allow_form_target(response, asked.redirect_uri)
    return response
