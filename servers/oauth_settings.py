"""What an admin sets for a server that is called with OAuth tokens: typed, from and to the JSON of `AuthConfig`.

No secrets in it: the app's secret stands here as a reference only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class OAuthSettings:
    """An authorization server as we use it for one MCP server. URLs as the metadata or the admin gave them."""

    issuer: str = ""
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    revocation_endpoint: str = ""
    registration_endpoint: str = ""
    userinfo_endpoint: str = ""
    discovered: bool = False
    """From the server's own metadata, which is compared again later; else typed by an admin."""
    registration: str = "pre_registered"
    """`pre_registered`, `metadata_document` or `dynamic`, as in `UpstreamClient.Registration`."""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    """A reference (FQN), never the secret."""
    token_endpoint_auth_method: str = "client_secret_basic"  # noqa: S105
    """`client_secret_basic`, `client_secret_post`, `private_key_jwt` or `none`."""
    scopes: tuple[str, ...] = ()
    """The admin's ceiling: what is asked for, and the most that a step-up may ask for."""
    authorize_parameters: Mapping[str, str] = field(default_factory=dict)
    token_parameters: Mapping[str, str] = field(default_factory=dict)
    pkce: bool = True
    """False only for providers that refuse PKCE: a deviation that is shown."""
    send_resource: bool = True
    """False only for providers that refuse `resource` (RFC 8707): a deviation that is shown."""
    iss_supported: bool = False
    """The provider announced RFC 9207: an answer without `iss` is refused."""
    lifetime_seconds: int = 3600
    """For token answers without `expires_in`."""

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """From `AuthConfig.settings`; unknown names are left alone, so that an older version can read a newer row."""
        known = {item.name for item in fields(cls)}
        values = {name: value for name, value in stored.items() if name in known}
        if "scopes" in values:
            values["scopes"] = tuple(values["scopes"])
        return cls(**values)

    def stored(self) -> dict[str, Any]:
        """For `AuthConfig.settings`."""
        return asdict(self) | {"scopes": list(self.scopes)}
