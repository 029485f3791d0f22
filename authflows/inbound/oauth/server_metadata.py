"""What the authorization server says about itself (RFC 8414; AZ-2, AZ-3, AZ-11, AZ-29).

One issuer at the bare origin: the public URL as it is configured, never what a request's Host header says.
"""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings

from authflows.models import RegistrationPolicy

SCOPES: Final = ("mcp", "offline_access")
AUTH_METHODS: Final = ("none", "client_secret_basic", "client_secret_post")
GRANT_TYPES: Final = ("authorization_code", "refresh_token")


def authorization_server() -> dict[str, Any]:
    """The document. The same for both well-known names, although it promises no identity tokens."""
    policy = RegistrationPolicy.current()
    issuer = settings.PUBLIC_URL
    document = {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "revocation_endpoint": f"{issuer}/revoke",
        "scopes_supported": list(SCOPES),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": list(GRANT_TYPES),
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": list(AUTH_METHODS),
        "revocation_endpoint_auth_methods_supported": list(AUTH_METHODS),
        "authorization_response_iss_parameter_supported": True,
        "client_id_metadata_document_supported": policy.takes_documents,
    }
    if policy.dynamic_registration:
        document["registration_endpoint"] = f"{issuer}/register"
    return document
