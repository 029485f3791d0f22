"""What the OAuth library asks us about requests, codes and tokens."""

from __future__ import annotations

from oauth2_provider.oauth2_validators import OAuth2Validator


class Validator(OAuth2Validator):  # type: ignore[misc]
    """The library's rules."""
