"""Identity providers of the organisation: people sign in with them, and their JWTs open the door."""

from __future__ import annotations

from typing import Final

from django.contrib.auth.models import Group
from django.core.validators import RegexValidator
from django.db import models
from social_django.models import UserSocialAuth

from authflows.models.keys import VirtualAccount
from servers.models import Tenant
from servers.models.fields import UuidModel

# Signatures that need a private key. One with a shared secret, or none, is never believed.
SIGNATURE_ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
DEFAULT_ALGORITHMS: Final = ("RS256", "PS256", "ES256", "EdDSA")


class IdentityProvider(UuidModel):
    """One OpenID provider (or GitHub): for people who sign in (F-209), for JWTs in requests (F-208), or both."""

    class Preset(models.TextChoices):
        GOOGLE = "google", "Google"
        MICROSOFT = "microsoft", "Microsoft Entra ID"
        OKTA = "okta", "Okta"
        KEYCLOAK = "keycloak", "Keycloak"
        GITHUB = "github", "GitHub"
        OIDC = "oidc", "OpenID Connect"

    class Creation(models.TextChoices):
        NOBODY = "nobody", "Nobody: an admin adds people first"
        DOMAINS = "domains", "People with a verified e-mail address in these domains"
        GROUPS = "groups", "Members of these groups"
        ANYBODY = "anybody", "Everybody whom the provider signs in"

    tenant = models.ForeignKey(
        Tenant, on_delete=models.PROTECT, related_name="identity_providers", help_text="Where new people belong."
    )
    name = models.CharField(max_length=100, help_text="Shown on the button, for example: Acme SSO.")
    # Part of the redirect URI that is registered at the provider; names it in the stored identities of people.
    slug = models.CharField(
        max_length=30,
        unique=True,
        validators=[RegexValidator(r"^[a-z0-9](?:[a-z0-9-]{0,28}[a-z0-9])?\Z", "Use small letters, digits, hyphens.")],
    )
    preset = models.CharField(max_length=20, choices=Preset.choices, default=Preset.OIDC)
    issuer = models.CharField(max_length=500, blank=True, help_text="The issuer URL, exactly as the provider names it.")
    enabled = models.BooleanField(default=True)
    # Whoever edits a provider decides whom it signs in. So what a tenant's admin edits opens only accounts that
    # this tenant has to itself: no superuser, nobody who belongs to another tenant as well.
    vouches_for_all = models.BooleanField(
        "signs in superusers and people of several tenants",
        default=False,
        help_text="Then only superusers change this provider.",
    )
    managed = models.BooleanField("set by the operator's settings", default=False, editable=False)

    # Signing in:
    sign_in = models.BooleanField("people sign in with it", default=True)
    client_id = models.CharField(max_length=255, blank=True)
    # A reference (FQN) as everywhere; a value that is entered goes to the secret store first.
    client_secret = models.CharField(max_length=500, blank=True)
    extra_scopes = models.CharField(max_length=300, blank=True, help_text="Besides openid, profile and email.")
    creation = models.CharField("who may be created", max_length=10, choices=Creation.choices, default=Creation.NOBODY)
    allowed_domains = models.JSONField(default=list, blank=True)
    allowed_groups = models.JSONField(default=list, blank=True)
    username_claim = models.CharField(max_length=100, default="preferred_username")
    groups_claim = models.CharField(max_length=100, default="groups", blank=True)

    # JWTs in the Authorization header:
    accept_tokens = models.BooleanField("its JWTs open the door", default=False)
    audiences = models.JSONField(
        default=list,
        blank=True,
        help_text="Accepted `aud` values. A JWT must name one, or the MCP URL it is sent to.",
    )
    jwks_url = models.CharField(max_length=500, blank=True, help_text="Empty: as the issuer's metadata says.")
    algorithms = models.JSONField(default=list, blank=True, help_text="Empty: RS256, PS256, ES256 and EdDSA.")

    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name",)
        constraints = [
            models.UniqueConstraint(
                fields=("issuer",), condition=models.Q(accept_tokens=True), name="one_token_provider_per_issuer"
            )
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def accepted_algorithms(self) -> tuple[str, ...]:
        """Signature algorithms of its tokens that are believed."""
        return tuple(name for name in self.algorithms or DEFAULT_ALGORITHMS if name in SIGNATURE_ALGORITHMS)


class Identity(UserSocialAuth):
    """A person as a provider knows them: `provider` is the provider's slug, `uid` the subject. Holds no tokens."""

    class Meta:
        proxy = True
        verbose_name = "sign-in identity"
        verbose_name_plural = "sign-in identities"

    def __str__(self) -> str:
        return f"{self.uid} ({self.provider})"


class TeamMapping(UuidModel):
    """A value of the provider's groups claim that means membership in a team."""

    provider = models.ForeignKey(IdentityProvider, on_delete=models.CASCADE, related_name="team_mappings")
    value = models.CharField("group", max_length=255)
    team = models.ForeignKey(Group, on_delete=models.CASCADE, related_name="+")

    class Meta:
        ordering = ("value",)
        constraints = [models.UniqueConstraint(fields=("provider", "value", "team"), name="team_mapping_unique")]

    def __str__(self) -> str:
        return f"{self.value} → {self.team}"


class AccountMapping(UuidModel):
    """A claim of the provider's JWTs that means: this is that virtual account, not a person."""

    provider = models.ForeignKey(IdentityProvider, on_delete=models.CASCADE, related_name="account_mappings")
    claim = models.CharField(max_length=100, default="sub")
    value = models.CharField(max_length=255)
    virtual_account = models.ForeignKey(VirtualAccount, on_delete=models.CASCADE, related_name="+")

    class Meta:
        ordering = ("claim", "value")
        constraints = [models.UniqueConstraint(fields=("provider", "claim", "value"), name="account_mapping_unique")]

    def __str__(self) -> str:
        return f"{self.claim} = {self.value} → {self.virtual_account}"
