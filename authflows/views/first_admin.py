"""The pages behind the one-time link of the first admin."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth import get_user_model, login
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.forms import UserCreationForm
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from authflows.inbound import first_admin
from authflows.inbound.first_admin import LinkState, LinkUnusable
from authflows.inbound.sign_in import PASSWORD_HELP

_SESSION_KEY = "first_admin_link"


class FirstAdminForm(UserCreationForm):  # type: ignore[type-arg]
    """User name, e-mail address and the password twice."""

    email = forms.EmailField(label="E-mail address", widget=forms.EmailInput(attrs={"autocomplete": "email"}))

    class Meta(UserCreationForm.Meta):
        model = get_user_model()
        fields = ("username", "email")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, text in (
            ("username", "Letters, digits and @ . + - _"),
            ("password1", PASSWORD_HELP),
            ("password2", ""),
        ):
            self.fields[name].help_text = text


@login_not_required
@require_safe
def open_link(request: HttpRequest, token: str) -> HttpResponse:
    """Take the token out of the address bar: on to the form, which knows the link by the session.

    The form itself cannot forbid the Referer, since a browser would then send `Origin: null` with it.
    """
    digest = first_admin.digest_of(token)
    state = first_admin.state_of(digest)
    if state is LinkState.USABLE:
        request.session[_SESSION_KEY] = digest
        response: HttpResponse = redirect("first-admin")
    else:
        response = _unusable(request, state)
    response.headers["Referrer-Policy"] = "no-referrer"
    return response


@login_not_required
@require_http_methods(["GET", "HEAD", "POST"])
def create(request: HttpRequest) -> HttpResponse:
    """The form; when it is filled in well, the account, signed in, on its way to the admin."""
    digest = request.session.get(_SESSION_KEY, "")
    state = first_admin.state_of(digest)
    if state is not LinkState.USABLE:
        return _unusable(request, state)
    form = FirstAdminForm(request.POST or None)
    if not form.is_valid():
        return render(request, "authflows/first_admin.html", {"form": form})
    user = form.save(commit=False)
    try:
        first_admin.create(digest, user=user)
    except LinkUnusable as error:
        return _unusable(request, error.state)
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return redirect("admin:index")


def _unusable(request: HttpRequest, state: LinkState) -> HttpResponse:
    status = 404 if state is LinkState.UNKNOWN else 410
    return render(request, "authflows/first_admin_unusable.html", {"state": state.value}, status=status)
