"""The playground's own way to a server: MCP messages of a page, authenticated by its session instead of a token."""

from __future__ import annotations

from typing import Final

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.views.decorators.http import require_POST

from proxy.inside import ask
from proxy.pipeline import Inside

CREDENTIAL: Final = "session"
"""As records name what opened the door."""
AGENT: Final = "Gatehouse playground"
_MCP_HEADERS: Final = ("mcp-protocol-version", "mcp-method", "mcp-name")
_PARAMETER: Final = "mcp-param-"


@require_POST
@login_not_required  # A script gets a sentence instead of the sign-in page.
async def mcp(request: HttpRequest, tenant: str, slug: str) -> HttpResponseBase:
    """Pass one message on as the signed-in person; the answer streams back as it comes."""
    person = await request.auser()
    if not person.is_authenticated:
        return signed_out()
    headers = [
        (name, value)
        for name, value in ((name.lower(), value) for name, value in request.headers.items())
        if name in _MCP_HEADERS or name.startswith(_PARAMETER)
    ]
    answer = await ask(
        Inside(person.pk, CREDENTIAL), tenant=tenant, slug=slug, body=request.body, headers=headers, agent=AGENT
    )
    # Its other headers are about the connection.
    content_type = answer.headers.get("content-type")
    return StreamingHttpResponse(answer.pieces, status=answer.status, content_type=content_type)


def signed_out() -> JsonResponse:
    """What a script of a page is told whose session has ended."""
    text = "You are signed out. Reload the page and sign in again."
    return JsonResponse({"code": "signed_out", "detail": text}, status=401)
