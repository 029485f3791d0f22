"""A person's own key for a server: enter, replace, remove. Thin; the rules are in `authflows.outbound.own_keys`."""

from __future__ import annotations

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.debug import sensitive_post_parameters, sensitive_variables
from django.views.decorators.http import require_http_methods

from authflows.inbound import my_servers
from authflows.models import OwnKey
from authflows.outbound import own_keys
from authflows.outbound.my_own_keys import own_key_for
from authflows.outbound.own_keys import Kept
from authflows.own_key_forms import MyOwnKeyForm, OwnKeyForm
from authflows.views.connect import Place, place_said, server_page
from servers.models import AuthConfig


@sensitive_post_parameters()
@sensitive_variables("form")
@require_http_methods(["GET", "HEAD", "POST"])
def enter(request: HttpRequest, tenant: str, slug: str) -> HttpResponse:
    """Enter or replace my key for one server. For everybody who may not use the server it does not exist."""
    item = my_servers.server_of(request.user, tenant_slug=tenant, slug=slug)
    mine = own_key_for(request.user, item.server) if item is not None else None
    if item is None or mine is None or not mine.can_enter:
        raise Http404
    form = MyOwnKeyForm(
        request.POST if request.method == "POST" else None,
        server=item.server,
        user=request.user,
    )
    place = place_said(request.POST.get("from", request.GET.get("from", "")), request.user)
    back = place or Place("", server_page(item.server), item.server.name)
    if request.method == "POST" and form.is_valid() and (kept := form.keep(actor=request.user)):
        say_kept(request, form, kept)
        return redirect(back.url)
    context = {"server": item.server, "mine": mine, "form": form, "back": back}
    return render(request, "portal/own_key.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def remove(request: HttpRequest, key_id: object) -> HttpResponse:
    """Ask, then forget my key. What a manager set over a shared header is the manager's to remove."""
    rows = OwnKey.objects.select_related("server__tenant", "server__auth_config", "user").filter(user=request.user.pk)
    key = get_object_or_404(rows.exclude(server__auth_config__method=AuthConfig.Method.SHARED_HEADER), pk=key_id)
    if request.method != "POST":
        return render(request, "portal/own_key_remove.html", {"key": key})
    own_keys.remove(key, actor=request.user.get_username())
    messages.success(request, f"Your key for {key.server.name} is removed here. It may still be valid at its provider.")
    return redirect("my-connections")


def say_kept(request: HttpRequest, form: OwnKeyForm, kept: Kept) -> None:
    """Tell the person what became of what they entered, on the next page."""
    name = form.server.name
    if kept.tested:
        messages.success(request, f"{name} accepted your key. It is kept sealed, and nobody is shown it again.")
    else:
        messages.warning(request, f"Your key for {name} is kept untested. The first call will show whether it works.")
    for note in form.notes:
        messages.info(request, note)
