"""What happens to sign-ins while a client is not looking."""

from __future__ import annotations

import time

from django.utils import timezone
from oauth2_provider.models import AccessToken

from authflows.inbound.oauth import approvals
from authflows.models import Approval


def wait_until_every_access_token_has_expired() -> None:
    last = max(AccessToken.objects.values_list("expires", flat=True))
    # Clients count from when they get the token, and in whole seconds.
    time.sleep(max((last - timezone.now()).total_seconds(), 0) + 0.5)


def revoke_the_approval() -> None:
    """Revoke the only approval that there is, as its person would."""
    approval = Approval.objects.get()
    approvals.revoke(approval, actor=approval.user.get_username())
