"""My connections, and the page behind a "not connected" answer. Thin; the rules are in `authflows.outbound`."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from authflows.inbound import my_servers
from authflows.models import Connection, ConnectLink
from authflows.outbound import connections, my_connections
from authflows.outbound.my_connections import MyConnection
from authflows.outbound.my_members import Tally, members_for, virtual_servers_with
from authflows.outbound.my_own_keys import MyOwnKey, own_keys_of
from authflows.outbound.needs import Missing, Need, missing
from authflows.own_key_forms import OwnKeyForm
from authflows.views.connect import depart, place_said
from authflows.views.own_keys import say_kept
from servers.models import Server


@require_safe
def mine(request: HttpRequest) -> HttpResponse:
    """Every connection and own key of the person, and what could be connected or entered."""
    usable = {item.server.pk: item.server for item in my_servers.servers_of(request.user)}
    items: list[MyConnection | MyOwnKey] = [
        *my_connections.connections_of(request.user, usable),
        *own_keys_of(request.user, usable),
    ]
    through = virtual_servers_with([item.server.pk for item in items], usable)
    shown = sorted(items, key=lambda item: item.server.name.casefold())
    context = {"items": [(item, through.get(item.server.pk, [])) for item in shown]}
    return render(request, "portal/connections.html", context)


@require_POST
def connect_now(request: HttpRequest, tenant: str, slug: str) -> HttpResponse:
    """Connect Now: off to the provider, and back to the page that it was pressed on."""
    server = _server(request, tenant, slug)
    place = place_said(request.POST.get("from", ""), request.user)
    return depart(request, server, return_to=place.url if place else "", other_account="other_account" in request.POST)


@require_http_methods(["GET", "HEAD", "POST"])
def revoke(request: HttpRequest, connection_id: object) -> HttpResponse:
    """Ask, then end the connection, and say what the provider answered."""
    found = Connection.objects.select_related("server__tenant", "server__auth_config", "client__tenant", "user")
    connection = get_object_or_404(found, pk=connection_id, user=request.user)
    if request.method != "POST":
        return render(request, "portal/connection_revoke.html", {"connection": connection})
    outcome = connections.revoke(connection, actor=request.user.get_username())
    name = connection.server.name
    if outcome.provider == "told":
        messages.success(request, f"{name} is no longer connected, and the provider ended the authorization too.")
    elif outcome.provider == "not_offered":
        messages.success(request, f"{name} is no longer connected here. {outcome.sentence}")
    else:
        messages.warning(
            request,
            f"{name} is no longer connected here, but the provider could not be told: {outcome.sentence} "
            "You can end it in your account's settings there.",
        )
    return redirect("my-connections")


@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def link(request: HttpRequest, link_id: str) -> HttpResponse:
    """The page that a client was told to open for the person who called it (CP-1 to CP-6)."""
    rows = ConnectLink.objects.select_related("server__tenant", "server__auth_config", "through__tenant")
    found = rows.filter(pk=link_id, user=request.user.pk, expires_at__gt=timezone.now()).first()
    if found is None:
        # One page for unknown, expired and somebody else's: it tells nobody which.
        return render(request, "authflows/connect_link_ended.html", status=404)
    server = found.server
    if my_servers.server_of(request.user, tenant_slug=server.tenant.slug, slug=server.slug) is None:
        return render(request, "authflows/connect_link_ended.html", status=404)
    still_missing, through = missing(request.user, server), _through(request, found)
    if still_missing is None:
        left = Tally(members_for(request.user, through)).missing if through is not None else []
        # One address leads through all that is missing, a page for each.
        following = my_connections.link_for(request.user, left[0].server, through_id=found.through_id) if left else None
        about = {"server": server, "through": through, "through_missing": left, "following": following}
        return render(request, "authflows/connected.html", about)
    if still_missing.need is Need.OWN_KEY:
        return _own_key(request, found, still_missing, through)
    if request.method == "POST":
        return depart(request, server, return_to=request.path)
    context = {"link": found, "server": server, "missing": still_missing, "through": through}
    context["item"] = my_connections.connection_to(request.user, server)
    return render(request, "authflows/connect_link.html", context)


def _through(request: HttpRequest, found: ConnectLink) -> Server | None:
    """The virtual server that was called, while the person may use it."""
    if found.through is None:
        return None
    item = my_servers.server_of(request.user, tenant_slug=found.through.tenant.slug, slug=found.through.slug)
    return item.server if item is not None else None


def _own_key(request: HttpRequest, found: ConnectLink, still_missing: Missing, through: Server | None) -> HttpResponse:
    form = OwnKeyForm(request.POST if request.method == "POST" else None, server=found.server, user=request.user)
    if request.method == "POST" and form.is_valid() and (kept := form.keep(actor=request.user)):
        say_kept(request, form, kept)
        return redirect("connect-link", found.pk)
    context = {"link": found, "server": found.server, "missing": still_missing, "form": form, "through": through}
    return render(request, "authflows/own_key_link.html", context)


def _server(request: HttpRequest, tenant: str, slug: str) -> Server:
    item = my_servers.server_of(request.user, tenant_slug=tenant, slug=slug)
    if item is None:
        raise Http404
    return item.server
