"""My access: approved clients, keys and sign-in sessions of the signed-in person, each with its end."""

from __future__ import annotations

from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from authflows.inbound import my_sessions
from authflows.inbound.oauth import approvals
from authflows.views.my_keys import key_rows


@require_safe
def access(request: HttpRequest) -> HttpResponse:
    """The page; keys that no longer work are only counted here."""
    rows = key_rows(request.user)
    working = [row for row in rows if row["state"] == "active"]
    context = {
        "approvals": approvals.approvals_of(request.user),
        "rows": working,
        "ended_keys": len(rows) - len(working),
        "sessions": my_sessions.sessions_of(request.user, current=request.session.session_key),
    }
    return render(request, "portal/access.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def revoke_approval(request: HttpRequest, approval_id: UUID) -> HttpResponse:
    """Ask, then end what the client may do. Approvals of other people do not exist here."""
    approval = get_object_or_404(approvals.approvals_of(request.user), pk=approval_id)
    if request.method == "POST":
        approvals.revoke(approval, actor=request.user.get_username())
        messages.success(
            request,
            f"“{approval.client}” may no longer use {approval.opens}. Its next call is refused and its open streams "
            "end.",
        )
        return redirect("my-access")
    return render(request, "portal/approval_revoke.html", {"approval": approval})


@require_POST
def end_session(request: HttpRequest) -> HttpResponse:
    """Sign one other browser out."""
    if my_sessions.end(request.user, digest=request.POST.get("session", "")):
        messages.success(request, "That browser is signed out.")
    else:
        messages.info(request, "That session had ended already.")
    return redirect("my-access")


@require_POST
def end_other_sessions(request: HttpRequest) -> HttpResponse:
    """Sign every other browser out."""
    ended = my_sessions.end_others(request.user, current=request.session.session_key)
    browsers = "1 other browser is" if ended == 1 else f"{ended} other browsers are"
    messages.success(request, f"{browsers} signed out." if ended else "You were signed in nowhere else.")
    return redirect("my-access")
