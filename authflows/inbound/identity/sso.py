"""People sign in with an identity provider: there, back, and what can go wrong on the way (F-209, AZ-25)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth import login
from django.db import transaction
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from social_core.exceptions import SocialAuthBaseException
from social_django.models import Association, Nonce

from authflows import throttle
from authflows.inbound.identity import people_from_claims as people
from authflows.inbound.identity.sso_backends import Answer, ProviderBackend, backend_for
from authflows.inbound.identity.sso_problems import (
    SignInProblem,
    denied,
    disabled,
    groups_left_out,
    misfit,
    problem_of,
    too_many,
)
from authflows.models import IdentityProvider
from authflows.throttle import Limit, Rate
from servers import audit
from servers.errors import GatewayError

log = logging.getLogger(__name__)

MINUTE, HOUR = 60, 3600
# An office shares an address, and all of it may come in the same minute. What ends well is given back.
_TRIPS_OF_AN_ADDRESS: Final = (Rate(120, MINUTE), Rate(1500, HOUR))
_ANSWERS_TO_AN_ADDRESS: Final = (Rate(60, MINUTE), Rate(600, HOUR))
_LOCAL_BACKEND: Final = "django.contrib.auth.backends.ModelBackend"


class Purpose(StrEnum):
    """Why somebody is sent to the provider."""

    SIGN_IN = "sign_in"
    TEST = "test"
    CONNECT = "connect"


@dataclass(frozen=True, slots=True)
class Trip:
    """Somebody is back from the provider; nothing has been done yet."""

    provider: IdentityProvider
    purpose: Purpose
    claims: Mapping[str, Any]
    next_url: str
    user_id: int | None
    """Who was signed in when the trip began, for the purposes that need it."""


def providers() -> list[IdentityProvider]:
    """Those that stand on the sign-in page."""
    return list(_usable().order_by("name"))


def provider_with(slug: str) -> IdentityProvider | None:
    """One that people sign in with."""
    found: IdentityProvider | None = _usable().filter(slug=slug).first()
    return found


def _usable() -> Any:
    rows = IdentityProvider.objects.select_related("tenant")
    return rows.filter(enabled=True, sign_in=True).exclude(client_id="")


def callback_path(provider: IdentityProvider) -> str:
    """The path of the redirect URI."""
    return reverse("sso-callback", args=[provider.slug])


def redirect_uri(provider: IdentityProvider) -> str:
    """The redirect URI, as it has to be registered at the provider."""
    return f"{settings.PUBLIC_URL}{callback_path(provider)}"


def start_url(provider: IdentityProvider, *, next_url: str = "") -> str:
    """Where a trip begins: at the public origin, because the browser's session has to be there on the way back."""
    query = f"?{urlencode({'next': next_url})}" if next_url else ""
    return f"{settings.PUBLIC_URL}{reverse('sso-start', args=[provider.slug])}{query}"


def begin(
    request: HttpRequest, provider: IdentityProvider, *, purpose: Purpose = Purpose.SIGN_IN, next_url: str = ""
) -> str:
    """The URL at the provider to send the browser to; raises SignInProblem.

    `next_url` has been checked by the caller. What the trip is for is kept in the session, under its state.
    """
    if wait := throttle.take(_limits("sso start", request, _TRIPS_OF_AN_ADDRESS), now=timezone.now()):
        raise too_many(wait)
    note = {"purpose": purpose.value, "next": next_url, "user": request.user.pk}
    backend = backend_for(provider, request, callback=callback_path(provider), note=note)
    try:
        return str(backend.auth_url())
    except (SocialAuthBaseException, GatewayError) as error:
        raise _explained(request, backend, error) from error


def finish(request: HttpRequest, provider: IdentityProvider) -> Trip:
    """Take the provider's answer to the request that `begin` made in this browser; raises SignInProblem.

    An answer counts once, in this session, for ten minutes, from this provider.
    """
    limits = _limits("sso callback", request, _ANSWERS_TO_AN_ADDRESS)
    if wait := throttle.take(limits, now=timezone.now()):
        raise too_many(wait)
    backend = backend_for(provider, request, callback=callback_path(provider))
    try:
        answer = backend.complete()
    except (SocialAuthBaseException, GatewayError) as error:
        raise _explained(request, backend, error) from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        # Nothing that a provider sends may end in a page without a next step.
        log.exception("the answer of %s cannot be read", provider.slug)
        raise _explained(request, backend, misfit(provider, "malformed answer")) from error
    if not isinstance(answer, Answer):
        raise _explained(request, backend, misfit(provider, "no answer"))
    throttle.give_back([*limits, *_limits("sso start", request, _TRIPS_OF_AN_ADDRESS)])
    return Trip(provider, _purpose(answer.note), answer.claims, str(answer.note.get("next", "")), answer.note["user"])


def sign_in(request: HttpRequest, trip: Trip) -> Any:
    """Sign the person in whom the claims name, made now if the provider's rule allows; raises SignInProblem."""
    provider, claims = trip.provider, trip.claims
    try:
        check_groups(provider, claims)
        user = people.person_for(provider, claims)
        if isinstance(user, people.Denied):
            raise denied(provider, user.reason, claims)
        if not user.is_active:
            raise disabled(provider, user)
    except SignInProblem as problem:
        problem.next_url = trip.next_url
        _record_failure(request, provider, problem)
        raise
    with transaction.atomic():
        people.sync_teams(user, provider, claims)
        audit.record(
            audit.Action.SIGN_IN,
            actor=user.get_username(),
            subject=user,
            detail={"address": throttle.client_address(request), "provider": provider.slug},
        )
    login(request, user, backend=_LOCAL_BACKEND)
    return user


def abandoned(now: datetime) -> list[tuple[str, Any]]:
    """Rows of trips that nobody came back from, for `prune`."""
    old = int((now - timedelta(days=1)).timestamp())
    return [("sign-ins begun", Nonce.objects.filter(timestamp__lt=old)),
            ("sign-in nonces", Association.objects.filter(issued__lt=old))]  # fmt: skip


def check_groups(provider: IdentityProvider, claims: Mapping[str, Any]) -> None:
    """Raise SignInProblem when groups decide something here and the provider left them out.

    Going on with the teams of last time would keep rights that the person may have lost.
    """
    if not provider.groups_claim or people.groups_of(provider, claims) is not None:
        return
    if provider.creation == IdentityProvider.Creation.GROUPS or provider.team_mappings.exists():
        raise groups_left_out(provider)


def _explained(request: HttpRequest, backend: ProviderBackend, error: Exception) -> SignInProblem:
    problem = problem_of(backend.provider, error)
    problem.next_url = str(backend.note.get("next", ""))
    problem.test = _purpose(backend.note) is Purpose.TEST
    log.warning(
        "sign-in with %s failed: %s", backend.provider.slug, problem.code, extra={"detail": problem.log_detail[:500]}
    )
    if not problem.test:
        _record_failure(request, backend.provider, problem)
    return problem


def _purpose(note: Mapping[str, Any]) -> Purpose:
    return Purpose(note.get("purpose", Purpose.SIGN_IN))


def _record_failure(request: HttpRequest, provider: IdentityProvider, problem: SignInProblem) -> None:
    if problem.code == "sso_canceled":
        return
    audit.record(
        audit.Action.SIGN_IN_FAILED,
        actor=problem.person.get_username() if problem.person else "unknown",
        subject=problem.person,
        tenant=provider.tenant,
        detail={"address": throttle.client_address(request), "provider": provider.slug, "reason": problem.code},
    )


def _limits(what: str, request: HttpRequest, rates: Iterable[Rate]) -> list[Limit]:
    address = throttle.client_address(request)
    return [Limit(what, address, rate) for rate in rates]
