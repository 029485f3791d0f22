"""The one family of failures. `proxy/errors.py` and views turn them into answers; nobody else does."""

from __future__ import annotations


class GatewayError(Exception):
    """A failure with a stable code, a sentence that is safe for people, and detail for the log only."""

    code = "internal"

    def __init__(self, public_message: str, log_detail: str = "") -> None:
        super().__init__(public_message)
        self.public_message = public_message
        self.log_detail = log_detail


class SecretUnavailable(GatewayError):
    """A secret reference that does not resolve."""

    code = "secret_unavailable"


class DestinationRefused(GatewayError):
    """An outbound address that the egress rules do not allow."""

    code = "destination_refused"


class HostUnknown(DestinationRefused):
    """A host name without an address."""


class PrivateAddress(DestinationRefused):
    """A private address that no admin has allowed."""
