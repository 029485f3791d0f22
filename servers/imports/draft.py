"""A file between its preview and its import: sealed, so that the page that holds it shows no secret of it."""

from __future__ import annotations

import time
import zlib
from functools import lru_cache
from typing import Any, Final

from django.conf import settings

from servers.errors import GatewayError
from servers.imports.documents import MOST_CHARACTERS
from servers.sealing import KeyRing, Sealer, SealError

SECONDS: Final = 3600
_PURPOSE: Final = "import-draft"


class DraftEnded(GatewayError):
    """The preview is too old, of somebody else, or damaged."""

    code = "import_draft_ended"


@lru_cache(maxsize=4)
def _sealer(ring: KeyRing) -> Sealer:
    return ring.sealer(_PURPOSE)


def seal(text: str, *, user_id: Any) -> str:
    """The text for a hidden field, for this person and an hour."""
    plain = f"{int(time.time())}\n{text}".encode("utf-8", "surrogatepass")
    return _sealer(settings.KEY_RING).seal(zlib.compress(plain), f"user:{user_id}")


def open_draft(sealed: str, *, user_id: Any) -> str:
    """The text; raises DraftEnded."""
    ended = DraftEnded("The preview has ended. Paste or upload the file again.")
    try:
        packed = _sealer(settings.KEY_RING).open(sealed, f"user:{user_id}")
    except SealError as error:
        raise ended from error
    # Only what we packed opens, so it is not larger than what was allowed then.
    plain = zlib.decompressobj().decompress(packed, 4 * MOST_CHARACTERS + 100).decode("utf-8", "surrogatepass")
    made, _, text = plain.partition("\n")
    if not 0 <= time.time() - int(made) <= SECONDS:
        raise ended
    return text
