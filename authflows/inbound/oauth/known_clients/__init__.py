"""Copies of the metadata documents of well-known clients: for networks without internet, and for when a fetch fails.

One file per client; `source` and `as_of` say where a copy comes from. A file in the folder `known_clients` of the
data folder adds a client, or replaces the copy that is built in.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Final

from django.conf import settings

log = logging.getLogger(__name__)

BUILT_IN: Final = Path(__file__).parent


def copies() -> dict[str, dict[str, Any]]:
    """The documents by their client ids. Read anew each time, so that a new file counts at once."""
    found: dict[str, dict[str, Any]] = {}
    for folder in (BUILT_IN, settings.DATA_DIR / "known_clients"):
        for path in sorted(folder.glob("*.json")):
            try:
                document = json.loads(path.read_bytes())["document"]
                found[str(document["client_id"])] = document
            except (OSError, ValueError, KeyError, TypeError, RecursionError):
                log.warning("%s is not a copy of a metadata document", path)
    return found
