"""Sign in and out."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpResponse

from authflows.inbound import first_admin
from authflows.inbound.sign_in import SignInForm


class SignIn(LoginView):
    """User name and password; then on to `next`, if that is a page of ours."""

    template_name = "authflows/sign_in.html"
    authentication_form = SignInForm
    redirect_authenticated_user = True

    def form_invalid(self, form: Any) -> HttpResponse:
        response = super().form_invalid(form)
        if form.retry_after is not None:
            response.status_code = 429
            response.headers["Retry-After"] = str(form.retry_after)
        return response

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(no_admin_yet=not first_admin.admin_exists(), **kwargs)


class SignOut(LogoutView):
    """Ends the session; POST only."""
