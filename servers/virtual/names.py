"""The names under which a virtual server shows its members' items. Pure.

A name depends on the item and what the manager chose, on nothing else, so it stays the same when other items come
and go. Where two would be the same, the earlier member keeps it and the other item is left out; saving such a
configuration is refused.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

LONGEST_NAME: Final = 64
"""Several model APIs take no longer tool name."""
_SEPARATOR: Final = "__"
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_.-]")
_DIGEST_LETTERS: Final = 8


def shown_name(alias: str, key: str, own: str = "") -> str:
    """The name of a tool or prompt: its own one, or `alias__key`, at most 64 letters, digits, `_`, `.` and `-`.

    What had to be changed or cut ends in a digest of the whole, so that two long names stay two.
    Without an alias a name that fits is the server's own, byte for byte.
    """
    if own:
        return own
    whole = f"{alias}{_SEPARATOR}{key}" if alias else key
    name = _NOT_IN_NAMES.sub("_", whole)
    if name == whole and len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(whole.encode()).hexdigest()[:_DIGEST_LETTERS]
    return f"{name[: LONGEST_NAME - _DIGEST_LETTERS - 1]}_{digest}"
