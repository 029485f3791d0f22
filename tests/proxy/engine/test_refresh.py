"""Catalogues that are read because of calls: by whom, how often, and what callers have meanwhile."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.utils import timezone

from authflows.outbound.credential_results import Credential, Kind
from proxy.engine import refresh
from proxy.engine.refresh import Refreshing
from proxy.pipeline import Prepared
from servers import changes, registry
from servers.access import Principal
from servers.catalogue.facts import catalogue_of
from servers.models import AuthConfig, Catalogue, Server
from tests.conftest import Cast
from tests.support.calls import Caller, member_of, message, point_at
from tests.support.gateway import LiveGateway
from tests.support.members import OlderMember
from tests.support.upstream import Answer, Request, Upstream, event, json_answer, result
from tests.support.virtual import add_server, set_catalogue, tool, virtual_server

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.requirement("F-804")]

GUARD = 20.0


class Shop(Upstream):
    """A legacy server whose tools a test chooses, and that can be made to wait or to refuse."""

    def __init__(self, *names: str) -> None:
        super().__init__(self._answer)
        self.names = list(names)
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.refuses: set[str] = set()

    def _answer(self, request: Request) -> Any:
        if request.header("authorization") in self.refuses:
            return Answer(401)
        if request.method != "POST" or "id" not in request.json():
            return Answer(202)
        match request.json()["method"]:
            case "initialize":
                return result(request, {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}})
            case "tools/list":
                self.may_answer.wait(GUARD)
                return result(request, {"tools": [tool(name) for name in self.names]})
        return json_answer({"jsonrpc": "2.0", "id": request.json()["id"], "error": {"code": -32601, "message": "?"}})

    def times(self, method: str = "tools/list") -> int:
        return [one.json()["method"] for one in self.requests if one.method == "POST"].count(method)


def listed(caller: Caller) -> list[str]:
    answer = caller.post(message("tools/list"))
    assert answer.status == 200, answer.body
    return [one["name"] for one in answer.json()["result"]["tools"]]


def through_engine(cast: Cast, upstream: Upstream) -> None:
    point_at(cast.server, upstream, path="/mcp")
    Server.objects.filter(pk=cast.server.pk).update(path=Server.Path.ENGINE)
    changes.forget_everything()


def age(server: Server, **fields: Any) -> None:
    """Let the catalogue have been read an hour ago."""
    then = timezone.now() - timedelta(hours=1)
    Catalogue.objects.filter(server=server).update(**{"taken_at": then, "tried_at": then, **fields})


def until(holds: Callable[[], bool]) -> None:
    """Wait for what another thread is about to do."""
    done = threading.Event()
    ended = changes.listen(lambda *_: done.set() if holds() else None)
    try:
        assert holds() or done.wait(GUARD)
    finally:
        ended()


# Through the gateway


def test_a_server_that_was_never_read_is_read_for_the_first_who_asks(cast: Cast, gateway: LiveGateway) -> None:
    with Shop("add", "subtract") as shop:
        through_engine(cast, shop)
        caller = member_of(gateway, cast)
        assert listed(caller) == ["add", "subtract"]
        assert listed(caller) == ["add", "subtract"]
        assert shop.times() == 1


def test_callers_who_come_together_share_one_reading(cast: Cast, gateway: LiveGateway) -> None:
    with Shop("add") as shop:
        through_engine(cast, shop)
        caller = member_of(gateway, cast)
        found: list[list[str]] = []
        shop.may_answer.clear()
        threads = [threading.Thread(target=lambda: found.append(listed(caller))) for _ in range(5)]
        for thread in threads:
            thread.start()
        shop.wait_for(3)  # all that one reading asks before it is answered
        shop.may_answer.set()
        for thread in threads:
            thread.join(GUARD)
        assert found == [["add"]] * 5
        assert shop.times() == 1


def test_a_server_that_does_not_answer_is_not_waited_for_without_end(
    cast: Cast, gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh, "PATIENCE_SECONDS", 0.2)
    with Shop("add") as shop:
        through_engine(cast, shop)
        shop.may_answer.clear()
        answer = member_of(gateway, cast).post(message("tools/list"))
        assert (answer.status, "was not read so far" in answer.body.decode()) == (503, True)
        shop.may_answer.set()
        until(lambda: catalogue_of(cast.server.pk).taken)


def test_an_old_copy_is_served_and_read_again_beside(cast: Cast, gateway: LiveGateway) -> None:
    with Shop("new") as shop:
        through_engine(cast, shop)
        set_catalogue(cast.server, {"tool": [tool("old")]})
        age(cast.server)
        shop.may_answer.clear()
        caller = member_of(gateway, cast)
        assert listed(caller) == ["old"]
        shop.may_answer.set()
        until(lambda: ("tool", "new") in catalogue_of(cast.server.pk).texts)
        assert listed(caller) == ["new"]


def test_a_copy_that_another_process_has_just_read_is_not_read_again(cast: Cast, gateway: LiveGateway) -> None:
    with Shop("new") as shop:
        through_engine(cast, shop)
        set_catalogue(cast.server, {"tool": [tool("known")]})
        caller = member_of(gateway, cast)
        assert [listed(caller) for _ in range(3)] == [["known"]] * 3
        assert shop.times() == 0


def test_what_cannot_be_read_costs_the_list_nothing(cast: Cast, gateway: LiveGateway) -> None:
    with Shop("add") as shop:
        good = add_server(cast, "good", shop.url)
        bad = add_server(cast, "bad", "http://127.0.0.1:9/mcp")
        bundle = virtual_server(cast, (good, "good"), (bad, "bad"))
        caller = Caller(gateway.mcp_url(bundle), member_of(gateway, cast).key)
        assert listed(caller) == ["good__add"]
    failed = Catalogue.objects.get(server=bad)
    assert (failed.failure, failed.taken_at) == ("connect", None)


def test_a_member_that_says_its_list_changed_is_read_again(cast: Cast, gateway: LiveGateway) -> None:
    with OlderMember() as member:
        names = ["before"]
        member.answers["tools/list"] = lambda request: result(request, {"tools": [tool(name) for name in names]})

        def works(request: Request) -> Any:
            names[:] = ["after"]
            pieces = member.hold(request)
            member.streams[-1].say("notifications/tools/list_changed")
            answer = {"jsonrpc": "2.0", "id": request.json()["id"], "result": {"content": []}}
            member.streams[-1].send(event(answer))
            member.streams[-1].end()
            return pieces

        member.answers["tools/call"] = works
        through_engine(cast, member)
        set_catalogue(cast.server, {"tool": [tool("before")]})
        caller = member_of(gateway, cast)
        call = caller.post(message("tools/call", {"name": "before", "arguments": {}}))
        assert call.status == 200, call.body
        until(lambda: list(catalogue_of(cast.server.pk).texts) == [("tool", "after")])


# By itself


def prepared(server: Server, *, epoch: str = "one", shared: bool = False, value: str = "Bearer one") -> Prepared:
    changes.forget_everything()
    facts = registry.find_by_id(server.pk)
    assert facts is not None
    principal = Principal(1, "somebody", True, frozenset({UUID(int=1)}), frozenset(), "api_key:1")
    kind = Kind.SHARED if shared else Kind.CONNECTION
    headers = (("Authorization", value),)
    return Prepared(principal, facts, Credential(headers, epoch, shared, kind=kind))  # type: ignore[call-arg]


def personal(cast: Cast, shop: Shop) -> Server:
    point_at(cast.server, shop)
    AuthConfig.objects.filter(server=cast.server).update(method=AuthConfig.Method.OAUTH2)
    return cast.server


def test_one_persons_reading_adds_and_takes_nothing_away(cast: Cast) -> None:
    with Shop("mine") as shop:
        server = personal(cast, shop)
        set_catalogue(server, {"tool": [tool("theirs")]})
        asyncio.run(Refreshing().refresh(prepared(server), wait=True))
    assert [key for _, key in catalogue_of(server.pk).texts] == ["theirs", "mine"]


@pytest.mark.parametrize(("epoch", "whole"), [("shared.1", True), ("member.1", False)])
def test_a_credential_that_all_callers_share_sees_everything_one_of_a_virtual_server_does_not(
    cast: Cast, epoch: str, whole: bool
) -> None:
    with Shop("new") as shop:
        point_at(cast.server, shop)
        set_catalogue(cast.server, {"tool": [tool("old")]})
        asyncio.run(Refreshing().refresh(prepared(cast.server, epoch=epoch, shared=True), wait=True))
    found = [key for _, key in catalogue_of(cast.server.pk).texts]
    assert found == (["new"] if whole else ["old", "new"])


def test_a_refused_person_says_nothing_of_the_server_and_leaves_the_next_one_their_turn(cast: Cast) -> None:
    with Shop("add") as shop:
        server = personal(cast, shop)
        shop.refuses.add("Bearer revoked")

        async def both() -> None:
            refreshing = Refreshing()
            revoked = prepared(server, epoch="a", value="Bearer revoked")
            await refreshing.refresh(revoked, wait=True)
            assert not Catalogue.objects.exclude(failure="", tried_at=None).exists()
            asked = len(shop.requests)
            await refreshing.refresh(revoked, wait=True)
            assert len(shop.requests) == asked, "the same credential is not tried again at once"
            await refreshing.refresh(prepared(server, epoch="b"), wait=True)

        _run(both)
    assert [key for _, key in catalogue_of(server.pk).texts] == ["add"]


def test_readings_of_one_server_have_a_pause_between_and_none_is_lost(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Shop("one") as shop:
        point_at(cast.server, shop)

        async def often() -> None:
            refreshing = Refreshing()
            await refreshing.refresh(prepared(cast.server, shared=True), wait=True)
            shop.names.append("two")
            for _ in range(5):
                await refreshing.refresh(prepared(cast.server, shared=True), wait=False)
                await refreshing.refresh(prepared(cast.server, shared=True), wait=True)
            assert shop.times() == 1
            (timer,) = refreshing._later.values()
            assert 0 < timer.when() - asyncio.get_running_loop().time() <= refresh.PAUSE_SECONDS
            timer._callback()  # type: ignore[attr-defined]  # the pause is over
            timer.cancel()
            await asyncio.wait(refreshing._under_way.values())

        _run(often)
        assert shop.times() == 2
    assert [key for _, key in catalogue_of(cast.server.pk).texts] == ["one", "two"]


def test_a_persons_credential_is_never_kept_for_a_later_reading(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    with Shop("one") as shop:
        server = personal(cast, shop)

        async def later() -> None:
            refreshing = Refreshing()
            first = prepared(server, value="Bearer first")
            await refreshing.refresh(first, wait=True)
            await refreshing.refresh(first, wait=False)
            assert not refreshing._later
            monkeypatch.setattr(refresh, "PAUSE_SECONDS", 0.0)
            refreshing.refresh_if_old(prepared(server, value="Bearer second"))
            await asyncio.wait(refreshing._under_way.values())

        _run(later)
        used = [one.header("authorization") for one in shop.requests if b"tools/list" in one.body]
    assert used == ["Bearer first", "Bearer second"]


def test_a_person_who_waited_in_line_too_long_is_not_read_for(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh, "_STALE_SECONDS", -1.0)
    with Shop("one") as shop:
        asyncio.run(Refreshing().refresh(prepared(personal(cast, shop)), wait=True))
        assert not shop.requests


def test_a_failure_inside_is_logged_and_nobodys_trouble(
    cast: Cast, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> bool:
        raise RuntimeError("no disk")

    monkeypatch.setattr(refresh, "_read_and_take", fails)
    asyncio.run(Refreshing().refresh(prepared(cast.server), wait=True))
    assert "could not be refreshed" in caplog.text


def _run(work: Callable[[], Any]) -> None:
    """Run it on a loop of its own; its rows are asked for there, which `environment.py` allows tests."""
    asyncio.run(work())
