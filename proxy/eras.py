"""What is known of servers' protocol eras, and what follows for a call (F-702, CL-24).

Each half is known, or not. It is kept here for a while, by server, address and kind of credential, and in the server's
row for everybody. Nothing here waits or asks; `era_probing.py` does, and `era_evidence.py` reads answers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from time import monotonic, time
from typing import Any, Final
from uuid import UUID

from authflows.outbound.credential_results import Credential
from proxy import threads
from proxy.era_evidence import (
    HEADER_MISMATCH,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    NOTHING,
    REFUSALS,
    UNSUPPORTED_VERSION,
    Eras,
    Evidence,
    combine,
    eras_from,
    part,
)
from proxy.messages import FIRST_MODERN_VERSION, Kind, Message
from proxy.pipeline import Prepared
from servers import eras as rows
from servers.models import Server
from servers.registry import ServerFacts

log = logging.getLogger(__name__)

HOLDS_SECONDS: Final = 6 * 3600.0
"""After so long, what a server does not speak is asked again; nobody waits for that."""
AGAIN_SECONDS: Final = 10.0
"""A server that gave no verdict, or speaks neither, is asked again after so long at the earliest."""
DOUBT_SECONDS: Final = 30.0
"""What was found out so recently is not doubted for one answer."""
WRITE_SECONDS: Final = 5.0
"""The row of one server is written once in so long by a process."""
DISCOVER: Final = "server/discover"
_MOST_KNOWN: Final = 10_000


# What is known of servers in this process


class Known:
    """What is known of one server at one address with one kind of credential. Changes while calls hold it."""

    __slots__ = ("asked_at", "at", "eras", "evidence", "settled")

    def __init__(self) -> None:
        self.evidence = NOTHING
        self.eras = Eras.UNKNOWN
        self.settled = False
        """Both halves are known, so that no answer has to be looked at."""
        self.at = 0.0
        """Unix seconds."""
        self.asked_at = float("-inf")

    def adopt(self, server: ServerFacts) -> None:
        """Take over what the row says, where that is newer."""
        if server.eras_at <= self.at:
            return
        speaks = {
            Eras.LEGACY: Evidence(False, True, server.versions),
            Eras.MODERN: Evidence(True, False),
            Eras.DUAL: Evidence(True, True, server.versions),
        }
        self._set(speaks.get(server.eras, NOTHING), server.eras_at)

    def learn(self, evidence: Evidence, *, now: float) -> None:
        """Add what an answer said."""
        if evidence == NOTHING:
            return
        after = combine(self.evidence, evidence)
        cannot = (after.modern is False and evidence.modern is False) or (
            after.legacy is False and evidence.legacy is False
        )
        if after != self.evidence or cannot:
            self._set(after, now)

    def may_ask(self, *, now: float) -> bool:
        """Whether an answer that does not fit is a reason to ask again; not so soon after the last time."""
        if now - self.asked_at < AGAIN_SECONDS or (self.settled and now - self.at < DOUBT_SECONDS):
            return False
        self.asked_at = now
        return True

    def stale(self, now: float) -> bool:
        """Whether what the server does not speak should be asked again."""
        return self.eras in (Eras.LEGACY, Eras.MODERN) and now - self.at > HOLDS_SECONDS

    def _set(self, evidence: Evidence, at: float) -> None:
        self.evidence, self.at = evidence, at
        self.eras = eras_from(evidence)
        self.settled = self.eras is not Eras.UNKNOWN and None not in (evidence.modern, evidence.legacy)


_known: dict[tuple[UUID, str, str], Known] = {}


def known_for(server: ServerFacts, credential: Credential) -> Known:
    """What is known of a server with this kind of credential."""
    key = (server.id, server.url, str(credential.kind))
    known = _known.get(key)
    if known is None:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        known = _known[key] = Known()
    known.adopt(server)
    return known


def known_of(prepared: Prepared) -> Known:
    """What is known of the server of a call."""
    plan = prepared.plan
    known: Known = plan.known if plan is not None else known_for(prepared.server, prepared.credential)
    return known


def eras_of(prepared: Prepared) -> Server.Eras:
    """What the server of a call speaks, as far as it is known here."""
    return known_of(prepared).eras


def legacy_versions(prepared: Prepared) -> tuple[str, ...]:
    """Legacy versions that the server was seen to negotiate, newest first."""
    return known_of(prepared).evidence.versions


# What follows for a call


# Looked up once: asking an enumeration for its members costs more than the rest of the question.
_AUTO: Final = Server.Path.AUTO
_ENGINE: Final = Server.Path.ENGINE
_TRANSPARENT: Final = Server.Path.TRANSPARENT
_LEGACY: Final = Eras.LEGACY
_MODERN: Final = Eras.MODERN


def needs_engine(prepared: Prepared, message: Message) -> bool:
    """Whether the message cannot pass as it is: there are several servers, or client and server share no era.

    `server/discover` passes always: a client that speaks both eras goes by the answer.
    """
    server = prepared.server
    if server.path is not _AUTO or server.virtual:
        return server.virtual or server.path is _ENGINE
    plan = prepared.plan
    eras = plan.known.eras if plan is not None else eras_of(prepared)
    if message.modern:
        return eras is _LEGACY and message.method != DISCOVER
    return eras is _MODERN


_opened_for: set[UUID] = set()


def opened_in_place_of(server: ServerFacts) -> None:
    """The gateway opened for a modern client in the server's place, whose era it did not know (`opening.py`)."""
    if len(_opened_for) >= _MOST_KNOWN:
        _opened_for.clear()
    _opened_for.add(server.id)


def owes_an_era(prepared: Prepared) -> bool:
    """Whether the server has to be asked before a modern request goes to it, because we opened in its place."""
    return bool(_opened_for) and prepared.server.id in _opened_for and known_of(prepared).evidence.modern is None


def is_open(prepared: Prepared) -> bool:
    """Whether there is no evidence yet of whether the server takes modern requests."""
    return prepared.server.path is _AUTO and known_of(prepared).evidence.modern is None


def honest_refusal(prepared: Prepared, message: Message) -> tuple[str, list[str]] | None:
    """Text and versions of the -32022 to give in the server's place (2.6 A and B); None: let the message pass."""
    server = prepared.server
    if message.method == DISCOVER and message.modern:
        known = known_of(prepared)
        if server.path is not _AUTO or known.eras is not Eras.LEGACY:
            return None
        if known.stale(time()):
            known.settled = False  # so that the server's own answer is looked at
            return None
        versions = known.evidence.versions
        return ("Unsupported protocol version", list(versions)) if versions else None
    if message.method == "initialize" and not message.modern and server.path is _TRANSPARENT:
        return (modern_only_text(server.name), [FIRST_MODERN_VERSION]) if eras_of(prepared) is Eras.MODERN else None
    return None


def modern_only_text(name: str) -> str:
    """For people with an older client: such clients show the text and nothing else."""
    return (
        f"The MCP server '{name}' speaks MCP {FIRST_MODERN_VERSION} only, and this client opened with initialize, "
        "which it does not support. Use a newer client, or ask the server's manager to set its protocol to "
        f"“{Server.Path.AUTO.label}”."
    )


def is_doubtful(status: int, message: Message) -> bool:
    """Whether a refusal may come from a server that does not speak the era of the message at all."""
    return status in REFUSALS and message.kind is Kind.REQUEST and (message.modern or message.method == "initialize")


def contradicts(known: Known, status: int, answer: Mapping[str, Any] | None, *, modern: bool) -> bool:
    """Whether a refusal is one that a server which speaks the era of the request would not give."""
    error = part(answer, "error")
    code = error.get("code") if error is not None else None
    if not modern:
        # A server that opens sessions does not know these.
        return code in (HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION)
    if known.evidence.modern is not True:
        return True
    # “No session”, and routes that are not there: -326xx with 400 or 404 are a modern server's own errors.
    modern_error = code in (HEADER_MISMATCH, MISSING_CAPABILITY, UNSUPPORTED_VERSION, METHOD_NOT_FOUND, -32602, -32700)
    return status in REFUSALS and not modern_error


# Keeping it for everybody

_written_at: dict[UUID, float] = {}
_writing: set[asyncio.Future[Any]] = set()


def note(prepared: Prepared, evidence: Evidence, *, now: float | None = None) -> None:
    """Remember what an answer of the call's server said; on an event loop, which does not wait for the row."""
    note_for(prepared.server, known_of(prepared), evidence, now=time() if now is None else now)


def note_for(server: ServerFacts, known: Known, evidence: Evidence, *, now: float) -> None:
    """As `note`, where the call is not at hand."""
    known.learn(evidence, now=now)
    if not known.settled or not _differs(server, known):
        return
    clock = monotonic()
    if clock - _written_at.get(server.id, float("-inf")) < WRITE_SECONDS:
        return
    if len(_written_at) >= _MOST_KNOWN:
        _written_at.clear()
    _written_at[server.id] = clock
    write = threads.run(_write, server, known.eras, known.evidence.versions, known.at)
    task = asyncio.ensure_future(write)
    _writing.add(task)
    task.add_done_callback(_writing.discard)


def _differs(server: ServerFacts, known: Known) -> bool:
    if known.eras is not server.eras or not frozenset(known.evidence.versions) <= frozenset(server.versions):
        return True
    return known.at - server.eras_at > HOLDS_SECONDS


def _write(server: ServerFacts, eras: Server.Eras, versions: tuple[str, ...], at: float) -> None:
    try:
        rows.remember(server.id, url=server.url, eras=eras, versions=versions, at=at)
    except Exception:  # whatever the database says: this process knows, and the next answer says it again
        log.exception("the eras of a server cannot be kept", extra={"server": server.slug})
