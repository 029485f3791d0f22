"""From what an identity provider says of somebody to a person here: who that is, who is made, which teams.

One set of rules for people who sign in and for JWTs in requests. A person is told by the provider's own subject
and by nothing else: never by an e-mail address or a user name, which others may come to own.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Literal
from uuid import uuid4

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import IntegrityError, transaction
from social_django.models import UserSocialAuth

from authflows.models import IdentityProvider
from servers import audit
from servers.models import Membership

Claims = Mapping[str, Any]
_SUBJECT_CLAIMS: Final[Mapping[str, str]] = {
    IdentityProvider.Preset.MICROSOFT: "oid",
    IdentityProvider.Preset.OKTA: "uid",
}
_LONGEST_SUBJECT: Final = 255
_LONGEST_NAME: Final = 150
_LONGEST_SUFFIX: Final = 13
_NOT_IN_USERNAMES = re.compile(r"[^\w.@+-]+")
# Accounts of Google that belong to no organisation, so that nothing but the address tells them.
_CONSUMER_DOMAINS: Final = frozenset({"gmail.com", "googlemail.com"})


class Denial(StrEnum):
    """Why somebody whom the provider knows gets no account here."""

    NO_SUBJECT = "no_subject"
    NOBODY_IS_CREATED = "nobody_is_created"
    EMAIL_UNVERIFIED = "email_unverified"
    OTHER_DOMAIN = "other_domain"
    NOT_IN_A_GROUP = "not_in_a_group"
    OUT_OF_REACH = "account_out_of_reach"


@dataclass(frozen=True, slots=True)
class Allowed:
    """A person may be made."""

    def __bool__(self) -> Literal[True]:
        return True


@dataclass(frozen=True, slots=True)
class Denied:
    """No account, and why."""

    reason: Denial

    def __bool__(self) -> Literal[False]:
        return False


def subject_of(provider: IdentityProvider, claims: Claims) -> str | None:
    """What the provider calls this person for ever, or None when the claims do not say.

    `sub`, but for two providers whose access tokens say something else there than their sign-in does: Entra gives
    each application another one, and Okta writes the login name, which may change.
    """
    subject = claims.get(_SUBJECT_CLAIMS.get(provider.preset, "sub"), claims.get("sub"))
    if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT or not subject.isprintable():
        return None
    return subject


def claim_at(claims: Claims, path: str) -> Any:
    """The claim of that name, or the one that a dotted path leads to (`realm_access.roles`); None if absent."""
    if path in claims:
        return claims[path]
    found: Any = claims
    for step in path.split("."):
        if not isinstance(found, Mapping) or step not in found:
            return None
        found = found[step]
    return found


def verified_email(provider: IdentityProvider, claims: Claims) -> str | None:
    """The address, if the provider says that it belongs to the person."""
    email = claims.get("email")
    verified = claims.get("email_verified")
    if verified is None and provider.preset == IdentityProvider.Preset.MICROSOFT:
        # "The domain's owner was verified"; without it anybody may write any address into an Entra account.
        verified = claims.get("xms_edov")
    if not isinstance(email, str) or verified not in (True, 1, "true", "1"):
        return None
    try:
        validate_email(email)
    except ValidationError:
        return None
    return email


def groups_of(provider: IdentityProvider, claims: Claims) -> frozenset[str] | None:
    """The person's groups; none at all when the claim is absent; None when the claims do not tell.

    They do not tell when no groups claim is configured, and when Entra left out a list that was too long.
    """
    if not provider.groups_claim:
        return None
    value = claim_at(claims, provider.groups_claim)
    if value is None:
        elsewhere = claims.get("_claim_names")
        left_out = isinstance(elsewhere, Mapping) and provider.groups_claim in elsewhere
        return None if left_out or claims.get("hasgroups") else frozenset()
    if isinstance(value, str):
        return frozenset({value})
    return frozenset(item for item in value if isinstance(item, str)) if isinstance(value, list) else frozenset()


def may_create(provider: IdentityProvider, claims: Claims) -> Allowed | Denied:
    """Whether somebody whom nobody here knows yet gets an account. Pure."""
    match provider.creation:
        case IdentityProvider.Creation.ANYBODY:
            return Allowed()
        case IdentityProvider.Creation.DOMAINS:
            return _in_domains(provider, claims)
        case IdentityProvider.Creation.GROUPS:
            groups = groups_of(provider, claims) or frozenset()
            return Allowed() if groups.intersection(provider.allowed_groups) else Denied(Denial.NOT_IN_A_GROUP)
        case _:
            return Denied(Denial.NOBODY_IS_CREATED)


def _in_domains(provider: IdentityProvider, claims: Claims) -> Allowed | Denied:
    email = verified_email(provider, claims)
    if email is None:
        return Denied(Denial.EMAIL_UNVERIFIED)
    allowed = {str(domain).strip().lower().removeprefix("@") for domain in provider.allowed_domains}
    domain = email.rpartition("@")[2].lower()
    if domain not in allowed:
        return Denied(Denial.OTHER_DOMAIN)
    if provider.preset == IdentityProvider.Preset.GOOGLE and domain not in _CONSUMER_DOMAINS:
        # An account that somebody once made with an address of the organisation outlives their time there.
        organisation = claims.get("hd")
        if not isinstance(organisation, str) or organisation.lower() not in allowed:
            return Denied(Denial.OTHER_DOMAIN)
    return Allowed()


def may_open(provider: IdentityProvider, user: Any) -> bool:
    """Whether what this provider says may open this account.

    Whoever edits a provider decides whom it names. So one that does not vouch for all opens only people of its own
    tenant, neither superusers nor people of other tenants, and none opens a program's account this way.
    """
    if getattr(user, "virtual_account", None) is not None:
        return False
    if provider.vouches_for_all:
        return True
    if user.is_superuser:
        return False
    return not Membership.objects.filter(user=user).exclude(tenant=provider.tenant_id).exists()


def person_for(provider: IdentityProvider, claims: Claims) -> Any | Denied:
    """The user whom the claims name, made now if there is none and the provider's rule allows it.

    A disabled person comes back as such: the caller looks at `is_active`. Two requests that arrive together get
    the same person. Usable outside and inside a transaction.
    """
    subject = subject_of(provider, claims)
    if subject is None:
        return Denied(Denial.NO_SUBJECT)
    user = known_person(provider, subject)
    if user is None:
        allowed = may_create(provider, claims)
        if not allowed:
            return allowed
        user = _create(provider, subject, claims)
    return user if may_open(provider, user) else Denied(Denial.OUT_OF_REACH)


def sync_teams(user: Any, provider: IdentityProvider, claims: Claims) -> bool:
    """Make the teams that the provider's mappings name follow the person's groups; returns whether any changed.

    Other teams are left alone, and nothing is written when nothing changed. One query in that case.
    """
    mappings = list(provider.team_mappings.all())
    groups = groups_of(provider, claims)
    if groups is None or not mappings:
        return False
    led = {mapping.team_id for mapping in mappings}
    wanted = {mapping.team_id for mapping in mappings if mapping.value in groups}
    has = set(user.groups.filter(pk__in=led).values_list("pk", flat=True))
    if has == wanted:
        return False
    with transaction.atomic():
        user.groups.add(*(wanted - has))
        user.groups.remove(*(has - wanted))
        names = {mapping.team_id: mapping.team.name for mapping in provider.team_mappings.select_related("team")}
        audit.record(
            audit.Action.PERSON_CHANGE,
            actor=_actor(provider),
            subject=user,
            tenant=provider.tenant,
            detail={
                "event": "change",
                "teams_added": sorted(names.get(team, str(team)) for team in wanted - has),
                "teams_removed": sorted(names.get(team, str(team)) for team in has - wanted),
            },
        )
    return True


def known_person(provider: IdentityProvider, subject: str) -> Any | None:
    """The user whom this provider's subject stands for, whether or not it may open their account."""
    identities = UserSocialAuth.objects.select_related("user__virtual_account")
    identity = identities.filter(provider=provider.slug, uid=subject).first()
    return identity.user if identity else None


def _create(provider: IdentityProvider, subject: str, claims: Claims) -> Any:
    last: IntegrityError | None = None
    for username in _usernames(provider, subject, claims):
        try:
            return _create_as(username, provider, subject, claims)
        except IntegrityError as error:
            # Another request was quicker, with this person or with this user name.
            last = error
            user = known_person(provider, subject)
            if user is not None:
                return user
    raise last or IntegrityError(subject)


def _create_as(username: str, provider: IdentityProvider, subject: str, claims: Claims) -> Any:
    User = get_user_model()
    with transaction.atomic():
        user = User(
            username=username,
            email=verified_email(provider, claims) or "",
            first_name=_short(claims.get("given_name")),
            last_name=_short(claims.get("family_name")),
        )
        user.set_unusable_password()
        user.save(force_insert=True)
        # A new user joins the default tenant by itself; this one belongs to the provider's.
        Membership.objects.filter(user=user).exclude(tenant=provider.tenant_id).delete()
        Membership.objects.get_or_create(user=user, tenant=provider.tenant)
        UserSocialAuth.objects.create(user=user, provider=provider.slug, uid=subject)
        audit.record(
            audit.Action.PERSON_CHANGE,
            actor=_actor(provider),
            subject=user,
            tenant=provider.tenant,
            detail={"event": "create"},
        )
    return user


def proposed_username(provider: IdentityProvider, claims: Claims) -> str:
    """The user name that a new person would get now."""
    return next(_usernames(provider, subject_of(provider, claims) or "", claims))


def _usernames(provider: IdentityProvider, subject: str, claims: Claims) -> Iterator[str]:
    """Names that nobody has, the nicest first."""
    wanted = claim_at(claims, provider.username_claim)
    if not isinstance(wanted, str) or not wanted.strip():
        wanted = (verified_email(provider, claims) or "person").partition("@")[0]
    # No colon is left, so the name of a virtual account cannot come out.
    name = _NOT_IN_USERNAMES.sub("-", unicodedata.normalize("NFKC", wanted)).strip("-")
    name = name[: _LONGEST_NAME - _LONGEST_SUFFIX] or "person"
    digest = hashlib.sha256(f"{provider.slug}\n{subject}".encode("utf-8", "replace")).hexdigest()
    taken = get_user_model()._default_manager
    for candidate in (name, f"{name}-{digest[:8]}", f"{name}-{uuid4().hex[:12]}"):
        if not taken.filter(username__iexact=candidate).exists():
            yield candidate


def _short(value: object) -> str:
    return value.strip()[:_LONGEST_NAME] if isinstance(value, str) and value.isprintable() else ""


def _actor(provider: IdentityProvider) -> str:
    return f"identity provider {provider.slug}"
