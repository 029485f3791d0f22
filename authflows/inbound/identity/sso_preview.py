"""Test this provider: the whole trip in an admin's browser, and what would come of it; nothing is done (F-209)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.http import HttpRequest

from authflows.inbound.identity import people_from_claims as people
from authflows.inbound.identity import sso
from authflows.inbound.identity.sso import Trip
from authflows.inbound.identity.sso_problems import SignInProblem, denied, disabled
from authflows.models import Identity, IdentityProvider
from servers.links import admin_url
from servers.people import person_label
from servers.scope import scope_of_request

_LONGEST_VALUE = 400


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a sign-in with these claims would do."""

    sentence: str
    good: bool
    add_url: str = ""


def may_see(request: HttpRequest, provider: IdentityProvider) -> bool:
    """Whether the signed-in person administers this provider."""
    return may_administer(scope_of_request(request), provider)


def may_administer(scope: Any, provider: IdentityProvider) -> bool:
    """Superusers all, tenant admins those of their tenant that open accounts of that tenant only."""
    return bool(scope.superuser or (scope.administers(provider.tenant_id) and not provider.vouches_for_all))


def provider_under_test(request: HttpRequest, slug: str) -> IdentityProvider | None:
    """A provider that is not in use yet, for those who may test it."""
    found = IdentityProvider.objects.select_related("tenant").filter(slug=slug).first()
    return found if found is not None and request.user.is_authenticated and may_see(request, found) else None


def report(request: HttpRequest, trip: Trip) -> dict[str, Any]:
    """The page's context after a trip that went well."""
    provider, claims = trip.provider, trip.claims
    groups = people.groups_of(provider, claims)
    username = _shown(people.claim_at(claims, provider.username_claim))
    return {
        **_frame(request, provider),
        "verdict": _verdict(provider, claims),
        "facts": [
            ("Subject", people.subject_of(provider, claims) or "none that can be kept"),
            ("E-mail address, verified", people.verified_email(provider, claims) or "none"),
            ("User name claim", f"{provider.username_claim}: {username}"),
            ("Groups", _groups_line(provider, groups)),
            ("Teams by the mapping", ", ".join(_teams(provider, groups)) or "none"),
        ],
        "claims": [(name, _shown(value)) for name, value in sorted(claims.items())],
    }


def failure(request: HttpRequest, provider: IdentityProvider, problem: SignInProblem) -> dict[str, Any]:
    """The page's context after a trip that failed: with the detail that only admins see."""
    return {**_frame(request, provider), "problem": problem, "verdict": Verdict(problem.public_message, False)}


def _frame(request: HttpRequest, provider: IdentityProvider) -> dict[str, Any]:
    return {
        **admin.site.each_context(request),
        "title": f"Test of {provider}",
        "provider": provider,
        "provider_url": admin_url(provider),
        "opts": IdentityProvider._meta,
    }


def _verdict(provider: IdentityProvider, claims: Any) -> Verdict:
    try:
        sso.check_groups(provider, claims)
    except SignInProblem as problem:
        return Verdict(problem.public_message, False)
    subject = people.subject_of(provider, claims)
    person = people.known_person(provider, subject) if subject else None
    if person is not None:
        return _known(provider, person)
    allowed = people.may_create(provider, claims) if subject else people.Denied(people.Denial.NO_SUBJECT)
    if isinstance(allowed, people.Denied):
        why = denied(provider, allowed.reason, claims)
        return Verdict(why.public_message, False, add_url=_add_url(provider, subject))
    name = people.proposed_username(provider, claims)
    return Verdict(f"A new person would be made: {name}, in the tenant {provider.tenant}.", True)


def _known(provider: IdentityProvider, person: Any) -> Verdict:
    if not people.may_open(provider, person):
        return Verdict("It names an account that this provider may not open.", False)
    if not person.is_active:
        return Verdict(disabled(provider, person).public_message, False)
    return Verdict(f"{person_label(person)} would be signed in.", True)


def _add_url(provider: IdentityProvider, subject: str | None) -> str:
    if not subject:
        return ""
    return f"{admin_url(Identity, 'add')}?{urlencode({'provider': provider.slug, 'uid': subject})}"


def _groups_line(provider: IdentityProvider, groups: frozenset[str] | None) -> str:
    if groups is None:
        return "the provider left them out" if provider.groups_claim else "no groups claim is set"
    return ", ".join(sorted(groups)) or f"none (is there a claim “{provider.groups_claim}” below?)"


def _teams(provider: IdentityProvider, groups: frozenset[str] | None) -> list[str]:
    mappings = provider.team_mappings.select_related("team")
    return sorted({mapping.team.name for mapping in mappings if mapping.value in (groups or ())})


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
