"""The portal: the servers that I may use, and the page of one."""

from __future__ import annotations

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from authflows.inbound import my_servers
from authflows.views.how_to_use import KEY_VARIABLE, snippets

PAGE_SIZE = 25


@require_safe
def portal(request: HttpRequest) -> HttpResponse:
    """The list, searchable once it is long."""
    found = my_servers.servers_of(request.user)
    query = request.GET.get("q", "").strip()
    wanted = query.casefold()
    shown = [
        item
        for item in found
        if wanted in f"{item.server.name}\n{item.server.slug}\n{item.server.description}".casefold()
    ]
    page = Paginator(shown, PAGE_SIZE).get_page(request.GET.get("page"))
    context = {"page": page, "total": len(found), "query": query, "searchable": len(found) > 5 or query}
    return render(request, "portal/servers.html", context)


@require_safe
def server(request: HttpRequest, tenant: str, slug: str) -> HttpResponse:
    """One server and how to use it; for everybody else it does not exist."""
    item = my_servers.server_of(request.user, tenant_slug=tenant, slug=slug)
    if item is None:
        raise Http404
    context = {
        "item": item,
        "server": item.server,
        "snippets": snippets(url=item.server.mcp_url, name=item.server.slug),
        "key_variable": KEY_VARIABLE,
    }
    return render(request, "portal/server.html", context)
