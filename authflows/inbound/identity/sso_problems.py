"""What can go wrong between a person and an identity provider, each with its sentence and its one next step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from social_core.exceptions import (
    AuthCanceled,
    AuthConfigurationError,
    AuthProviderError,
    SocialAuthBaseException,
)

from authflows.inbound.identity import people_from_claims as people
from authflows.inbound.identity.people_from_claims import Denial
from authflows.models import IdentityProvider
from servers.errors import GatewayError
from servers.request_id import current_request_id

_LONGEST_QUOTE: Final = 200
_LOST: Final = frozenset({"session_context_missing", "state_mismatch", "missing_parameter", "user_mismatch"})
_AGAIN: Final = frozenset({"authorization_code_rejected", "nonce_mismatch", "response_expired"})
_UNREACHABLE: Final = frozenset({"connection_failed", "timeout", "tls_error", "unavailable", "rate_limited"})


class SignInProblem(GatewayError):
    """A sign-in that ends here.

    `again` says that trying again is the next step; otherwise it is an admin, who is told `facts`. `said` is text
    of the provider, shortened; a page shows it as that and escaped (T25).
    """

    def __init__(
        self,
        code: str,
        title: str,
        message: str,
        *,
        status: int,
        again: bool = False,
        said: object = "",
        facts: Mapping[str, object] | None = None,
        person: Any = None,
        log_detail: str = "",
        retry_after: int | None = None,
    ) -> None:
        super().__init__(message, log_detail)
        self.code = code
        self.title = title
        self.status = status
        self.again = again
        self.said = quoted(said)
        self.facts = {label: quoted(value) for label, value in (facts or {}).items() if value}
        self.person = person
        self.retry_after = retry_after
        self.next_url = ""
        self.test = False


def quoted(text: object) -> str:
    """Somebody else's text as one short line."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= _LONGEST_QUOTE else f"{line[: _LONGEST_QUOTE - 1]}…"


def problem_of(provider: IdentityProvider, error: Exception) -> SignInProblem:
    """The problem behind a failure of social-core, of our door or of a secret."""
    if isinstance(error, SignInProblem):
        return error
    if isinstance(error, SocialAuthBaseException):
        return _of_the_protocol(provider, error)
    detail = f"{error.public_message} {error.log_detail}" if isinstance(error, GatewayError) else repr(error)
    return misfit(provider, getattr(error, "code", "error"), detail)


def _of_the_protocol(provider: IdentityProvider, error: SocialAuthBaseException) -> SignInProblem:
    where = f"{error.code} at {error.stage}" + (f" ({error.claim or error.parameter})" if error.claim else "")
    detail = f"{where}: {error.detail}"
    from_callback = error.provider_code is not None and error.stage == "callback"
    if isinstance(error, AuthCanceled):
        return SignInProblem(
            "sso_canceled",
            "You are not signed in",
            f"Signing in with {provider.name} was called off, there or by you.",
            status=403,
            again=True,
            said=error.detail,
            log_detail=detail,
        )
    if error.source in ("session", "request") and error.code in _LOST:
        return SignInProblem(
            "sso_state",
            "This sign-in cannot go on",
            "It was begun in another browser or more than ten minutes ago, or its answer was used before.",
            status=400,
            again=True,
            log_detail=detail,
        )
    if from_callback and not (isinstance(error, AuthProviderError) and error.code in _UNREACHABLE):
        return SignInProblem(
            "sso_refused",
            f"{provider.name} did not let you in",
            "The gateway cannot change that. An admin may have to look at how it is registered there.",
            status=403,
            said=error.detail or error.provider_code,
            facts=_facts(provider, {"Error": error.provider_code}),
            log_detail=detail,
        )
    if error.code in _AGAIN:
        return SignInProblem(
            "sso_expired",
            "This sign-in took too long",
            f"What {provider.name} said is not valid any more.",
            status=400,
            again=True,
            log_detail=detail,
        )
    if isinstance(error, AuthProviderError) and error.code in _UNREACHABLE and error.code != "tls_error":
        return SignInProblem(
            "sso_unreachable",
            f"{provider.name} does not answer",
            "The gateway cannot reach it at the moment. Wait a minute. If it stays so, tell an admin.",
            status=502,
            again=True,
            log_detail=detail,
        )
    if isinstance(error, AuthConfigurationError) and error.provider_code:
        detail = f"{detail} [{error.provider_code}]"
    return misfit(provider, where, detail)


def misfit(provider: IdentityProvider, what: str, detail: str = "") -> SignInProblem:
    """The settings here and there do not match."""
    return SignInProblem(
        "sso_misconfigured",
        f"Signing in with {provider.name} does not work",
        "What it answered could not be accepted. An admin has to look at the settings of this provider.",
        status=502,
        facts=_facts(provider, {"Step": what}),
        log_detail=detail or what,
    )


def too_many(seconds: int) -> SignInProblem:
    """Too many trips from this address."""
    wait = f"{seconds} seconds" if seconds < 120 else f"{-(-seconds // 60)} minutes"
    return SignInProblem(
        "too_many_attempts",
        "Too many sign-ins at once",
        f"Too many people or programs are signing in from your network. Try again in {wait}.",
        status=429,
        again=True,
        retry_after=seconds,
    )


def disabled(provider: IdentityProvider, person: Any) -> SignInProblem:
    """The person is known and may not come in."""
    return SignInProblem(
        "account_disabled",
        "Your account is disabled",
        f"{provider.name} knows you, but your account at this gateway is switched off. An admin can switch it on.",
        status=403,
        facts=_facts(provider, {"Account": person.get_username()}),
        person=person,
    )


def groups_left_out(provider: IdentityProvider) -> SignInProblem:
    """Entra names no groups when there are too many."""
    return SignInProblem(
        "groups_left_out",
        "You are in too many groups",
        f"{provider.name} did not say which groups you are in, because there are too many, and the gateway needs to "
        "know. An admin can limit what it sends to the groups that are assigned to the application.",
        status=403,
        facts=_facts(provider, {}),
    )


_DENIED: Final = {
    Denial.NO_SUBJECT: "It did not say who you are in a way that the gateway can keep.",
    Denial.NOBODY_IS_CREATED: "It knows you, but nobody has made an account for you here yet.",
    Denial.EMAIL_UNVERIFIED: "It knows you, but it did not say that you have an e-mail address that it has checked, "
    "which is needed for an account here.",
    Denial.OTHER_DOMAIN: "It knows you, but your e-mail address is not of an organisation that gets accounts here.",
    Denial.NOT_IN_A_GROUP: "It knows you, but you are in none of the groups that get accounts here.",
    Denial.OUT_OF_REACH: "It knows you, but it may not open your account here, which reaches further than this "
    "provider does. Sign in with your password.",
}


def denied(provider: IdentityProvider, reason: Denial, claims: Mapping[str, Any]) -> SignInProblem:
    """The provider knows the person, we do not let them in."""
    return SignInProblem(
        f"sso_{reason}",
        "You have no account here" if reason != Denial.OUT_OF_REACH else "Not this way",
        f"You signed in with {provider.name}. {_DENIED[reason]}",
        status=403,
        facts=_facts(
            provider,
            {
                "Known there as": known_as(provider, claims),
                "Subject": people.subject_of(provider, claims),
            },
        ),
    )


def known_as(provider: IdentityProvider, claims: Mapping[str, Any]) -> str:
    """User name and address, as far as the provider names them, for people to recognise."""
    found = [claims.get("preferred_username") or claims.get("name"), claims.get("email")]
    return ", ".join(dict.fromkeys(quoted(value) for value in found if isinstance(value, str) and value))


def _facts(provider: IdentityProvider, more: Mapping[str, object]) -> dict[str, object]:
    return {"Provider": f"{provider.name} ({provider.slug})", **more, "Request": current_request_id()}
