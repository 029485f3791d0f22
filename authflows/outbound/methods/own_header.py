"""Own API key: each caller's own values in the admin's header templates, or over a shared header (F-308, F-309)."""

from __future__ import annotations

from authflows.models import OwnKey
from authflows.outbound import own_keys
from servers.errors import SecretUnavailable
from servers.models.servers import AuthConfig, Server


def headers(server: Server, config: AuthConfig, key: OwnKey) -> list[tuple[str, str]]:
    """The headers with the values of `key`, each header that it names in place of a shared one.

    Raises SecretUnavailable where they cannot be made. Whether the key may be used at all (its end, its origin, a
    refusal) is for `needs.missing_own_key` to say.
    """
    opened = own_keys.open_key(key)
    if opened.method != config.method:
        raise SecretUnavailable(f"The authentication of {server.name} was changed. Enter your key again.")
    return own_keys.headers_with(server, config, opened.values)
