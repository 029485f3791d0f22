"""What the server list can do only because the proxy is here: test several connections at once."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from proxy.views import MOST_AT_ONCE, test_several
from servers.admin.servers import ServerAdmin
from servers.models import Server


@admin.action(description="Test connection of selected servers")
def test_connections(page: Any, request: HttpRequest, queryset: QuerySet[Server]) -> HttpResponse | None:
    """Test up to 50 servers and show a line for each."""
    servers = list(queryset.exclude(kind=Server.Kind.VIRTUAL).select_related("tenant")[: MOST_AT_ONCE + 1])
    if not servers:
        page.message_user(request, "A virtual server has no address of its own: test its members.", messages.WARNING)
        return None
    if len(servers) > MOST_AT_ONCE:
        page.message_user(request, f"Choose at most {MOST_AT_ONCE} servers for one test.", messages.ERROR)
        return None
    return test_several(request, servers)


ServerAdmin.actions = [test_connections, *(ServerAdmin.actions or ())]
