"""`manage.py rotate_keys`: seal every stored secret, token and key of people with the newest key of the ring."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from authflows.outbound import rotation as connections
from servers import audit
from servers.secrets.store import rotate_secrets, secrets_by_key


class Command(BaseCommand):
    help = (
        "Seal again, with the first key of GATEHOUSE_KEY_RING, every stored secret, token of a provider and key of a "
        "person that an older key sealed. Safe while the gateway serves. Says which older keys nothing needs any more."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        ring = settings.KEY_RING
        secrets, held = rotate_secrets(), connections.rotate()
        unopened = (*secrets.unopened, *held.unopened)
        sealed_anew = secrets.sealed_anew + held.sealed_anew
        audit.record(
            audit.Action.KEYS_ROTATE,
            actor="operator (rotate_keys)",
            subject=f"key {ring.sealing_key_id}",
            detail={"sealed_anew": sealed_anew, "unopened": len(unopened)},
        )
        of_secrets, of_held = secrets_by_key(), connections.texts_by_key()
        self.stdout.write(f"Sealed anew with key {ring.sealing_key_id}: {sealed_anew}")
        for what, counts in (("Stored secrets", of_secrets), ("Tokens and keys of people", of_held)):
            for key_id, count in sorted(counts.items()):
                self.stdout.write(f"{what} under key {key_id}: {count}")
        for key_id, _ in ring.keys[1:]:
            if key_id not in of_secrets and key_id not in of_held:
                self.stdout.write(f"Nothing stored needs key {key_id} any more; it may leave the ring.")
        if unopened:
            raise CommandError(
                f"These do not open with any key of the ring: {', '.join(unopened)}. "
                "Put the key that sealed them back into the ring, behind the new one, and run this again; "
                "or set secrets anew, and let people connect or enter their keys again."
            )
