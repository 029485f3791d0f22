"""Who I am, the servers that I may use, and their tools. Thin."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from jiter import from_json
from rest_framework.request import Request
from rest_framework.response import Response

from authflows.models import VirtualAccount
from proxy.api.operations import ApiView, Operation
from proxy.api.problems import Problem
from proxy.api.shapes import MeShape, ServerQuery, ServerShape, ToolQuery, ToolShape
from proxy.api.tools import Tool, tools_of
from servers.models import Tenant
from servers.usable import Usable, usable_at, usable_by

TAG: Final = "Servers and tools"


class Me(ApiView):
    operations = {"get": Operation("me", "Who I am here", "Me", MeShape)}

    def get(self, request: Request) -> Response:
        principal = self.caller.principal
        ends = principal.credential_expires_at
        return self.answer(
            {
                "username": self.caller.user.get_username(),
                "program": VirtualAccount.objects.filter(user=self.caller.user).exists(),
                "credential": principal.credential,
                "limited": principal.limited_to is not None,
                "expires_at": datetime.fromtimestamp(ends, UTC) if ends is not None else None,
                "tenants": Tenant.objects.filter(pk__in=principal.tenants).values_list("slug", flat=True),
            }
        )


class ServerList(ApiView):
    operations = {
        "get": Operation("list_servers", "The servers that I may use", TAG, ServerShape, query=ServerQuery, paged=True)
    }

    def get(self, request: Request) -> Response:
        asked = self.asked()
        return self.page([one for one in usable_by(self.caller.principal) if _is_asked_for(one, asked)], asked)


def _is_asked_for(usable: Usable, asked: dict[str, Any]) -> bool:
    server, group = usable.server, usable.server.group
    text = f"{server.name}\n{server.slug}\n{server.description}".casefold()
    if asked.get("q", "").strip().casefold() not in text:
        return False
    if asked.get("tenant") not in (None, server.tenant.slug):
        return False
    return asked.get("group") is None or (group is not None and asked["group"] in (group.name, group.slug))


class ServerView(ApiView):
    """Base of what is about one server."""

    def usable(self, tenant: str, slug: str) -> Usable:
        """The server, if the caller may use it; raises Problem."""
        found = usable_at(self.caller.principal, tenant=tenant, slug=slug)
        if found is None:
            raise Problem("unknown_server")
        return found


class OneServer(ServerView):
    operations = {"get": Operation("get_server", "One server", TAG, ServerShape, problems=("unknown_server",))}

    def get(self, request: Request, tenant: str, slug: str) -> Response:
        return self.answer(self.usable(tenant, slug))


class ToolList(ServerView):
    operations = {
        "get": Operation(
            "list_tools",
            "The tools of a server that I may call",
            TAG,
            ToolShape,
            query=ToolQuery,
            paged=True,
            problems=("unknown_server", "not_ready"),
            text="Out of the catalogue that the gateway keeps: the server is not asked. A virtual server's tools have "
            "the names that it shows. Until a catalogue was read for the first time the answer is `not_ready`.",
        )
    }

    def get(self, request: Request, tenant: str, slug: str) -> Response:
        asked = self.asked()
        found = tools_of(self.caller, self.usable(tenant, slug))
        if not found.known and not found.tools:
            raise Problem(
                "not_ready",
                "What this server offers is not known yet. Connect it and call it once, or ask its manager to read its "
                "catalogue.",
                retry_after=10,
            )
        wanted = asked.get("q", "").casefold()
        return self.page([tool for tool in found.tools if wanted in tool.name.casefold()], asked, _definition)


class OneTool(ServerView):
    operations = {"get": Operation("get_tool", "One tool", TAG, ToolShape, problems=("unknown_server", "unknown_tool"))}

    def get(self, request: Request, tenant: str, slug: str, tool: str) -> Response:
        found = tools_of(self.caller, self.usable(tenant, slug)).find(tool)
        if found is None:
            raise Problem("unknown_tool")
        return self.answer(_definition(found))


def _definition(tool: Tool) -> Any:
    return from_json(tool.text.encode())
