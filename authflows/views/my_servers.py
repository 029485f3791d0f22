"""The portal: the servers that I may use, and the page of one."""

from __future__ import annotations

from typing import Any

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_safe

from authflows.inbound import how_to_use, my_servers
from authflows.inbound.how_to_use import Target
from authflows.outbound import my_catalogue, my_items
from authflows.outbound.my_catalogue import Choice
from authflows.outbound.my_connections import connection_to
from authflows.outbound.my_items import MyItems
from authflows.outbound.my_members import Tally, members_for
from authflows.outbound.my_own_keys import own_key_for
from authflows.views.key_forms import NewKeyForm
from authflows.views.my_keys import warn_made_before
from servers.items import ItemKind

PAGE_SIZE = 25
ITEMS_SIZE = 12


@require_safe
def portal(request: HttpRequest) -> HttpResponse:
    """The list: what I may use, chosen by words, group and state, and what I can ask for."""
    found = my_catalogue.catalogue_for(request.user)
    choice = Choice(request.GET.get("q", "").strip()[:200], request.GET.get("group", ""), request.GET.get("state", ""))
    page = Paginator(my_catalogue.chosen_cards(found.cards, choice), PAGE_SIZE).get_page(request.GET.get("page"))
    askable = my_catalogue.chosen_askable(found.askable, choice)
    asked = [one for one in askable if one.waiting or one.refused]
    context = {
        "page": page,
        "total": len(found.cards),
        "choice": choice,
        "chosen": choice != Choice(),
        "searchable": len(found.cards) + len(found.askable) > 5 or choice.query,
        "groups": my_catalogue.group_chips(found.cards, choice),
        "standings": my_catalogue.standing_chips(found.cards, choice),
        # What was asked for is not on a later page.
        "askable": Paginator([*asked, *(one for one in askable if one not in asked)], PAGE_SIZE).get_page(
            request.GET.get("ask")
        ),
    }
    return render(request, "portal/servers.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_variables("made", "token")
def server(request: HttpRequest, tenant: str, slug: str) -> HttpResponse:
    """One server and how to use it; a POST makes a key for it. For everybody else it does not exist."""
    item = my_servers.server_of(request.user, tenant_slug=tenant, slug=slug)
    if item is None:
        raise Http404
    found, token = item.server, None
    form = NewKeyForm(user=request.user, initial={"name": f"For {found.name}"[:100]})
    if request.method == "POST":
        form = NewKeyForm(request.POST, user=request.user)
        made = form.make(servers=[found]) if form.is_valid() else None
        if made is not None and made.token is None:
            warn_made_before(request, made)
            return redirect("portal-server", tenant, slug)
        token = made.token if made is not None else None
        form.renew()
    mine, my_key = connection_to(request.user, found), own_key_for(request.user, found)
    tally = Tally(members_for(request.user, found)) if found.is_virtual else None
    items = my_items.items_for(item, mine=mine or my_key, tally=tally)
    target = Target(name=found.slug, url=found.mcp_url, key_url=found.key_url)
    context = {
        "item": item,
        "server": found,
        "mine": mine,
        "my_key": my_key,
        "tally": tally,
        **_listing(request, items),
        "methods": how_to_use.methods(target, key=token),
        "open_method": "key" if request.method == "POST" else "",
        "form": form,
        "token": token,
    }
    return render(request, "portal/server.html", context)


def _listing(request: HttpRequest, items: MyItems) -> dict[str, Any]:
    """What the page lists of the server's tools, prompts and resources: one kind, by words and page."""
    kinds = my_items.kind_chips(items, request.GET.get("kind", ""))
    words = request.GET.get("find", "").strip()[:200]
    chosen = next((chip.value for chip in kinds if chip.chosen), None)
    found = my_items.with_words(items.items[ItemKind(chosen)], words) if chosen else []
    page = Paginator(found, ITEMS_SIZE).get_page(request.GET.get("items"))
    return {
        "items": items,
        "kinds": kinds,
        "words": words,
        "item_page": page,
        "shown_items": [my_items.shown(one) for one in page],
        "findable": items.total > ITEMS_SIZE or words,
    }
