"""My sign-in identities: connect one of a provider to one's own account, take one off."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from authflows.inbound import sign_in
from authflows.inbound.identity import my_identities, sso
from authflows.inbound.identity.sso import Purpose
from authflows.models import Identity
from authflows.views.sso import to_provider


class PasswordForm(forms.Form):
    """The own password again."""

    password = forms.CharField(
        strip=False, widget=forms.PasswordInput(attrs={"autocomplete": "current-password", "autofocus": True})
    )


@require_http_methods(["GET", "HEAD"])
def identities(request: HttpRequest) -> HttpResponse:
    """How the person can sign in."""
    user: Any = request.user
    context = {
        "identities": my_identities.identities_of(request.user),
        "connectable": my_identities.connectable(request.user),
        "has_password": user.has_usable_password(),
    }
    return render(request, "portal/identities.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
def connect(request: HttpRequest, slug: str) -> HttpResponse:
    """Prove who you are; go there; say yes to what came back. One address, the page says which step it is."""
    provider = next((p for p in my_identities.connectable(request.user) if p.slug == slug), None)
    if provider is None:
        return redirect("my-identities")
    context: dict[str, Any] = {"provider": provider, "proposed": my_identities.proposed(request, provider)}
    if request.method == "POST" and context["proposed"] and "connect" in request.POST:
        if my_identities.connect(request, provider):
            messages.success(request, f"You can sign in with {provider.name} now.")
        else:
            messages.error(
                request, f"This identity of {provider.name} belongs to another account here. An admin can move it."
            )
        return redirect("my-identities")
    form = PasswordForm(request.POST if request.method == "POST" and "password" in request.POST else None)
    if form.is_valid() and _password_is_right(request, form):
        my_identities.prove(request)
        return redirect("my-identity-connect", slug)
    context |= {"form": form, "proved": my_identities.is_proved(request)}
    return render(request, "portal/identity_connect.html", context)


@require_GET
def start(request: HttpRequest, slug: str) -> HttpResponse:
    """The link that leaves for the provider; without a fresh proof it leads back to the page before it."""
    provider = next((p for p in my_identities.connectable(request.user) if p.slug == slug), None)
    if provider is None or not my_identities.is_proved(request):
        return redirect("my-identity-connect", slug)
    return to_provider(request, provider, purpose=Purpose.CONNECT)


@require_POST
def remove(request: HttpRequest, identity_id: int) -> HttpResponse:
    """Take one off; not the last way in of somebody without a password."""
    user: Any = request.user
    identity = get_object_or_404(Identity, pk=identity_id, user=user)
    others = Identity.objects.filter(user=user).exclude(pk=identity.pk)
    others = others.filter(provider__in=[provider.slug for provider in sso.providers()])
    if not user.has_usable_password() and not others.exists():
        messages.error(request, "This is your only way in. Connect another one first, or ask an admin for a password.")
    else:
        my_identities.remove(identity, actor=request.user.get_username())
        messages.success(request, "Disconnected: it does not sign you in any more.")
    return redirect("my-identities")


def _password_is_right(request: HttpRequest, form: PasswordForm) -> bool:
    try:
        good = sign_in.is_own_password(request.user, form.cleaned_data["password"])
    except sign_in.TooManyAttempts as error:
        form.add_error("password", error.public_message)
        return False
    if not good:
        form.add_error("password", "This is not your password. Check it and try again.")
    return good
