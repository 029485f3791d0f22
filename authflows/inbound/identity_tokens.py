"""JWTs of the organisation's own identity providers, in the Authorization header (F-208, RS-14, T5)."""

from __future__ import annotations

import re

from authflows.inbound.refusals import Refusal, Refused
from servers.access import Principal

_SHAPE = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


def looks_like_jwt(text: str) -> bool:
    """Whether a bearer token is a signed JWT that names an issuer, by its shape alone; asks nothing."""
    return _SHAPE.fullmatch(text) is not None


def principal_of(text: str, *, now: float) -> Principal:
    """The person or virtual account that a JWT stands for at `now` (Unix seconds).

    Its `credential` is `identity_provider:<provider's id>:<part of a hash of the subject>`, the same for every
    token of that subject. Raises Refused.
    """
    raise Refused(Refusal.ISSUER)


def provider_of(credential: str) -> str | None:
    """The id of the identity provider behind a principal's `credential`, or None for credentials of other kinds."""
    kind, _, rest = credential.partition(":")
    return rest.partition(":")[0] if kind == "identity_provider" else None
