"""People sign in with user name and password: slowly enough that guessing leads nowhere."""

from __future__ import annotations

import logging
import unicodedata
from typing import Any

from django import forms
from django.contrib.auth import authenticate, get_user_model
from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm
from django.http import HttpRequest
from django.utils import timezone

from authflows import throttle
from authflows.throttle import Limit, Rate
from servers import audit
from servers.errors import GatewayError

log = logging.getLogger(__name__)

PASSWORD_HELP = "At least 12 characters, not only digits, nothing that is easy to guess."  # noqa: S105  (a help text)
MINUTE, HOUR = 60, 3600
# Failures that one address may make with one account name.
ACCOUNT_AT_ADDRESS = (Rate(5, MINUTE), Rate(20, HOUR))
# Many people share an address, many addresses can aim at one person. The second is wide on purpose: whoever
# could use it up would lock the owner out.
ADDRESS = (Rate(30, MINUTE), Rate(150, HOUR))
ACCOUNT = (Rate(60, MINUTE), Rate(600, HOUR))


class TooManyAttempts(GatewayError):
    """Wait before the next attempt; `seconds` says how long."""

    code = "too_many_attempts"

    def __init__(self, seconds: int) -> None:
        super().__init__(f"Too many attempts to sign in. Try again in {_duration(seconds)}.")
        self.seconds = seconds


def check(request: HttpRequest, *, username: str, password: str) -> Any | None:
    """The person with this user name and password, or None; recorded in the audit trail either way.

    Raises TooManyAttempts. Every attempt is counted before the password is looked at, so that parallel guesses
    count too, and a good one is taken out of the count.
    """
    address = throttle.client_address(request)
    limits = _limits(username, address)
    wait = throttle.take(limits, now=timezone.now())
    if wait:
        log.warning("sign-in held back", extra={"address": address, "seconds": wait})
        raise TooManyAttempts(wait)
    user = authenticate(request, username=username, password=password)
    if user is None:
        # A name that nobody has may be a password typed into the wrong field: it is never stored.
        account = get_user_model()._default_manager.filter(username=username).first()
        audit.record(
            audit.Action.SIGN_IN_FAILED,
            actor=account.get_username() if account else "unknown",
            subject=account,
            detail={"address": address},
        )
        return None
    throttle.give_back(limits)
    audit.record(audit.Action.SIGN_IN, actor=user.get_username(), subject=user, detail={"address": address})
    return user


class SignInForm(AuthenticationForm):
    """Django's form, with the attempts counted. `retry_after` holds the seconds to wait, if any."""

    retry_after: int | None = None
    error_messages = {
        "invalid_login": "Username and password do not match an account. Check both and try again.",
        "inactive": "Username and password do not match an account. Check both and try again.",
    }

    def clean(self) -> dict[str, Any]:
        username, password = self.cleaned_data.get("username"), self.cleaned_data.get("password")
        if username is None or not password or self.request is None:
            return self.cleaned_data
        try:
            self.user_cache = check(self.request, username=username, password=password)
        except TooManyAttempts as error:
            self.retry_after = error.seconds
            raise forms.ValidationError(error.public_message, code=error.code) from error
        if self.user_cache is None:
            raise self.get_invalid_login_error()
        return self.cleaned_data


class NewPasswordForm(PasswordChangeForm):
    """Django's form; guessing the old password in somebody's open browser is slow too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["new_password1"].help_text = PASSWORD_HELP
        self.fields["new_password2"].label = "New password again"
        self.fields["new_password2"].help_text = ""

    def clean_old_password(self) -> str:
        limits = _own_password_limits(self.user)
        if wait := throttle.take(limits, now=timezone.now()):
            raise forms.ValidationError(f"Too many attempts. Try again in {_duration(wait)}.", code="too_many_attempts")
        old = super().clean_old_password()
        throttle.give_back(limits)
        return str(old)


def is_own_password(user: Any, password: str) -> bool:
    """Whether a signed-in person proves themself anew; raises TooManyAttempts."""
    limits = _own_password_limits(user)
    if wait := throttle.take(limits, now=timezone.now()):
        raise TooManyAttempts(wait)
    good = bool(user.check_password(password))
    if good:
        throttle.give_back(limits)
    return good


def password_changed(user: Any) -> None:
    """Record that a person chose another password."""
    audit.record(audit.Action.PERSON_CHANGE, actor=user.get_username(), subject=user, detail={"fields": ["password"]})


def _own_password_limits(user: Any) -> list[Limit]:
    return [Limit("old password", str(user.pk), ACCOUNT_AT_ADDRESS[0])]


def _limits(username: str, address: str) -> list[Limit]:
    name = unicodedata.normalize("NFKC", username).casefold()
    return [
        *(Limit("sign-in account at address", f"{name}\n{address}", rate) for rate in ACCOUNT_AT_ADDRESS),
        *(Limit("sign-in address", address, rate) for rate in ADDRESS),
        *(Limit("sign-in account", name, rate) for rate in ACCOUNT),
    ]


def _duration(seconds: int) -> str:
    if seconds < 2 * MINUTE:
        return f"{seconds} second{'' if seconds == 1 else 's'}"
    return f"{-(-seconds // MINUTE)} minutes"
