"""How secrets of OAuth clients are stored: as salted hashes, cheap ones."""

from __future__ import annotations

import hashlib
import secrets
from typing import Any

from django.contrib.auth.hashers import BasePasswordHasher


class RandomSecretHasher(BasePasswordHasher):
    """One round of SHA-256: enough for secrets that we made from hundreds of random bits, unlike passwords.

    A slow hash would add nothing but a way to keep the server busy, since anybody may register or try a secret.
    """

    algorithm = "sha256_of_random"

    def encode(self, password: str, salt: str) -> str:
        """The salt and the hash, in the form of Django's hashers."""
        digest = hashlib.sha256(f"{salt}${password}".encode()).hexdigest()
        return f"{self.algorithm}${salt}${digest}"

    def decode(self, encoded: str) -> dict[str, Any]:
        """The parts of an encoded secret."""
        algorithm, salt, digest = encoded.split("$", 2)
        return {"algorithm": algorithm, "salt": salt, "hash": digest}

    def verify(self, password: str, encoded: str) -> bool:
        """Whether `password` is the secret, compared in constant time."""
        return secrets.compare_digest(self.encode(password, self.decode(encoded)["salt"]), encoded)

    def safe_summary(self, encoded: str) -> Any:
        """What the admin may show."""
        return {"algorithm": self.algorithm}

    def must_update(self, encoded: str) -> bool:
        """Never: a better hash of the same secret comes with the next secret."""
        return False

    def harden_runtime(self, password: str, encoded: str) -> None:
        """Nothing to even out."""
