"""Check an identity provider step by step, without signing anybody in: what was found, or the step that fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import requests
from urllib3.exceptions import HTTPError

from authflows.inbound.identity.provider_http import SECONDS, TooLarge, exchange
from authflows.inbound.identity.provider_metadata import (
    BadMetadata,
    Endpoints,
    check_metadata,
    issuer_problem,
    metadata_url,
)
from authflows.inbound.identity.provider_secrets import client_secret_of
from authflows.models import IdentityProvider
from servers.errors import DestinationRefused, PrivateAddress, SecretUnavailable

_GITHUB_LINE: Final = "GitHub publishes no description; its addresses are known."


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its name, whether it went well, and what was found or what to do."""

    name: str
    good: bool
    text: str


@dataclass(slots=True)
class Check:
    """The steps up to the first that fails."""

    issuer: str
    preset: str
    steps: list[Step] = field(default_factory=list)

    @property
    def problem(self) -> str:
        """What the failing step says, or nothing."""
        return next((step.text for step in self.steps if not step.good), "")

    def good(self, name: str, text: str) -> None:
        """Note a step that went well."""
        self.steps.append(Step(name, True, text))

    def bad(self, name: str, text: str) -> Check:
        """Note the step that failed."""
        self.steps.append(Step(name, False, text))
        return self


def check(provider: IdentityProvider, *, with_secret: bool = True) -> Check:
    """Ask the provider what a sign-in would ask it first. Blocks for seconds; the row may be unsaved."""
    result = Check(provider.issuer, provider.preset)
    if provider.preset == IdentityProvider.Preset.GITHUB:
        result.good("Description", _GITHUB_LINE)
        return _check_secret(result, provider) if with_secret else result
    if problem := issuer_problem(provider.preset, provider.issuer):
        return result.bad("Issuer", problem)
    try:
        document = _fetch(metadata_url(provider.issuer))
    except _Unanswered as error:
        return result.bad("Description", f"{metadata_url(provider.issuer)}: {error}")
    result.good("Description", f"Found at {metadata_url(provider.issuer)}.")
    try:
        endpoints = check_metadata(provider, document)
    except BadMetadata as error:
        return result.bad("Issuer and endpoints", str(error))
    for name, url in _named(endpoints):
        result.good(name, url)
    try:
        keys = _key_kinds(_fetch(endpoints.keys))
    except _Unanswered as error:
        return result.bad("Keys", f"{endpoints.keys}: {error}")
    if not keys:
        return result.bad("Keys", f"{endpoints.keys}: there is no key.")
    result.good("Keys", f"{len(keys)} ({', '.join(sorted(set(keys)))}) at {endpoints.keys}")
    _say_what_it_knows(result, document)
    return _check_secret(result, provider) if with_secret else result


def _key_kinds(document: dict[str, Any]) -> list[str]:
    keys = document.get("keys")
    return [str(key.get("kty"))[:10] for key in keys if isinstance(key, dict)] if isinstance(keys, list) else []


def _named(endpoints: Endpoints) -> list[tuple[str, str]]:
    return [
        ("Sign-in page", endpoints.authorization),
        ("Token endpoint", endpoints.token),
        ("Claims endpoint", endpoints.userinfo or "none; the ID token has to hold all claims"),
    ]


def _say_what_it_knows(result: Check, document: dict[str, Any]) -> None:
    methods = document.get("code_challenge_methods_supported")
    result.good("PKCE", "S256" if methods else "not announced; it is sent nevertheless")
    announces = document.get("authorization_response_iss_parameter_supported") is True
    result.good("Issuer in answers", "demanded, as announced" if announces else "not announced; checked if it comes")


def _check_secret(result: Check, provider: IdentityProvider) -> Check:
    try:
        found = client_secret_of(provider)
    except SecretUnavailable as error:
        return result.bad("Client secret", error.public_message)
    result.good("Client secret", "can be read; only Test shows whether it is right" if found else "none")
    return result


class _Unanswered(Exception):
    """No document came back; the text says why."""


def _fetch(url: str) -> dict[str, Any]:
    try:
        found = exchange(url, headers={"Accept": "application/json"}).json()
    except DestinationRefused as error:
        text = error.public_message
        if isinstance(error, PrivateAddress):
            text += " Add it there, then check again."
        raise _Unanswered(text) from error
    except TooLarge as error:
        raise _Unanswered("The answer is far too large. Is it the right address?") from error
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else "unknown"
        raise _Unanswered(f"It answers with status {status}. Is the issuer spelled right?") from error
    except requests.exceptions.SSLError as error:
        raise _Unanswered("Its TLS certificate is not accepted. It needs one of a public authority.") from error
    except requests.Timeout as error:
        raise _Unanswered(f"It did not answer within {SECONDS} seconds.") from error
    except (requests.exceptions.JSONDecodeError, ValueError) as error:
        raise _Unanswered("What is there is no JSON document. Is the issuer spelled right?") from error
    except (requests.RequestException, HTTPError, OSError) as error:
        raise _Unanswered("It cannot be reached.") from error
    if not isinstance(found, dict):
        raise _Unanswered("What is there is no JSON object.")
    return found
