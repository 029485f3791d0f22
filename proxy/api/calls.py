"""Call a tool. Thin; see calling.py."""

from __future__ import annotations

from rest_framework.request import Request
from rest_framework.response import Response

from proxy.api.calling import call_tool
from proxy.api.operations import Operation
from proxy.api.servers import TAG, ServerView
from proxy.api.shapes import CallShape, CallTaken


class Calls(ServerView):
    throttle_classes = ()  # as for MCP clients
    operations = {
        "post": Operation(
            "call_tool",
            "Call a tool",
            TAG,
            CallShape,
            takes=CallTaken,
            problems=(
                "unknown_server",
                "server_disabled",
                "not_connected",
                "input_required",
                "too_large",
                "call_refused",
                "mcp_error",
                "server_failed",
                "server_resting",
                "server_timeout",
                "not_ready",
            ),
            text="With the access, credential and record of every call. A tool that fails answers 200 with `isError` "
            "in its result, as MCP has it. A call that may have run is never sent again by the gateway.",
        )
    }

    def post(self, request: Request, tenant: str, slug: str) -> Response:
        taken = self.taken()
        usable = self.usable(tenant, slug)
        return self.answer(call_tool(self.caller, usable, tool=taken["tool"], arguments=taken["arguments"]))
