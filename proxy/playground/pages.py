"""The playground's page, and the servers that it offers with what is still missing for each."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from proxy.playground.choices import choices_of


@require_safe
def playground(request: HttpRequest) -> HttpResponse:
    """The page; its modules do the rest."""
    return render(request, "portal/playground.html")


@require_safe
@never_cache
def servers(request: HttpRequest) -> JsonResponse:
    """The servers that the person may use, as JSON; asked again while they connect one in another window."""
    return JsonResponse({"servers": choices_of(request.user)})
