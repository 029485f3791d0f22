"""A person connects an identity of a provider to their own account, and takes it off again (F-209).

Whoever may sign in as somebody afterwards is decided here, so nothing on the way may come from outside: the
person proves themself anew, the trip begins in this session and ends in it, and they say yes to what they see.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from authflows.inbound.identity import people_from_claims as people
from authflows.inbound.identity.sso import Trip, provider_with, providers
from authflows.inbound.identity.sso_problems import SignInProblem, denied, known_as
from authflows.models import Identity, IdentityProvider
from authflows.session_store import SIGNED_IN
from servers import audit

_FRESH: Final = timedelta(minutes=10)
_PROVED: Final = "identity_proved_at"
_PROPOSED: Final = "identity_proposed"


def identities_of(user: Any) -> list[tuple[Identity, str]]:
    """The person's identities, each with the name of its provider."""
    names = dict(IdentityProvider.objects.values_list("slug", "name"))
    found = Identity.objects.filter(user=user).order_by("provider", "uid")
    return [(identity, names.get(identity.provider, identity.provider)) for identity in found]


def connectable(user: Any) -> list[IdentityProvider]:
    """Providers that the person can connect: usable, allowed to open the account, and not connected yet."""
    has = set(Identity.objects.filter(user=user).values_list("provider", flat=True))
    return [p for p in providers() if p.slug not in has and people.may_open(p, user)]


def prove(request: HttpRequest) -> None:
    """The person has just given their password."""
    request.session[_PROVED] = timezone.now().isoformat()


def is_proved(request: HttpRequest) -> bool:
    """Whether they gave their password, or signed in if they have none, in the last ten minutes."""
    user: Any = request.user
    text = request.session.get(_PROVED)
    if text is None and not user.has_usable_password():
        text = request.session.get(SIGNED_IN, {}).get("at")
    at = parse_datetime(text) if isinstance(text, str) else None
    return at is not None and timezone.now() - at < _FRESH


def propose(request: HttpRequest, trip: Trip) -> None:
    """Keep what came back until the person says yes; raises SignInProblem."""
    subject = people.subject_of(trip.provider, trip.claims)
    if subject is None:
        raise denied(trip.provider, people.Denial.NO_SUBJECT, trip.claims)
    if not request.user.is_authenticated or trip.user_id != request.user.pk:
        raise SignInProblem(
            "sso_state",
            "This cannot go on",
            "It was begun by somebody else in this browser. Begin again on the page My access.",
            status=400,
            again=True,
        )
    request.session[_PROPOSED] = {
        "provider": trip.provider.slug,
        "subject": subject,
        "label": known_as(trip.provider, trip.claims),
        "user": request.user.pk,
        "at": timezone.now().isoformat(),
    }


def proposed(request: HttpRequest, provider: IdentityProvider) -> dict[str, Any] | None:
    """What waits for the person's yes, if it is of this provider and ten minutes old at most."""
    found = request.session.get(_PROPOSED)
    if not isinstance(found, dict) or (found["provider"], found["user"]) != (provider.slug, request.user.pk):
        return None
    at = parse_datetime(found["at"])
    return found if at is not None and timezone.now() - at < _FRESH else None


def connect(request: HttpRequest, provider: IdentityProvider) -> bool:
    """Connect what was proposed; False when it stands for somebody's account already."""
    found = proposed(request, provider)
    request.session.pop(_PROPOSED, None)
    if found is None or provider_with(provider.slug) is None or not people.may_open(provider, request.user):
        return False
    return add(request.user, provider, found["subject"], actor=request.user.get_username()) is not None


def add(user: Any, provider: IdentityProvider, subject: str, *, actor: str) -> Identity | None:
    """Let this subject of the provider sign in as `user`; None when it signs somebody in already."""
    try:
        with transaction.atomic():
            identity = Identity.objects.create(user=user, provider=provider.slug, uid=subject)
            audit.record(
                audit.Action.IDENTITY_ADD,
                actor=actor,
                subject=user,
                tenant=provider.tenant,
                detail={"provider": provider.slug, "identity": identity.uid},
            )
    except IntegrityError:
        return None
    return identity


def remove(identity: Identity, *, actor: str) -> None:
    """End it: this subject signs in as nobody."""
    provider = IdentityProvider.objects.filter(slug=identity.provider).first()
    with transaction.atomic():
        detail = {"provider": identity.provider, "identity": identity.uid}
        user, tenant = identity.user, provider.tenant if provider else None
        identity.delete()
        audit.record(audit.Action.IDENTITY_REMOVE, actor=actor, subject=user, tenant=tenant, detail=detail)
