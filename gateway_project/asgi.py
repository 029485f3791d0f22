"""The one ASGI application: MCP paths go to the Channels consumer, everything else to Django.

It runs unchanged under uvicorn (`manage.py serve`) and Daphne (`manage.py runserver`).
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Awaitable
from typing import Any

from asgiref.sync import markcoroutinefunction
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
_SWITCH_SECONDS = 0.0005
django_application = get_asgi_application()

from gateway_project.page_bodies import serve_page
from proxy import runtime
from proxy.consumers import McpConsumer, mcp_route


# Marked, because servers that look (Daphne's command) take a plain function for an application of ASGI 2.
@markcoroutinefunction
def application(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
    """Route one ASGI scope: a plain function, so that no coroutine stands between server and consumer."""
    if scope["type"] == "http":
        # Daphne takes a root path from a header that any client may send; ours is fixed.
        scope["root_path"] = ""
        route = mcp_route(scope["path"])
        if route is not None:
            scope["mcp_route"] = route
            return McpConsumer()(scope, receive, send)
        return serve_page(django_application, scope, receive, send)
    if scope["type"] == "lifespan":
        return _lifespan(scope, receive, send)
    raise ValueError(f"{scope['type']} is not served")


async def _lifespan(scope: Any, receive: Any, send: Any) -> None:
    while True:
        event = await receive()
        if event["type"] == "lifespan.startup":
            await runtime.start()
            scope.setdefault("state", {})[runtime.STATE_KEY] = runtime.current_runtime()
            _rest_the_collector()
            # Whoever holds the interpreter lock gives it up after so long when the event loop waits for it. By default
            # that is 5 ms, by which a thread that makes a long list could delay every call.
            sys.setswitchinterval(_SWITCH_SECONDS)
            await send({"type": "lifespan.startup.complete"})
        elif event["type"] == "lifespan.shutdown":
            await runtime.stop()
            await send({"type": "lifespan.shutdown.complete"})
            return


def _rest_the_collector() -> None:
    """Leave out of garbage collection what is loaded by now: it lives as long as the process.

    And collect less often: a call makes no reference cycles. Together worth about 6 % of a call. Not more seldom than
    this, because what is new since the last collection is looked at in one go: a long catalogue is some ten thousands.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 1, 2_000)
