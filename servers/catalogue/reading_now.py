"""Reading a server's catalogue because of what somebody does on the pages: they ask for it, or have saved the server.

The reading itself is the gateway's, a layer above, which registers it here when the application starts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from servers.catalogue.taking import Taken
from servers.models.servers import Server

Reader = Callable[[Server, Any], Taken]
AfterSaving = Callable[[Any, str], None]
_readers: list[Reader] = []
_after_saving: list[AfterSaving] = []
_WORDS = (
    ("added", "added"),
    ("changed", "changed"),
    ("held", "held for a decision"),
    ("returned", "back as before"),
    ("gone", "gone"),
)


def register(reader: Reader, *, after_saving: AfterSaving | None = None) -> None:
    """Use `reader` from now on: it reads the server with what is shared or with the person's own credential.

    `after_saving(server_id, actor)` reads with what is shared, or not at all. Both keep what they find, block for some
    seconds at most and never raise for what the other side does.
    """
    _readers[:] = [reader]
    if after_saving is not None:
        _after_saving[:] = [after_saving]


def read_now(server: Server, *, person: Any) -> Taken:
    """Read everything that the server offers and keep it. Outside any transaction: it takes its time."""
    if not _readers:
        return Taken(failure="This process cannot reach servers.")
    return _readers[0](server, person)


def read_saved(server_id: Any, *, actor: str) -> None:
    """Read the catalogue of a server that was just saved, where that needs nobody's own credential."""
    for reader in _after_saving:
        reader(server_id, actor)


def sentence_of(taken: Taken) -> str:
    """What a reading did, for the person who asked for it."""
    if taken.failure:
        return f"The catalogue was not read: {taken.failure}" if not taken.emptied else taken.failure
    counts = [f"{getattr(taken, name)} {words}" for name, words in _WORDS if getattr(taken, name)]
    done = ", ".join(counts) if counts else "nothing has changed"
    problems = f" {taken.problems} cannot be served; see Problems." if taken.problems else ""
    notes = f" {' '.join(taken.notes[:3])}" if taken.notes else ""
    return f"The catalogue was read: {done}.{problems}{notes}"
