"""A resolver that does not answer holds up the servers whose names it keeps, and nobody else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from authflows.inbound.api_keys import create_key
from servers import changes
from servers.models import AccessRule, AuthConfig, Role, Server
from tests.conftest import Cast
from tests.proxy.wire import RawUpstream, Stage, wait_until

MANY = 24
"""Calls that hang: more than there are threads of any kind."""


class SlowResolver:
    """A resolver that keeps every name under `slow.example` until the test ends."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.let_go = threading.Event()
        self._resolve = socket.getaddrinfo

    def __call__(self, host: str, *arguments: Any, **options: Any) -> Any:
        if not host.endswith("slow.example"):
            return self._resolve(host, *arguments, **options)
        self.asked.append(host)
        self.let_go.wait(60)
        raise socket.gaierror("no answer")


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowResolver]:
    slow = SlowResolver()
    monkeypatch.setattr(socket, "getaddrinfo", slow)
    yield slow
    slow.let_go.set()


def slow_server(cast: Cast, number: int) -> str:
    """The path of a server whose name is not resolved."""
    url = f"https://s{number}.slow.example/mcp"
    server = Server.objects.create(tenant=cast.tenant, slug=f"slow-{number}", name=f"Slow {number}", url=url)
    AuthConfig.objects.create(server=server)
    AccessRule.objects.create(server=server, user=cast.member, role=Role.USER)
    return f"/default/mcp/slow-{number}/server"


@pytest.mark.requirement("T57", "F-701")
def test_a_caller_who_is_not_known_yet_does_not_wait_behind_names_that_hang(
    stage: Stage, cast: Cast, resolver: SlowResolver
) -> None:
    caller, asked = stage.call()
    asked.answer_result()
    caller.answer()
    for path in [slow_server(cast, number) for number in range(MANY)]:
        stage.caller().call(path, key=stage.key)
    wait_until(lambda: len(resolver.asked) >= 8, "the look-ups to hang")
    newcomer = stage.caller().call(stage.path, key=create_key(owner=cast.member, name="another", actor="tests")[1])
    asked.read_request().answer_result(met=True)
    assert newcomer.answer()["result"]["met"]


@pytest.mark.requirement("T57")
def test_calls_to_one_name_that_hangs_leave_the_resolver_to_others(
    stage: Stage, cast: Cast, resolver: SlowResolver
) -> None:
    path = slow_server(cast, 0)
    other = RawUpstream()
    try:
        other.front(stage.server)
        # What is allowed has changed: names are looked up again once this process has read of it.
        changes.feed.poll()
        for _ in range(MANY):
            stage.caller().call(path, key=stage.key)
        wait_until(lambda: resolver.asked, "a look-up to hang")
        caller = stage.caller().call(stage.path, key=stage.key)
        other.request().answer_result(met=True)
        assert caller.answer()["result"]["met"]
    finally:
        other.close()
    assert resolver.asked == ["s0.slow.example"]


@pytest.mark.requirement("T26")
def test_a_name_that_could_not_be_resolved_is_asked_for_again_by_the_next_call(
    stage: Stage, cast: Cast, resolver: SlowResolver
) -> None:
    resolver.let_go.set()
    path = slow_server(cast, 0)
    for count in (1, 2):
        caller = stage.caller().call(path, key=stage.key)
        assert "at an address that the gateway may not call" in caller.answer()["error"]["message"]
        assert caller.status == 502
        assert len(resolver.asked) == count
