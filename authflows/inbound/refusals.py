"""Why a credential does not open the door."""

from __future__ import annotations

from enum import StrEnum


class Refusal(StrEnum):
    """Why a credential does not open the door; for records, never for the caller."""

    MISSING = "credential_missing"
    DUPLICATED = "credential_duplicated"
    IN_URL = "credential_in_url"
    MALFORMED = "credential_malformed"
    UNKNOWN = "credential_unknown"
    EXPIRED = "credential_expired"
    INACTIVE = "principal_inactive"
    # Of our own OAuth tokens:
    ELSEWHERE = "credential_for_another_resource"
    SCOPE = "scope_insufficient"
    # Of JWTs (identity_tokens.py):
    ISSUER = "token_issuer_unknown"
    KEYS = "token_keys_unavailable"
    SIGNATURE = "token_signature"
    CLAIMS = "token_claims"
    AUDIENCE = "token_audience"
    NOT_ADMITTED = "person_not_admitted"


class Refused(Exception):
    """A credential that was looked at closely and does not open the door."""

    def __init__(self, reason: Refusal) -> None:
        super().__init__(str(reason))
        self.reason = reason
