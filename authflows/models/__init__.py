"""How callers prove who they are, and what the gateway holds to prove itself upstream."""

from __future__ import annotations

from authflows.models.keys import ApiKey, VirtualAccount
from authflows.models.links import OneTimeLink
from authflows.models.throttle import AttemptBucket

__all__ = ["ApiKey", "AttemptBucket", "OneTimeLink", "VirtualAccount"]
