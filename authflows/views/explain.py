"""Why can't I? The portal's page, about oneself."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from authflows.explain import explain, nothing_here
from authflows.explaining import questions
from authflows.inbound import my_servers

_MOST_SUGGESTED = 200


@require_safe
def why(request: HttpRequest) -> HttpResponse:
    """Ask about a server, and a tool of it; below, every step of the decision about the signed-in person."""
    form = questions.QuestionForm(request.GET)
    told = None
    if "server" in request.GET and form.is_valid():
        server = questions.mine(request.user, form.cleaned_data["server"])
        if server is None:
            told = nothing_here(request.user, form.cleaned_data["server"])
        else:
            told = explain(request.user, server, item=form.item_asked, client=form.cleaned_data["client"])
    suggested = [] if told is not None else my_servers.servers_of(request.user)[:_MOST_SUGGESTED]
    context = {"form": form, "asked": "server" in request.GET, "told": told, "suggested": suggested}
    return render(request, "portal/why.html", context)
