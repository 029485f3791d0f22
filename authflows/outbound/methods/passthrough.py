"""Passthrough: the caller's own credential goes on to the server, where an admin chose that and saw the warning (T3).

What opened our door stays here, unless it is a JWT that says it is for the server too.
"""

from __future__ import annotations

import hmac
import re
from typing import Any, Final

import jwt

from authflows.inbound.api_keys import looks_like_key
from authflows.inbound.identity.identity_tokens import provider_of
from authflows.inbound.oauth.tokens import looks_like_access_token
from authflows.outbound.credential_results import Brought, Credential, Kind, NeedsConnection
from authflows.outbound.needs import Missing, Need
from servers.access import Principal
from servers.header_auth import same_origin
from servers.method_settings import PassthroughSettings

# A scheme and one token: two headers that were joined into one do not look like that.
_VALUE: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]* [\x21-\x7e]+")
_OWN: Final = "authorization"


def credential(
    chosen: PassthroughSettings, principal: Principal, brought: Brought, *, name: str, url: str, epoch: int
) -> Credential | NeedsConnection:
    """The caller's credential for the server at `url`, or why there is none. Pure."""
    if not chosen.confirmed_origin or not same_origin(chosen.confirmed_origin, url):
        return _missing(f"Passing credentials on to {name} is switched off until its manager confirms the address.")
    header = chosen.header.strip()
    if header.lower() == _OWN:
        token = brought.token()
        if provider_of(principal.credential) is None or not _is_for(token, chosen.audience or url):
            return _missing(
                f"{name} takes tokens of your organisation's identity provider that name it as their audience. "
                "Call with such a token; keys and sign-ins of this gateway are not passed on."
            )
        value = f"Bearer {token}"
    else:
        value = brought.headers.get(header.lower().encode("latin-1", "replace"), b"").decode("latin-1").strip(" \t")
        if not value:
            return _missing(f"{name} needs your own credential for it: send it in the header {header}.")
        if not _VALUE.fullmatch(value) or _is_ours(value.partition(" ")[2], principal, brought, chosen, url):
            return _missing(
                f"The header {header} does not hold a credential for {name}: write a scheme and a token, for example "
                "“Bearer …”. Keys and sign-ins of this gateway are not passed on."
            )
    return Credential(
        headers=(("Authorization", value),),
        epoch=f"passthrough.{epoch}",
        shared=False,
        kind=Kind.PASSTHROUGH,
        url=url,
        remembered=False,
    )


def _is_ours(token: str, principal: Principal, brought: Brought, chosen: PassthroughSettings, url: str) -> bool:
    """Whether it is something that this gateway gave out, or what opened its door."""
    if looks_like_key(token) or looks_like_access_token(token):
        return True
    opened = hmac.compare_digest(token.encode(), brought.token().encode("utf-8", "replace"))
    return opened and not _is_for(token, chosen.audience or url)


def _is_for(token: str, audience: str) -> bool:
    """Whether a JWT lists the audience. Its signature was checked at our door, and the server checks it again."""
    try:
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        return False
    named = claims.get("aud")
    return audience in (named if isinstance(named, list) else [named])


def _missing(sentence: str) -> NeedsConnection:
    return NeedsConnection(Missing(Need.CREDENTIAL, sentence), linked=False)
