"""What the kinds of identity provider have in common with themselves: defaults, fields, and what to do there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from authflows.models import IdentityProvider

Kind = IdentityProvider.Preset


@dataclass(frozen=True, slots=True)
class Preset:
    """One kind of provider. `issuer` stands for what is left empty; `example` shows how one looks."""

    label: str
    example: str
    steps: tuple[str, ...]
    issuer: str = ""
    issuer_needed: bool = True
    username_claim: str = "preferred_username"
    groups_claim: str = "groups"
    extra_scopes: str = ""


PRESETS: Final = {
    Kind.GOOGLE: Preset(
        label="Google",
        issuer="https://accounts.google.com",
        issuer_needed=False,
        example="https://accounts.google.com",
        username_claim="email",
        groups_claim="",
        steps=(
            "In the Google Cloud console open APIs & Services, Credentials, and create an OAuth client ID of the type "
            "Web application.",
            "Add the redirect URI that stands below to Authorized redirect URIs.",
            "On the consent screen choose the user type Internal, so that only your organisation can sign in.",
            "Copy the client ID and the client secret into this form.",
            "Google sends no groups. For “these domains” the account must belong to your Google Workspace.",
        ),
    ),
    Kind.MICROSOFT: Preset(
        label="Microsoft Entra ID",
        example="https://login.microsoftonline.com/<tenant id>/v2.0",
        steps=(
            "In the Entra admin center open App registrations and add one for this directory only.",
            "Under Authentication add the platform Web with the redirect URI that stands below.",
            "Under Certificates & secrets make a client secret and copy its value, not its id.",
            "The issuer holds the Directory (tenant) ID of the overview page. Never “common” or “organizations”.",
            "Under Token configuration add a groups claim with “Groups assigned to the application”: with more groups "
            "than fit, Entra sends none, and nobody with so many groups can sign in. The values are object ids.",
            "Entra does not say that an e-mail address is verified, unless you add the optional claim xms_edov. "
            "Without it choose “these groups” or “everybody”, not “these domains”.",
        ),
    ),
    Kind.OKTA: Preset(
        label="Okta",
        example="https://<your company>.okta.com",
        steps=(
            "In the Okta admin console create an app integration: OIDC, Web Application.",
            "Add the redirect URI that stands below to Sign-in redirect URIs.",
            "Under Assignments choose who may use it.",
            "For groups: under Sign On, OpenID Connect ID Token, add the groups claim “groups” with a filter, for "
            "example Matches regex .*, and put “groups” into the extra scopes.",
            "The issuer is the Okta URL; with a custom authorization server it ends in /oauth2/<its id>.",
        ),
    ),
    Kind.KEYCLOAK: Preset(
        label="Keycloak",
        example="https://keycloak.example.com/realms/<realm>",
        steps=(
            "In the realm add a client: OpenID Connect, Client authentication on, only the Standard flow.",
            "Enter the redirect URI that stands below under Valid redirect URIs.",
            "The secret stands on the tab Credentials. Under Advanced set the PKCE method to S256.",
            "For groups: Client scopes, the client's dedicated scope, add the mapper Group Membership with the token "
            "claim name “groups”, in the ID token. With Full group path on, a group is /engineering.",
            "For roles instead, name the claim with dots: realm_access.roles (the mapper must add it to the ID token).",
        ),
    ),
    Kind.GITHUB: Preset(
        label="GitHub",
        issuer_needed=False,
        example="https://github.com, or the address of your GitHub Enterprise Server",
        extra_scopes="read:org",
        steps=(
            "In the organisation's settings open Developer settings, OAuth Apps, and make one.",
            "Enter the redirect URI that stands below as Authorization callback URL.",
            "Copy the client ID and make a client secret.",
            "Anybody in the world may have an account there: choose “these groups” and name your organisation "
            "(acme) or its team (acme/platform). That needs the extra scope read:org, and the organisation has to "
            "approve the app.",
        ),
    ),
    Kind.OIDC: Preset(
        label="OpenID Connect",
        example="https://sso.example.com",
        steps=(
            "Register a confidential web application (authorization code flow) at the provider.",
            "Enter the redirect URI that stands below.",
            "The issuer is what its /.well-known/openid-configuration names as “issuer”, letter by letter.",
            "Have it send preferred_username, email, email_verified and, for teams, a list of groups.",
        ),
    ),
}


def preset_of(provider: IdentityProvider) -> Preset:
    """The preset of a row."""
    return PRESETS[Kind(provider.preset)]
