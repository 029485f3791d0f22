"""The Content-Security-Policy of pages whose form leads out of the gateway."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpResponse


def allow_form_target(response: HttpResponse, url: str) -> None:
    """Let a form on this page end at `url`: browsers apply `form-action` to redirects too.

    Only origin or scheme go into the header, never a path that a stranger chose.
    """
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
        source = f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}"
    else:
        source = f"{parts.scheme}:"
    policy = {**settings.SECURE_CSP, "form-action": ["'self'", source]}
    response.headers["Content-Security-Policy"] = "; ".join(f"{name} {' '.join(v)}" for name, v in policy.items())
