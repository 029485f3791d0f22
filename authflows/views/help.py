"""Help, for everybody: who cannot sign in needs it most."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from authflows import help_pages


@require_safe
@login_not_required
def topics(request: HttpRequest) -> HttpResponse:
    """All topics."""
    return render(request, "portal/help.html", {"sections": help_pages.sections()})


@require_safe
@login_not_required
def topic(request: HttpRequest, name: str) -> HttpResponse:
    """One topic."""
    found = help_pages.topic_of(name)
    if found is None:
        raise Http404
    return render(request, "portal/help_topic.html", {"topic": found})
