"""Sign in and out; choose another password."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.views import LoginView, LogoutView, PasswordChangeView
from django.http import HttpResponse
from django.urls import reverse_lazy

from authflows.inbound import first_admin
from authflows.inbound.identity import sso
from authflows.inbound.oauth.authorization import redirect_target
from authflows.inbound.sign_in import NewPasswordForm, SignInForm, password_changed
from authflows.views.csp import allow_form_target


class SignIn(LoginView):
    """Identity providers as links, user name and password; then on to `next`, if that is a page of ours."""

    template_name = "authflows/sign_in.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def form_invalid(self, form: Any) -> HttpResponse:
        response = super().form_invalid(form)
        if form.retry_after is not None:
            response.status_code = 429
            response.headers["Retry-After"] = str(form.retry_after)
        return response

    def render_to_response(self, context: dict[str, Any], **kwargs: Any) -> HttpResponse:
        response = super().render_to_response(context, **kwargs)
        # From here the trip may lead straight back to the client that sent the browser.
        if (target := redirect_target(self.get_redirect_url())) is not None:
            allow_form_target(response, target)
        return response

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context = super().get_context_data(no_admin_yet=not first_admin.admin_exists(), **kwargs)
        next_url = str(context[self.redirect_field_name])
        context["providers"] = [(provider, sso.start_url(provider, next_url=next_url)) for provider in sso.providers()]
        return context


class SignOut(LogoutView):
    """Ends the session; POST only."""


class NewPassword(PasswordChangeView):
    """A new password for the person who knows the old one; ends their sessions elsewhere."""

    template_name = "authflows/new_password.html"
    form_class = NewPasswordForm
    success_url = reverse_lazy("portal")

    def form_valid(self, form: Any) -> HttpResponse:
        response = super().form_valid(form)
        password_changed(self.request.user)
        messages.success(self.request, "Your password is changed. Other browsers that were signed in are out.")
        return response
