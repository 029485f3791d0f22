"""What we say of ourselves to providers: our metadata document, and the same in a registration (CL-8, CL-9).

Two documents, for the two ways in which a client of a document can prove itself: by its keys, or not at all.
"""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.urls import reverse

WITH_KEYS: Final = "gatehouse"
PUBLIC: Final = "gatehouse-public"
_METHODS: Final = {WITH_KEYS: "private_key_jwt", PUBLIC: "none"}


def callback_url() -> str:
    """Our redirect URI at every provider: fixed for ever, since admins have pasted it there."""
    return settings.PUBLIC_URL + reverse("oauth2-callback")


def client_id_for(method: str) -> str:
    """The address of the document of a client that authenticates in this way, which is its client id."""
    name = WITH_KEYS if method == "private_key_jwt" else PUBLIC
    return settings.PUBLIC_URL + reverse("client-document", args=[name])


def document(name: str) -> dict[str, Any] | None:
    """One of our documents; None for a name that is none of them."""
    method = _METHODS.get(name)
    if method is None:
        return None
    return {"client_id": client_id_for(method), **described(method)}


def described(method: str) -> dict[str, Any]:
    """Our client metadata (RFC 7591, 2) with this way to authenticate."""
    found: dict[str, Any] = {
        "client_name": "Gatehouse",
        "client_uri": settings.PUBLIC_URL,
        "redirect_uris": [callback_url()],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": method,
        "application_type": "web",
    }
    if method == "private_key_jwt":
        found["jwks_uri"] = settings.PUBLIC_URL + reverse("client-keys")
        found["token_endpoint_auth_signing_alg"] = "ES256"  # noqa: S105
    return found
