"""Reading catalogues again because of what happens in calls: nothing was read yet, it is old, or a server said so.

With the caller's own credential, in threads, each server once at a time whoever asks. Lists never fail because of it:
what could not be read is in the catalogue as a failure, and the last copy is served.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from time import monotonic, time
from typing import Final
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from proxy import threads
from proxy.catalogue_reading import read
from proxy.catalogue_rounds import ACTOR, read_shared
from proxy.pipeline import Knock, Outcome, Prepared, prepare_member
from proxy.probe_http import Step
from proxy.targets import target_with
from servers import changes
from servers.catalogue.due import claim, give_back, sees_everything
from servers.catalogue.readings import NotRead
from servers.catalogue.taking import take
from servers.models import Server
from servers.virtual.arrangement import Arrangement
from servers.virtual.facts import MemberFacts

log = logging.getLogger(__name__)

PAUSE_SECONDS: Final = 30.0
"""Between two readings of one server."""
PATIENCE_SECONDS: Final = 10.0
"""So long somebody waits for the first reading of a server."""
_STALE_SECONDS: Final = 5.0
"""After so long in line, a person's credential is not used any more: it may have been revoked meanwhile."""
_OF_MEMBERS: Final = "member."
_LOOKED: Final = "looked after"
_MOST_KNOWN: Final = 10_000


class _Outcome(Enum):
    """What came of a reading that was begun."""

    READ = "read"
    NOT_DUE = "not_due"
    """Nobody was asked: another process has read it lately."""
    REFUSED = "refused"
    """The server refused the person's credential."""


@dataclass(frozen=True, slots=True)
class _Last:
    """The last reading of one server in this process."""

    at: float
    """When it began (monotonic seconds)."""
    outcome: _Outcome = _Outcome.READ
    epoch: str = ""
    """Of the credential that it was made with."""


class Refreshing:
    """The readings of one event loop."""

    def __init__(self) -> None:
        self._under_way: dict[UUID, asyncio.Task[None]] = {}
        self._later: dict[UUID, asyncio.TimerHandle] = {}
        self._wanted: set[UUID] = set()
        """Servers whose catalogue changed: to be read again with the credential of whoever calls next."""
        self._last: dict[UUID, _Last] = {}
        self._state = object()
        """Another one whenever `_last` changes."""

    async def refresh(self, prepared: Prepared, *, wait: bool) -> None:
        """Read the catalogue of this call's server again, with this call's credential. Never raises.

        With `wait` it returns when the reading is over, or after ten seconds; where the last one was a moment ago it
        returns at once. Without, it returns at once; what would come too soon after the last reading comes later.
        """
        server_id = prepared.server.id
        if prepared.server.virtual:
            return
        task = looking = self._under_way.get(server_id)
        pause = self._pause(prepared)
        if task is None and pause <= 0:
            task = self._start(prepared, timedelta())
        elif not wait:
            # Also while a reading is under way, which may have seen the list from before the change.
            self._want(prepared, pause)
        if wait and task is not None:
            await asyncio.wait((task,), timeout=PATIENCE_SECONDS)
            last = self._last.get(server_id)
            if looking is not None and last is not None and last.outcome is _Outcome.NOT_DUE:
                # What was under way only found out that nothing was due.
                task = self._under_way.get(server_id) or self._start(prepared, timedelta())
                await asyncio.wait((task,), timeout=PATIENCE_SECONDS)

    def refresh_if_old(self, prepared: Prepared) -> None:
        """Begin to read the catalogue again where nobody did for GATEHOUSE_CATALOGUE_SECONDS. Costs next to nothing.

        What this process has not read it asks the row about, in a thread, once in that time.
        """
        server_id = prepared.server.id
        if server_id in self._under_way or prepared.server.virtual:
            return
        if server_id in self._wanted and self._pause(prepared) <= 0:
            self._start(prepared, timedelta())
        elif self._is_old(server_id, prepared):
            self._start(prepared, timedelta(seconds=settings.CATALOGUE_SECONDS))

    async def before_listing(self, virtual: Prepared, arrangement: Arrangement, knock: Knock) -> bool:
        """See to the catalogues of these members, as far as the caller has a credential for them.

        Those that were never read are waited for. Returns whether there were any: then arrange anew. Never raises.
        """
        if not self._wanted:
            looked: tuple[object, float] | None = arrangement.kept.get(_LOOKED)
            if looked is not None and looked[0] is self._state and not _is_over(looked[1]):
                return False
        unread, all_fresh = [], True
        for member in arrangement.members:
            is_taken = arrangement.catalogues[member.id].taken
            if is_taken and not self._is_old(member.server_id) and member.server_id not in self._wanted:
                continue
            all_fresh = False
            prepared = await _prepared_for(virtual, member, knock)
            if prepared is None:
                continue
            if is_taken:
                self.refresh_if_old(prepared)
            else:
                unread.append(prepared)
        if unread:
            await asyncio.gather(*(self.refresh(prepared, wait=True) for prepared in unread))
        elif all_fresh and arrangement.members:
            # For the next calls: there is nothing to see to until the oldest of them is old, or something is read.
            oldest = min(self._last[member.server_id].at for member in arrangement.members)
            arrangement.kept[_LOOKED] = (self._state, oldest)
        return bool(unread)

    def close(self) -> None:
        """Begin nothing more and wait for nothing; readings in threads end by themselves."""
        for timer in self._later.values():
            timer.cancel()
        for task in self._under_way.values():
            task.cancel()
        self._later.clear()

    def _is_old(self, server_id: UUID, prepared: Prepared | None = None) -> bool:
        last = self._last.get(server_id)
        if last is None or _is_over(last.at):
            return True
        return last.outcome is _Outcome.REFUSED and (prepared is None or _is_another(last, prepared))

    def _pause(self, prepared: Prepared) -> float:
        last = self._last.get(prepared.server.id)
        if last is None or last.outcome is _Outcome.NOT_DUE:
            return 0.0
        if last.outcome is _Outcome.REFUSED and _is_another(last, prepared):
            return 0.0
        return last.at + PAUSE_SECONDS - monotonic()

    def _start(self, prepared: Prepared, older_than: timedelta) -> asyncio.Task[None]:
        server_id = prepared.server.id
        self._wanted.discard(server_id)
        task = self._under_way[server_id] = asyncio.ensure_future(self._run(prepared, older_than))
        task.add_done_callback(lambda _: self._under_way.pop(server_id, None))
        return task

    def _want(self, prepared: Prepared, pause: float) -> None:
        server_id = prepared.server.id
        self._wanted.add(server_id)
        if not _is_whole(prepared) or server_id in self._later:
            return

        def begin() -> None:
            del self._later[server_id]
            if server_id not in self._wanted:
                return
            if server_id in self._under_way:
                # It may have seen the lists from before the change.
                self._want(prepared, 0.0)
            else:
                self._start(prepared, timedelta())

        self._later[server_id] = asyncio.get_running_loop().call_later(max(pause, 1.0), begin)

    async def _run(self, prepared: Prepared, older_than: timedelta) -> None:
        began = monotonic()
        if len(self._last) >= _MOST_KNOWN:
            self._last.clear()
        # Known at once, so that what is asked meanwhile counts from here.
        server_id, epoch = prepared.server.id, prepared.credential.epoch
        self._last[server_id] = _Last(began)
        self._state = object()
        try:
            outcome = await threads.read_server(_read_and_take, prepared, older_than, began)
        except Exception:
            log.exception("a catalogue could not be refreshed", extra={"server": prepared.server.slug})
        else:
            self._last[server_id] = _Last(began, outcome, epoch)
            self._state = object()


def _is_over(began: float) -> bool:
    return monotonic() - began >= settings.CATALOGUE_SECONDS


def _is_another(last: _Last, prepared: Prepared) -> bool:
    return last.epoch != prepared.credential.epoch


def _is_whole(prepared: Prepared) -> bool:
    """Whether the call's credential is the one that all callers of the server share."""
    credential = prepared.credential
    return (
        credential.shared and sees_everything(prepared.server.method) and not credential.epoch.startswith(_OF_MEMBERS)
    )


def _read_and_take(prepared: Prepared, older_than: timedelta, began: float) -> _Outcome:
    """Read with the credential of the call and keep what came."""
    facts, whole = prepared.server, _is_whole(prepared)
    if not whole and monotonic() - began > _STALE_SECONDS:
        return _Outcome.REFUSED
    server = Server.objects.select_related("tenant").filter(pk=facts.id, url=facts.url, enabled=True).first()
    if server is None or not claim(server.pk, timezone.now(), older_than=older_than):
        return _Outcome.NOT_DUE
    if whole:
        # Opened anew: what the call has may have been replaced since.
        take(server, read_shared(server), actor=ACTOR, whole=True)
        return _Outcome.READ
    found = read(target_with(server, prepared.credential.headers), known=Server.Eras(server.eras))
    if isinstance(found, NotRead) and found.step == Step.AUTHENTICATION:
        # Says nothing of the server.
        give_back(server.pk)
        return _Outcome.REFUSED
    take(server, found, actor=ACTOR, whole=False)
    return _Outcome.READ


async def _prepared_for(virtual: Prepared, member: MemberFacts, knock: Knock) -> Prepared | None:
    """The way to a member, if it is free for this caller."""
    if not virtual.server.virtual:
        return virtual
    try:
        outcome = prepare_member(virtual.principal, member, knock, now=time(), may_load=False)
    except changes.NotCached:
        try:
            outcome = await threads.run_or_give_up(_prepare_loading, virtual, member, knock)
        except threads.NoAnswer:
            return None
    return outcome if isinstance(outcome, Prepared) else None


def _prepare_loading(virtual: Prepared, member: MemberFacts, knock: Knock) -> Outcome:
    return prepare_member(virtual.principal, member, knock, now=time(), may_load=True)
