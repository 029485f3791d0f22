"""What we say to a provider's token and revocation endpoints, and what its answers mean (RFC 6749, 7009, 8693).

Answers are sorted by what can be done next: a dead credential (`permanent`), a registration that the provider no
longer knows (`client_lost`), or try again later (`temporary`). Everything that is not plainly one of the first two
is temporary (CL-20). Nothing of a provider's text is kept; its error code is, if it looks like one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Literal, TypeGuard
from urllib.parse import quote_plus

from authflows.outbound.client_keys import client_assertion
from authflows.outbound.provider_http import Reply, Unreachable, exchange

_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_EXCHANGE_TYPE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_JWT_BEARER_TYPE: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_CODE: Final = re.compile(r"[a-z0-9_.-]{1,40}")
# What GitHub and Slack say instead.
_DEAD: Final = frozenset({"invalid_grant", "bad_refresh_token", "invalid_refresh_token"})
_CLIENT_LOST: Final = frozenset({"invalid_client", "unauthorized_client", "incorrect_client_credentials"})
_LONGEST_TOKEN: Final = 16 * 1024
_LONGEST_LIFETIME: Final = 366 * 24 * 3600


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """Our client at the provider, opened: what a request proves itself with."""

    client_id: str
    secret: str = field(repr=False)
    method: str
    issuer: str


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """Tokens. `expires_in` in seconds, None when the provider named none; an empty text for what it left out."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int | None
    scope: str | None
    id_token: str = field(default="", repr=False)


class Kind(StrEnum):
    """What a failure means for what we hold."""

    PERMANENT = "permanent"
    CLIENT_LOST = "client_lost"
    TEMPORARY = "temporary"


@dataclass(frozen=True, slots=True)
class TokenFailure:
    """No tokens: what it means, a stable word, a sentence for people, and when to ask again (seconds), if said."""

    kind: Kind
    code: str
    sentence: str
    retry_after: int | None = None


def redeem_code(
    endpoint: str,
    client: ClientFacts,
    *,
    code: str,
    redirect_uri: str,
    verifier: str,
    resource: str,
    extra: Mapping[str, str],
) -> TokenAnswer | TokenFailure:
    """Tokens for an authorization code (RFC 6749, 4.1.3). Empty `verifier` or `resource`: left out."""
    return _ask(
        endpoint,
        client,
        {
            **extra,
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            **_given(code_verifier=verifier, resource=resource),
        },
    )


def refresh(
    endpoint: str, client: ClientFacts, *, refresh_token: str, resource: str, extra: Mapping[str, str]
) -> TokenAnswer | TokenFailure:
    """Fresh tokens for a refresh token (RFC 6749, 6)."""
    return _ask(
        endpoint,
        client,
        {**extra, "grant_type": "refresh_token", "refresh_token": refresh_token, **_given(resource=resource)},
    )


def client_credentials(
    endpoint: str, client: ClientFacts, *, scope: str, resource: str, extra: Mapping[str, str]
) -> TokenAnswer | TokenFailure:
    """A token of our own (RFC 6749, 4.4)."""
    return _ask(
        endpoint, client, {**extra, "grant_type": "client_credentials", **_given(scope=scope, resource=resource)}
    )


def exchange_token(
    endpoint: str,
    client: ClientFacts,
    *,
    subject_token: str,
    subject_token_type: str,
    audience: str,
    scope: str,
    resource: str,
    extra: Mapping[str, str],
) -> TokenAnswer | TokenFailure:
    """A token to act for the bearer of another one (RFC 8693, 2.1)."""
    return _ask(
        endpoint,
        client,
        {
            "grant_type": _EXCHANGE_TYPE,
            "subject_token": subject_token,
            "subject_token_type": subject_token_type,
            **_given(audience=audience, scope=scope, resource=resource),
            **extra,
        },
    )


def on_behalf_of(
    endpoint: str, client: ClientFacts, *, assertion: str, scope: str, extra: Mapping[str, str]
) -> TokenAnswer | TokenFailure:
    """The same in Microsoft Entra's way: a JWT bearer grant (RFC 7523) that asks to act on behalf of its bearer."""
    return _ask(
        endpoint,
        client,
        {
            **extra,
            "grant_type": _JWT_BEARER_TYPE,
            "assertion": assertion,
            "requested_token_use": "on_behalf_of",
            **_given(scope=scope),
        },
    )


def revoke(
    endpoint: str, client: ClientFacts, *, token: str, hint: Literal["access_token", "refresh_token"]
) -> str | None:
    """Tell the provider that a token is not wanted any more (RFC 7009); returns None, or why that failed."""
    reply = _post(endpoint, client, {"token": token, "token_type_hint": hint})
    if isinstance(reply, Unreachable):
        return reply.sentence
    return None if reply.status < 300 else f"The provider answered the revocation with status {reply.status}."


def _given(**parameters: str) -> dict[str, str]:
    return {name: value for name, value in parameters.items() if value}


def _post(endpoint: str, client: ClientFacts, parameters: dict[str, str]) -> Reply | Unreachable:
    if client.method == "client_secret_basic":
        # Each half is form-encoded first (RFC 6749, 2.3.1), which hand-made clients like to forget.
        pair = (quote_plus(client.client_id), quote_plus(client.secret))
        return exchange("POST", endpoint, data=parameters, auth=pair)
    parameters = {**parameters, "client_id": client.client_id}
    if client.method == "client_secret_post":
        parameters["client_secret"] = client.secret
    elif client.method == "private_key_jwt":
        parameters["client_assertion_type"] = _ASSERTION_TYPE
        parameters["client_assertion"] = client_assertion(
            client_id=client.client_id, audience=client.issuer or endpoint
        )
    return exchange("POST", endpoint, data=parameters)


def _ask(endpoint: str, client: ClientFacts, parameters: dict[str, str]) -> TokenAnswer | TokenFailure:
    reply = _post(endpoint, client, parameters)
    if isinstance(reply, Unreachable):
        return TokenFailure(Kind.TEMPORARY, reply.reason, reply.sentence)
    document = reply.document()
    if document is None and reply.status < 400:
        sentence = f"The provider answered with status {reply.status} and something that is not a token answer."
        return TokenFailure(Kind.TEMPORARY, "answer_malformed", sentence)
    if document is not None and reply.status < 300 and "error" not in document:
        return _tokens(document)
    return _failure(reply, document)


def _tokens(document: Mapping[str, Any]) -> TokenAnswer | TokenFailure:
    access_token, token_type = document.get("access_token"), document.get("token_type", "bearer")
    if not _is_token(access_token) or not isinstance(token_type, str) or token_type.lower() != "bearer":
        return TokenFailure(Kind.TEMPORARY, "answer_malformed", "The provider's answer holds no bearer token.")
    refresh_token, scope, id_token = (document.get(name) for name in ("refresh_token", "scope", "id_token"))
    return TokenAnswer(
        access_token=access_token,
        refresh_token=refresh_token if _is_token(refresh_token) else "",
        expires_in=_seconds(document.get("expires_in")),
        scope=scope if isinstance(scope, str) else None,
        id_token=id_token if isinstance(id_token, str) else "",
    )


def _is_token(value: Any) -> TypeGuard[str]:
    """Whether it can stand in a header: visible ASCII (RFC 6750, 2.1 is narrower; providers are not)."""
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_TOKEN and all("!" <= c <= "~" for c in value)


def _seconds(value: Any) -> int | None:
    """`expires_in`, which some providers send as text; None for nonsense."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = int(float(value))
    except (ValueError, OverflowError):
        return None
    return min(seconds, _LONGEST_LIFETIME) if seconds > 0 else None


def _failure(reply: Reply, document: Mapping[str, Any] | None) -> TokenFailure:
    said = document.get("error") if document is not None else None
    code = said if isinstance(said, str) and _CODE.fullmatch(said) else f"status_{reply.status}"
    if code in _DEAD:
        return TokenFailure(Kind.PERMANENT, code, "The provider no longer accepts the authorization.")
    # A 401 that is a page may be of anything that stands in front of the provider.
    if code in _CLIENT_LOST or (code == "status_401" and document is not None):
        return TokenFailure(Kind.CLIENT_LOST, code, "The provider does not accept the gateway's client.")
    wait = reply.headers.get("retry-after", "")
    return TokenFailure(
        Kind.TEMPORARY,
        code,
        f"The provider refused with “{code}”."
        if code == said
        else f"The provider answered with status {reply.status}.",
        int(wait) if wait.isascii() and wait.isdigit() and len(wait) < 6 else None,
    )
