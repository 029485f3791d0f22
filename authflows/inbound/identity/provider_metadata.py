"""An identity provider's own description (OpenID Connect Discovery), and what we demand of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from authflows.models import IdentityProvider

# social-core keeps the authorization endpoint in a column of this width.
_LONGEST_URL: Final = 255
_SHARED_TENANTS: Final = frozenset({"common", "organizations", "consumers"})


class BadMetadata(Exception):
    """The description is not one that we sign people in with; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The URLs that a sign-in uses."""

    authorization: str
    token: str
    keys: str
    userinfo: str = ""


def metadata_url(issuer: str) -> str:
    """Where an issuer publishes its description: its own URL with the well-known path appended."""
    return f"{issuer.removesuffix('/')}/.well-known/openid-configuration"


def issuer_problem(preset: str, issuer: str) -> str | None:
    """What is wrong with an issuer URL, told from its text alone."""
    try:
        parts = urlsplit(issuer)
        _ = parts.port
    except ValueError:
        return "This is not a URL."
    if parts.scheme not in ("https", "http") or not parts.hostname:
        return "Use the whole URL, beginning with https://."
    if parts.query or parts.fragment or parts.username is not None:
        return "An issuer has no user name, question mark or hash sign."
    if issuer.rstrip("/").endswith("/.well-known/openid-configuration"):
        return "Leave /.well-known/openid-configuration away: the issuer is what stands before it."
    first = parts.path.strip("/").partition("/")[0].lower()
    if preset == IdentityProvider.Preset.MICROSOFT and first in _SHARED_TENANTS:
        return (
            f"With “{first}” in place of your tenant id, accounts of every organisation at Microsoft could sign in. "
            "Use https://login.microsoftonline.com/<your tenant id>/v2.0."
        )
    return None


def check_metadata(provider: IdentityProvider, document: Mapping[str, Any]) -> Endpoints:
    """The endpoints, after checking the description against the row; raises BadMetadata."""
    named = document.get("issuer")
    if named != provider.issuer:
        raise BadMetadata(_other_issuer(provider, named))
    endpoints = Endpoints(
        authorization=_url(provider, document, "authorization_endpoint"),
        token=_url(provider, document, "token_endpoint"),
        keys=provider.jwks_url or _url(provider, document, "jwks_uri"),
        userinfo=_url(provider, document, "userinfo_endpoint") if "userinfo_endpoint" in document else "",
    )
    methods = document.get("code_challenge_methods_supported")
    if isinstance(methods, list) and "S256" not in methods:
        raise BadMetadata("The provider says that it does not know PKCE with S256. Turn it on there.")
    return endpoints


def _other_issuer(provider: IdentityProvider, named: object) -> str:
    if not isinstance(named, str):
        return "What is published there is not the description of an OpenID provider: it names no issuer."
    shown = "".join(c for c in named if c.isprintable())[:200]
    if named.rstrip("/") == provider.issuer.rstrip("/"):
        return f"The provider spells its issuer “{shown}”. Enter exactly that: a slash at the end counts."
    if "{tenantid}" in named:
        return "This address serves every organisation at Microsoft. Put your own tenant id into the issuer."
    return f"The provider calls itself “{shown}”. Enter exactly that as the issuer."


def _url(provider: IdentityProvider, document: Mapping[str, Any], name: str) -> str:
    value = document.get(name)
    if not isinstance(value, str) or not value or len(value) > _LONGEST_URL:
        raise BadMetadata(f"The provider's description has no usable {name}.")
    scheme = urlsplit(value).scheme
    # Plain http only where the admin chose it for the issuer itself; egress asks the rest.
    if scheme != "https" and not (scheme == "http" and provider.issuer.startswith("http://")):
        raise BadMetadata(f"The provider's {name} does not begin with https://.")
    return value
