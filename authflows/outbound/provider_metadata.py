"""What we take from a provider's metadata (RFC 8414), and what we demand of it (CL-5, CL-7, CL-17, T20, T26)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from django.conf import settings

from servers.endpoints import browser_problem, reach_problem
from servers.oauth_settings import OAuthSettings

_ENDPOINTS: Final = (
    "authorization_endpoint",
    "token_endpoint",
    "revocation_endpoint",
    "registration_endpoint",
    "userinfo_endpoint",
)
_NEEDED: Final = ("authorization_endpoint", "token_endpoint")


class BadMetadata(Exception):
    """A description that is not used: a stable word, and a sentence with the next step."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(reason)
        self.reason, self.sentence = reason, sentence


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """The settings that it amounts to, the scopes that it lists, where its endpoints are, and what to know of it."""

    settings: OAuthSettings
    scopes_offered: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read(document: Mapping[str, Any], issuer: str, *, has_app: bool) -> ProviderMetadata:
    """Settings from a document that is the issuer's own; looks each endpoint up in the DNS. Raises BadMetadata.

    `has_app`: an app was made at the provider, so the gateway need not register.
    """
    notes: list[str] = []
    endpoints = _endpoints(document)
    # Where PKCE is not announced it may be ignored, and that cannot be seen from here (CL-5).
    if "S256" not in texts(document, "code_challenge_methods_supported"):
        raise BadMetadata(
            "no_s256",
            "The provider does not announce PKCE with S256, which signing in through metadata needs. "
            "If its operator says that it works nonetheless, enter the endpoints by hand.",
        )
    elsewhere = {urlsplit(url).hostname for url in endpoints.values()} - {urlsplit(issuer).hostname}
    if elsewhere:
        notes.append(f"Not all endpoints are on the issuer's own host: {', '.join(sorted(map(str, elsewhere)))}.")
    registration = "pre_registered" if has_app else _registration(document, endpoints, notes)
    made = OAuthSettings(
        issuer=issuer,
        authorization_endpoint=endpoints["authorization_endpoint"],
        token_endpoint=endpoints["token_endpoint"],
        revocation_endpoint=endpoints.get("revocation_endpoint", ""),
        registration_endpoint=endpoints.get("registration_endpoint", ""),
        userinfo_endpoint=endpoints.get("userinfo_endpoint", ""),
        discovered=True,
        registration=registration,
        token_endpoint_auth_method=_auth_method(document, registration),
        iss_supported=document.get("authorization_response_iss_parameter_supported") is True,
    )
    hosts = tuple(sorted({urlsplit(url).netloc for url in endpoints.values()}))
    return ProviderMetadata(made, tuple(texts(document, "scopes_supported")), hosts, tuple(notes))


def texts(document: Mapping[str, Any], name: str) -> list[str]:
    """The texts of a list in a document; nothing for what is no list."""
    found = document.get(name)
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def _endpoints(document: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _ENDPOINTS:
        url = document.get(name)
        if url is None and name not in _NEEDED:
            continue
        if not isinstance(url, str) or not url:
            raise BadMetadata("endpoint_missing", f"The provider's metadata has no {name}. Enter them by hand.")
        problem = browser_problem(url) if name == "authorization_endpoint" else reach_problem(url)
        if problem is not None:
            raise BadMetadata("endpoint_refused", f"The provider's {name} cannot be used. {problem}")
        found[name] = url
    return found


def _registration(document: Mapping[str, Any], endpoints: Mapping[str, str], notes: list[str]) -> str:
    """How we become a client there without an admin's help, if at all (CL-7)."""
    if document.get("client_id_metadata_document_supported") is True:
        if settings.PUBLIC_URL.startswith("https://"):
            return "metadata_document"
        notes.append("The provider would read our metadata document, but the gateway's public URL is not https.")
    if "registration_endpoint" in endpoints:
        return "dynamic"
    notes.append("The gateway cannot register itself there: create an app at the provider and enter its App ID.")
    return "pre_registered"


def _auth_method(document: Mapping[str, Any], registration: str) -> str:
    offered = texts(document, "token_endpoint_auth_methods_supported") or ["client_secret_basic"]
    algorithms = texts(document, "token_endpoint_auth_signing_alg_values_supported") or ["ES256"]
    signing = ["private_key_jwt"] if "ES256" in algorithms else []
    if registration == "metadata_document":
        order = [*signing, "none"]
    else:
        order = ["client_secret_basic", "client_secret_post", *signing, "none"]
    return next((method for method in order if method in offered), order[-1])
