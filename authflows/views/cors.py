"""Endpoints of the protocol that web pages of any origin may call; nothing there looks at cookies (RS-15)."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

View = Callable[..., HttpResponse]
# What clients in browsers send besides the plain headers.
_HEADERS = "Authorization, Content-Type, MCP-Protocol-Version"
_PREFLIGHT_SECONDS = 3600


def any_origin(*methods: str) -> Callable[[View], View]:
    """Let any origin call the view with these methods, without cookies: preflight, headers, 405 for the rest."""

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapped(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if request.method == "OPTIONS":
                response = HttpResponse(status=204)
                response.headers["Access-Control-Allow-Methods"] = ", ".join((*methods, "OPTIONS"))
                response.headers["Access-Control-Allow-Headers"] = _HEADERS
                response.headers["Access-Control-Max-Age"] = str(_PREFLIGHT_SECONDS)
            elif request.method in methods:
                response = view(request, *args, **kwargs)
            else:
                response = JsonResponse({"error": "invalid_request", "error_description": "Wrong method."}, status=405)
                response.headers["Allow"] = ", ".join((*methods, "OPTIONS"))
            response.headers["Access-Control-Allow-Origin"] = "*"
            response.headers["Access-Control-Expose-Headers"] = "Retry-After, WWW-Authenticate"
            return response

        return login_not_required(csrf_exempt(wrapped))

    return decorate
