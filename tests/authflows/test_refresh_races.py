"""Who refreshes at the same moment, dies in the middle, or is overtaken: nothing is lost, nobody waits for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connections as databases
from django.test import Client
from django.utils import timezone

from authflows.models import Connection
from authflows.outbound import connections
from authflows.outbound.connections import NotRefreshed, Refreshed
from servers.models import Server
from tests.conftest import Cast
from tests.support.connecting import begin, come_back
from tests.support.faulty_provider import Asked, FaultyProvider, Reply, as_json
from tests.support.other_process import begin_elsewhere, finish, go_on
from tests.support.provider_faults import refresh, tokens_now

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requirement("F-306", "CL-20")]

TIMES = 200
# Each process wants every generation, so that both want the same one nearly always.
REFRESH_EACH = f"""
from authflows.outbound import connections
input()
for seen in range(1, {TIMES + 1}):
    outcome = connections.refresh("%s", seen_generation=seen)
    assert isinstance(outcome, connections.Refreshed), outcome
    assert outcome.generation > seen, outcome
print("done")
"""
REFRESH_ONCE = """
from authflows.outbound import connections
input()
connections.refresh("%s", seen_generation=%d)
"""


@pytest.fixture
def elsewhere(connected: Connection) -> Iterator[subprocess.Popen[str]]:
    """Another process that is about to refresh."""
    process = begin_elsewhere(REFRESH_ONCE % (connected.pk, connected.generation))
    yield process
    process.kill()
    process.communicate()


def meanwhile(faulty: FaultyProvider, happens: Callable[[], object]) -> None:
    """Let something happen after the provider made its next answer and before anybody has it."""

    def reply(asked: Asked) -> Reply:
        del faulty.replies["/token"]
        answer = faulty.right_answer(asked)
        try:
            happens()
        finally:
            databases.close_all()
        return answer

    faulty.replies["/token"] = reply


@pytest.mark.slow
def test_two_processes_that_refresh_all_the_time_lose_nothing_and_ask_once(
    connected: Connection, faulty: FaultyProvider
) -> None:
    processes = [begin_elsewhere(REFRESH_EACH % connected.pk) for _ in range(2)]
    for process in processes:
        go_on(process)
    assert [finish(process) for process in processes] == ["done\n", "done\n"]
    assert Connection.objects.get().generation == TIMES + 1
    sent = [form["refresh_token"] for form in faulty.forms("/token")]
    assert len(sent) == len(set(sent)) == TIMES
    grant = faulty.grants[0]
    assert not grant.ended
    assert tokens_now() == connections.Tokens(grant.access_token, grant.refresh_token)


def test_threads_of_one_process_ask_once_and_all_have_the_new_token(
    connected: Connection, faulty: FaultyProvider
) -> None:
    together = threading.Barrier(8)

    def one(_: int) -> Refreshed | NotRefreshed:
        together.wait(10)
        try:
            return refresh(connected)
        finally:
            databases.close_all()

    with ThreadPoolExecutor(8) as threads:
        outcomes = list(threads.map(one, range(8)))
    assert outcomes == [Refreshed(connected.generation + 1)] * 8
    assert faulty.paths() == ["/token"]


@pytest.mark.parametrize("rotates", [True, False], ids=["rotating", "lasting"])
def test_a_process_that_is_killed_before_it_stored_the_answer_costs_one_new_connection_at_most(
    browser: Client,
    cast: Cast,
    faulty_drive: Server,
    connected: Connection,
    faulty: FaultyProvider,
    elsewhere: subprocess.Popen[str],
    rotates: bool,
) -> None:
    faulty.rotates = rotates
    meanwhile(faulty, lambda: os.kill(elsewhere.pid, signal.SIGKILL))
    go_on(elsewhere)
    assert elsewhere.wait(60) == -signal.SIGKILL
    left = Connection.objects.get()
    assert (left.state, left.generation) == ("connected", connected.generation)
    # It holds the lease; nobody waits longer than that.
    assert left.lease_until is not None
    assert timezone.now() < left.lease_until < timezone.now() + timedelta(seconds=30)
    Connection.objects.update(lease_until=timezone.now() + timedelta(seconds=0.5))
    began = time.monotonic()
    outcome = refresh(connected)
    assert 0.3 < time.monotonic() - began < 10
    if not rotates:
        assert outcome == Refreshed(connected.generation + 1)
        return
    # The provider takes the old token for a stolen one: only the person can help, and is told so.
    assert isinstance(outcome, NotRefreshed)
    assert (outcome.dead, outcome.code) == (True, "invalid_grant")
    assert "withdrawn there, or ran out" in browser.get("/portal/connections/").content.decode()
    assert come_back(browser, faulty.sign_in(begin(browser, cast, faulty_drive))).status_code == 302
    again = Connection.objects.get()
    assert (again.state, again.epoch, again.last_error) == ("connected", connected.epoch, "")
    assert isinstance(refresh(again), Refreshed)


def test_who_waits_for_a_process_that_never_ends_is_told_so(
    connected: Connection, faulty: FaultyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_LEASE", timedelta(seconds=0.3))
    Connection.objects.update(lease_until=timezone.now() + timedelta(hours=1))
    outcome = refresh(connected)
    assert isinstance(outcome, NotRefreshed)
    assert (outcome.dead, outcome.code) == (False, "busy")
    assert faulty.asked == []


@pytest.mark.requirement("F-305", "T59")
def test_a_revocation_during_a_refresh_wins_and_the_new_tokens_are_given_back(
    connected: Connection, faulty: FaultyProvider
) -> None:
    old = tokens_now()
    meanwhile(faulty, lambda: connections.revoke(connected, actor="member"))
    outcome = refresh(connected)
    assert isinstance(outcome, NotRefreshed)
    assert (outcome.dead, outcome.code) == (True, "revoked")
    assert not Connection.objects.exists()
    grant = faulty.grants[0]
    assert [form["token"] for form in faulty.forms("/revoke")] == [old.refresh_token, grant.refresh_token]
    assert grant.ended


@pytest.mark.requirement("F-312")
@pytest.mark.parametrize("account", ["2001", "2002"], ids=["same account", "other account"])
def test_a_reconnect_during_a_refresh_wins_and_keeps_its_own_tokens(
    browser: Client, cast: Cast, faulty_drive: Server, connected: Connection, faulty: FaultyProvider, account: str
) -> None:
    meanwhile(faulty, lambda: come_back(browser, faulty.sign_in(begin(browser, cast, faulty_drive), account)))
    outcome = refresh(connected)
    row = Connection.objects.get()
    assert outcome == Refreshed(row.generation)
    assert row.account_subject == account
    first, second = faulty.grants
    assert tokens_now() == connections.Tokens(second.access_token, second.refresh_token)
    assert not second.ended
    # What the other account allowed is of no use to anybody; of the same one, a provider would end both.
    assert first.ended is (account == "2002")
    assert isinstance(refresh(row), Refreshed)


def test_a_refusal_that_comes_after_somebody_elses_success_is_success(
    connected: Connection, faulty: FaultyProvider
) -> None:
    def overtaken(_: Asked) -> Reply:
        # The lease ran out while the provider took its time, and somebody else took over.
        del faulty.replies["/token"]
        Connection.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        try:
            assert isinstance(refresh(connected), Refreshed)
        finally:
            databases.close_all()
        return as_json({"error": "invalid_grant"}, 400)

    faulty.replies["/token"] = overtaken
    assert refresh(connected) == Refreshed(connected.generation + 1)
    assert faulty.paths() == ["/token", "/token"]
    assert Connection.objects.get().state == "connected"
