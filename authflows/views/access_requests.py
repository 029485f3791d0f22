"""Asking for access to a server, and taking it back. Thin; the rules are in `servers.access_requests`."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from authflows.inbound.principals import principal_for
from servers import access_requests
from servers.access_requests import HasAccess, NotRequestable, TooManyRequests
from servers.forms.access_requests import AskForm
from servers.models import AccessRequest


@require_http_methods(["GET", "HEAD", "POST"])
def ask(request: HttpRequest, server_id: UUID) -> HttpResponse:
    """The form of a request. A server that cannot be asked for and one that does not exist are the same."""
    principal = principal_for(request.user, credential="session")
    try:
        server = access_requests.askable(principal, server_id)
    except NotRequestable as error:
        raise Http404 from error
    except HasAccess as error:
        messages.info(request, error.public_message)
        return redirect("portal")
    form = AskForm(request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        asked = form.cleaned_data
        try:
            access_requests.ask(principal, server_id, reason=asked["reason"], days=asked["duration"])
        except TooManyRequests as error:
            form.add_error(None, error.public_message)
        else:
            messages.success(request, f"You asked for {server.name}. Its managers see it now; the answer stands here.")
            return _to_the_list()
    return render(request, "portal/ask.html", {"server": server, "form": form})


@require_POST
def withdraw(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """Take a request of one's own back; what was answered meanwhile stays answered."""
    found = access_requests.withdraw(request_id, person=request.user)
    if found is None:
        raise Http404
    if found.state == AccessRequest.State.WITHDRAWN:
        messages.success(request, f"Your request for {found.server.name} is withdrawn.")
    else:
        messages.info(request, f"Your request for {found.server.name} was answered meanwhile.")
    return _to_the_list()


def _to_the_list() -> HttpResponse:
    return HttpResponseRedirect(f"{reverse('portal')}#ask")
