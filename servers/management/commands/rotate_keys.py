"""`manage.py rotate_keys`: seal every stored secret with the newest key of the ring."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from servers import audit
from servers.secrets.store import rotate_secrets, secrets_by_key


class Command(BaseCommand):
    help = (
        "Seal again, with the first key of GATEHOUSE_KEY_RING, every stored secret that an older key sealed. "
        "Safe while the gateway serves. Says which older keys nothing needs any more."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        ring = settings.KEY_RING
        rotation = rotate_secrets()
        audit.record(
            audit.Action.KEYS_ROTATE,
            actor="operator (rotate_keys)",
            subject=f"key {ring.sealing_key_id}",
            detail={"sealed_anew": rotation.sealed_anew, "unopened": len(rotation.unopened)},
        )
        counts = secrets_by_key()
        self.stdout.write(f"Sealed anew with key {ring.sealing_key_id}: {rotation.sealed_anew}")
        for key_id, count in sorted(counts.items()):
            self.stdout.write(f"Stored secrets under key {key_id}: {count}")
        for key_id, _ in ring.keys[1:]:
            if key_id not in counts:
                self.stdout.write(f"No stored secret needs key {key_id} any more; it may leave the ring.")
        if rotation.unopened:
            raise CommandError(
                f"These secrets do not open with any key of the ring: {', '.join(rotation.unopened)}. "
                "Put the key that sealed them back into the ring, behind the new one, and run this again; "
                "or set them anew."
            )
