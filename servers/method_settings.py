"""What an admin sets for passthrough and for token exchange: typed, from and to the JSON of `AuthConfig`.

No secrets in it: a client's secret stands here as a reference only. OAuth2 has `servers.oauth_settings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Final, Self

ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  (a type's name)
JWT: Final = "urn:ietf:params:oauth:token-type:jwt"
ID_TOKEN: Final = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105

RFC8693: Final = "rfc8693"
ENTRA_OBO: Final = "entra_obo"


def _known(cls: type[Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    # Unknown names are left alone, so that an older version can read a newer row.
    names = {item.name for item in fields(cls)}
    return {name: value for name, value in stored.items() if name in names}


@dataclass(frozen=True, slots=True)
class PassthroughSettings:
    """The caller's own credential goes on to the server: only where an admin saw the warning (T3)."""

    header: str = "Authorization"
    """The request header that carries the credential meant for the server. `Authorization` itself can hold only a
    JWT that opens our door and lists `audience`; every other name is a separate header of the caller."""
    audience: str = ""
    """What the `aud` of a JWT has to list before it is passed on."""
    confirmed_origin: str = ""
    """The server's origin when an admin last confirmed the warning; with another origin nothing is passed on."""

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """From `AuthConfig.settings`."""
        return cls(**_known(cls, stored))

    def stored(self) -> dict[str, Any]:
        """For `AuthConfig.settings`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ExchangeSettings:
    """The caller's JWT is exchanged for a token of the server's own provider, on behalf of the caller."""

    variant: str = RFC8693
    """`rfc8693` or `entra_obo` (Microsoft's on-behalf-of, a JWT bearer grant)."""
    issuer: str = ""
    """The audience of our client assertion; empty: the token endpoint."""
    token_endpoint: str = ""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    """A reference (FQN), never the secret."""
    token_endpoint_auth_method: str = "client_secret_basic"  # noqa: S105
    audience: str = ""
    scopes: tuple[str, ...] = ()
    subject_token_type: str = ACCESS_TOKEN
    send_resource: bool = True
    token_parameters: Mapping[str, str] = field(default_factory=dict)
    lifetime_seconds: int = 3600
    """For answers without `expires_in`."""

    @classmethod
    def read(cls, stored: Mapping[str, Any]) -> Self:
        """From `AuthConfig.settings`."""
        values = _known(cls, stored)
        if "scopes" in values:
            values["scopes"] = tuple(values["scopes"])
        return cls(**values)

    def stored(self) -> dict[str, Any]:
        """For `AuthConfig.settings`."""
        return asdict(self) | {"scopes": list(self.scopes)}
