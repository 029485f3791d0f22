"""Key files for a first start, and the rules that a key must meet.

`python -m gateway_project.keys` makes the two files once, readable by the owner only, and never changes
existing ones. It needs no settings, because settings do not load without keys.
"""

from __future__ import annotations

import base64
import os
import secrets
import sys
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from servers.sealing import KeyRing

SECRET_KEY_FILE = "secret_key"  # noqa: S105  (a file's name)
KEY_RING_FILE = "key_ring"
_SAMPLE_WORDS = ("insecure", "changeme", "change-me", "example", "sample", "secret-key", "password")
_SMALLEST_SECRET_KEY = 50


def make_ring_key() -> str:
    """One new ring entry, `<key id>:<32 random bytes, base64url>`."""
    random_key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
    return f"{secrets.token_hex(4)}:{random_key}"


def write_missing_keys(folder: Path) -> list[Path]:
    """Create the key files that do not exist yet (mode 0600); returns those it made."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = []
    for name, value in ((SECRET_KEY_FILE, secrets.token_urlsafe(64)), (KEY_RING_FILE, make_ring_key())):
        path = folder / name
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
        with os.fdopen(descriptor, "w") as file:
            file.write(value + "\n")
        made.append(path)
    return made


def checked_secret_key(value: str) -> str:
    """The signing key as given; raises ImproperlyConfigured when it is short, repetitive or a sample."""
    lowered = value.lower()
    if len(value) < _SMALLEST_SECRET_KEY or len(set(value)) < 16 or any(w in lowered for w in _SAMPLE_WORDS):
        raise ImproperlyConfigured(
            "GATEHOUSE_SECRET_KEY is too weak or a sample: use at least 50 random characters, "
            "for example from `python -m gateway_project.keys`."
        )
    return value


def checked_key_ring(text: str) -> KeyRing:
    """Parse `id:key,id:key` (the first key seals, all open); raises for missing, weak or sample keys."""
    try:
        ring = KeyRing.parse(text)
    except ValueError as error:
        raise ImproperlyConfigured(f"GATEHOUSE_KEY_RING: {error}") from error
    for key_id, key in ring.keys:
        if len(set(key)) < 16:
            raise ImproperlyConfigured(
                f"GATEHOUSE_KEY_RING: key {key_id!r} is not random (weak or a sample); make a new one."
            )
    return ring


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "var")
    for path in write_missing_keys(folder):
        sys.stdout.write(f"made {path}\n")


if __name__ == "__main__":
    main()
