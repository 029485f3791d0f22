"""Forms of identity providers, and of the identities by which people sign in."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError

from authflows.client_forms import LinesField
from authflows.inbound.identity import people_from_claims as people
from authflows.inbound.identity import provider_check, provider_metadata
from authflows.inbound.identity.provider_check import Check
from authflows.inbound.identity.sso_presets import PRESETS, Kind
from authflows.models import Identity, IdentityProvider
from authflows.models.identity import SIGNATURE_ALGORITHMS
from servers.egress import parse_destination
from servers.errors import DestinationRefused, SecretUnavailable
from servers.forms import TenantScopedForm
from servers.models import Membership
from servers.people import VIRTUAL_PREFIX, person_label
from servers.scope import NOTHING, Scope
from servers.secrets.references import BadReference, parse_reference, references_in
from servers.secrets.resolver import resolve

_GITHUB = "https://github.com"
_DEFAULTS = ("issuer", "username_claim", "groups_claim", "extra_scopes")
UNCHECKED = "To save it without this check, untick Enabled."


def _domain_problem(text: str) -> str:
    good = "." in text and all(part and part.replace("-", "").isalnum() for part in text.removeprefix("@").split("."))
    return "" if good else "Write a domain like example.com."


def _no_problem(text: str) -> str:
    return ""


def _algorithm_problem(text: str) -> str:
    return "" if text in SIGNATURE_ALGORITHMS else f"Use {', '.join(sorted(SIGNATURE_ALGORITHMS))}."


class IdentityProviderForm(TenantScopedForm):
    """Add or change an identity provider. `discovery` is made by the caller before the transaction begins."""

    discovery: ClassVar[Check | None] = None

    allowed_domains = LinesField(
        problem_of=_domain_problem, required=False, help_text="One a line, for example example.com."
    )
    allowed_groups = LinesField(
        problem_of=_no_problem, required=False, help_text="One a line, as the provider spells them."
    )
    audiences = LinesField(
        problem_of=_no_problem,
        required=False,
        help_text="One a line: accepted “aud” values. A JWT must name one, or the MCP URL that it is sent to.",
    )
    algorithms = LinesField(
        problem_of=_algorithm_problem, required=False, help_text="One a line. Empty: RS256, PS256, ES256 and EdDSA."
    )
    secret = forms.CharField(
        label="Client secret",
        required=False,
        strip=True,
        max_length=2000,
        widget=forms.PasswordInput(attrs={"class": "vTextField", "autocomplete": "off"}),
    )

    class Meta:
        model = IdentityProvider
        fields = (
            "tenant", "preset", "name", "slug", "issuer", "enabled", "vouches_for_all", "sign_in", "client_id",
            "extra_scopes", "creation", "allowed_domains", "allowed_groups", "username_claim", "groups_claim",
            "accept_tokens", "audiences", "jwks_url", "algorithms",
        )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in ("username_claim", "groups_claim"):
            if name in self.fields:
                self.fields[name].required = False
        if self.instance._state.adding and "vouches_for_all" in self.fields:
            self.initial.setdefault("vouches_for_all", True)
        if "secret" in self.fields:
            self.fields["secret"].help_text = self._secret_help()

    def _secret_help(self) -> str:
        forms_of_it = "The value, or a reference: secret://tenant:group:key, env://NAME, file:///path."
        if self.instance.client_secret:
            return f"Set ({self.instance.client_secret}). Leave it empty to keep it. {forms_of_it}"
        return f"Write-only. {forms_of_it}"

    def clean_issuer(self) -> str:
        return str(self.cleaned_data["issuer"]).strip()

    def clean_jwks_url(self) -> str:
        url = str(self.cleaned_data["jwks_url"]).strip()
        if url:
            try:
                parse_destination(url)
            except DestinationRefused as error:
                raise ValidationError(error.public_message) from error
        return url

    def clean_secret(self) -> str:
        value = str(self.cleaned_data["secret"])
        try:
            if not references_in(value):
                return value
            reference = parse_reference(value)
        except BadReference as error:
            # The library's own text would repeat what was typed, which may be a secret.
            raise ValidationError(
                "The reference is malformed. Write secret://<tenant>:<group>:<key>, env://<NAME> or file:///<path>."
            ) from error
        tenant = self.chosen_tenant()
        if tenant is not None:
            try:
                resolve(reference, tenant)
            except SecretUnavailable as error:
                raise ValidationError(error.public_message) from error
        return value

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if "preset" not in cleaned:
            return cleaned
        preset = PRESETS[Kind(cleaned["preset"])]
        for name in _DEFAULTS:
            if name in cleaned and not cleaned[name] and (self.instance._state.adding or name != "groups_claim"):
                cleaned[name] = getattr(preset, name)
        if preset.issuer_needed and not cleaned.get("issuer") and "issuer" not in self.errors:
            self.add_error("issuer", f"Enter the issuer, for example {preset.example}.")
        if cleaned.get("sign_in") and not cleaned.get("client_id"):
            self.add_error("client_id", "People sign in with it, so it needs the client id from the provider.")
        self._check_creation(cleaned)
        self._check_tokens(cleaned)
        self._check_discovery(cleaned)
        return cleaned

    def _check_creation(self, cleaned: dict[str, Any]) -> None:
        creation = cleaned.get("creation")
        if creation == IdentityProvider.Creation.DOMAINS and not cleaned.get("allowed_domains"):
            self.add_error("allowed_domains", "Name at least one domain.")
        if creation == IdentityProvider.Creation.GROUPS and not cleaned.get("allowed_groups"):
            self.add_error("allowed_groups", "Name at least one group.")
        worldwide = cleaned["preset"] == Kind.GITHUB and "://" not in str(cleaned.get("issuer")).replace(_GITHUB, "")
        if creation == IdentityProvider.Creation.ANYBODY and worldwide:
            self.add_error("creation", "Everybody in the world can sign in to GitHub. Choose these groups.")

    def _check_tokens(self, cleaned: dict[str, Any]) -> None:
        if not cleaned.get("accept_tokens"):
            return
        if cleaned["preset"] == Kind.GITHUB:
            self.add_error("accept_tokens", "GitHub makes no JWTs for people.")
            return
        others = IdentityProvider.objects.filter(accept_tokens=True, issuer=cleaned.get("issuer"))
        if others.exclude(pk=self.instance.pk).exists():
            self.add_error("accept_tokens", "Another provider accepts the JWTs of this issuer already.")

    def _check_discovery(self, cleaned: dict[str, Any]) -> None:
        issuer = cleaned.get("issuer", "")
        if "issuer" in self.errors or cleaned["preset"] == Kind.GITHUB:
            return
        if problem := provider_metadata.issuer_problem(cleaned["preset"], issuer):
            self.add_error("issuer", problem)
            return
        made = self.discovery
        asked = made is not None and (made.issuer, made.preset) == (issuer, cleaned["preset"])
        if made is not None and asked and made.problem and cleaned.get("enabled"):
            self.add_error("issuer", f"{made.problem} {UNCHECKED}")


def discovery_for(data: Any, stored: IdentityProvider | None) -> Check | None:
    """Ask the provider before a form is saved; None when nothing of it changes or nothing can be asked."""
    preset, issuer = str(data.get("preset", "")), str(data.get("issuer", "")).strip()
    if preset not in PRESETS or preset == Kind.GITHUB or "enabled" not in data:
        return None
    issuer = issuer or PRESETS[Kind(preset)].issuer
    if not issuer or len(issuer) > 500:
        return None
    same = stored is not None and stored.enabled and (stored.preset, stored.issuer) == (preset, issuer)
    if same:
        return None
    return provider_check.check(IdentityProvider(preset=preset, issuer=issuer), with_secret=False)


class IdentityForm(forms.ModelForm):  # type: ignore[type-arg]
    """Let somebody at a provider sign in as a person who has an account."""

    scope: ClassVar[Scope] = NOTHING
    providers: ClassVar[list[IdentityProvider]] = []

    provider = forms.ChoiceField(choices=())
    uid = forms.CharField(
        label="Subject",
        max_length=255,
        help_text="What the provider calls this person for ever. The page that refused them shows it.",
    )

    class Meta:
        model = Identity
        fields = ("user", "provider", "uid")
        labels = {"user": "person"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choice = self.fields["provider"]
        assert isinstance(choice, forms.ChoiceField)  # noqa: S101  (declared above)
        choice.choices = [(provider.slug, str(provider)) for provider in self.providers]
        person = self.fields["user"]
        assert isinstance(person, forms.ModelChoiceField)  # noqa: S101  (a foreign key's field)
        person.queryset = people_to_connect(self.scope)
        person.label_from_instance = person_label  # type: ignore[assignment, method-assign]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        provider = next((p for p in self.providers if p.slug == cleaned.get("provider")), None)
        user, uid = cleaned.get("user"), cleaned.get("uid")
        if provider is None or user is None or not uid:
            return cleaned
        if not people.may_open(provider, user):
            self.add_error("user", "This provider may not sign in this person: they reach further than its tenant.")
        taken = people.known_person(provider, uid)
        if taken is not None:
            self.add_error("uid", "This subject signs somebody in already.")
        return cleaned


def people_to_connect(scope: Scope) -> Any:
    """People whom an admin may give an identity: those who belong to the admin's tenants and to no other."""
    found = get_user_model()._default_manager.exclude(username__startswith=VIRTUAL_PREFIX).order_by("username")
    if scope.superuser:
        return found
    inside = found.filter(memberships__tenant__in=scope.tenants, is_superuser=False)
    return inside.exclude(memberships__in=Membership.objects.exclude(tenant__in=scope.tenants)).distinct()
