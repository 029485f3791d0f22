"""Where providers send the browser back to. Thin; the rules are in `authflows.outbound.connect`."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import Resolver404, resolve, reverse
from django.views.decorators.http import require_GET

from authflows.inbound import my_servers
from authflows.inbound.oauth.resources import resources_of
from authflows.models import PendingSignIn
from authflows.outbound import connect
from authflows.outbound.connect import ConnectFailed
from authflows.views.csp import allow_form_target
from servers.models import Server


@require_GET
def callback(request: HttpRequest) -> HttpResponse:
    """The one redirect URI of the gateway at every provider (RFC 6749, 4.1.2)."""
    result = connect.finish(request.GET, user=request.user, session_key=request.session.session_key or "")
    if isinstance(result, ConnectFailed):
        return _failed(request, result, status=400)
    if result.sign_in is not None:
        return redirect("authorize-pending", result.sign_in.pk)
    connection = result.connection
    account = f" as {connection.account_label}" if connection.account_label else ""
    messages.success(request, f"Connected{account}.")
    server = connection.server
    return redirect(result.return_to or server_page(server))


def depart(
    request: HttpRequest,
    server: Server,
    *,
    sign_in: PendingSignIn | None = None,
    return_to: str = "",
    other_account: bool = False,
) -> HttpResponse:
    """Send the browser to the provider, from a page of ours that says so.

    A page and not a redirect: browsers hold our `form-action` against every redirect that follows a form.
    """
    result = connect.begin(
        request.user,
        server,
        session_key=request.session.session_key or "",
        sign_in=sign_in,
        return_to=return_to,
        other_account=other_account,
    )
    if isinstance(result, ConnectFailed):
        return _failed(request, result, status=502)
    response = render(request, "authflows/leaving.html", {"departure": result, "server": server})
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


def _failed(request: HttpRequest, result: ConnectFailed, *, status: int) -> HttpResponse:
    # The page of a link begins the trip by itself, so that it comes back there.
    by_link = result.return_to.startswith(reverse("connect-link", args=["-"])[:-1])
    asked, server = result.sign_in, result.server
    context = {
        "result": result,
        "again_at": result.return_to if by_link else "",
        "came_from": _said_of(result.return_to),
        # Of a virtual server's members each can be left out.
        "skippable": asked is not None and server is not None and asked.resource not in resources_of(server),
    }
    response = render(request, "authflows/connect_failed.html", context, status=status)
    if asked is not None:
        allow_form_target(response, asked.redirect_uri)
    return response


class Place(NamedTuple):
    """A page of the portal that leads to others and is come back to; `said` is its word in forms and addresses."""

    said: str
    url: str
    name: str


def place_said(said: str, user: Any) -> Place | None:
    """The place behind a word of a request: a list, or the page of a server that `user` may use."""
    if said == "connections":
        return Place(said, reverse("my-connections"), "My connections")
    if said == "servers":
        return Place(said, reverse("portal"), "Servers")
    tenant, _, slug = said.partition("/")
    item = my_servers.server_of(user, tenant_slug=tenant, slug=slug) if slug else None
    return Place(said, server_page(item.server), item.server.name) if item is not None else None


_LISTS: Final = {"my-connections": "connections", "portal": "servers"}


def _said_of(path: str) -> str:
    """The inverse, for a path of ours."""
    try:
        match = resolve(path)
    except Resolver404:
        return ""
    if match.url_name in _LISTS:
        return _LISTS[match.url_name]
    return f"{match.kwargs['tenant']}/{match.kwargs['slug']}" if match.url_name == "portal-server" else ""


def server_page(server: Server) -> str:
    """The portal page of a server."""
    return reverse("portal-server", args=[server.tenant.slug, server.slug])
