"""My API keys: list, make, revoke."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_safe

from authflows.inbound import api_keys
from authflows.inbound.how_to_use import export_line
from authflows.models import ApiKey
from authflows.views.key_forms import KeyForm, Made

SOON = timedelta(days=7)


def key_rows(user: Any) -> list[dict[str, Any]]:
    """Keys of a person for the lists; working keys come first."""
    now = timezone.now()
    mine = list(ApiKey.objects.filter(owner=user.pk).prefetch_related("servers"))
    mine.sort(key=lambda key: key.state(now) != "active")
    return [
        {
            "key": key,
            "state": key.state(now),
            "ends_soon": key.expires_at is not None and now < key.expires_at < now + SOON,
        }
        for key in mine
    ]


@require_safe
def keys(request: HttpRequest) -> HttpResponse:
    """The list."""
    return render(request, "portal/keys.html", {"rows": key_rows(request.user)})


@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_variables("made")
def new_key(request: HttpRequest) -> HttpResponse:
    """The form, and in the answer to it the key: the only time that it is shown."""
    if request.method != "POST":
        wanted = request.GET.get("server")
        initial = {"scope": "some", "servers": [wanted]} if wanted else {}
        return render(request, "portal/key_new.html", {"form": KeyForm(user=request.user, initial=initial)})
    form = KeyForm(request.POST, user=request.user)
    made = form.make(servers=form.limits()) if form.is_valid() else None
    if made is None:
        form.renew()
        return render(request, "portal/key_new.html", {"form": form})
    if made.token is None:
        warn_made_before(request, made)
        return redirect("my-keys")
    limited_to = list(made.key.servers.select_related("tenant")) if made.key.limited else None
    context = {
        "key": made.key,
        "token": made.token,
        "export_line": export_line(made.token),
        "limited_to": limited_to,
    }
    return render(request, "portal/key_made.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def revoke_key(request: HttpRequest, key_id: UUID) -> HttpResponse:
    """Ask, then refuse the key from now on. Other people's keys do not exist here."""
    key = get_object_or_404(ApiKey, pk=key_id, owner=request.user.pk)
    if request.method == "POST":
        api_keys.revoke_key(key, actor=request.user.get_username())
        messages.success(request, f"The key “{key.name}” is revoked. Programs that send it are refused.")
        return redirect("my-keys")
    if key.state() != "active":
        return redirect("my-keys")
    return render(request, "portal/key_revoke.html", {"key": key})


def warn_made_before(request: HttpRequest, made: Made) -> None:
    """Say that the form was sent before, and so the key is not shown again."""
    messages.warning(
        request,
        f"The key “{made.key.name}” was made already, and its text is shown only once. If you did not copy it, "
        "revoke it and make a new one.",
    )
