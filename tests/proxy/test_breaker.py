"""A server that fails again and again is left alone: when it opens, for whom, and how it closes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email.utils import formatdate
from time import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.breaker import BUSY, SERVER_ERROR, Breaker, BreakerOpen, Limits
from proxy.upstream import Phase
from servers.models import AuthConfig, Call, Server
from tests.conftest import Cast, allow_private
from tests.proxy.test_own_key_calls import give
from tests.support.calls import caller_for, member_of, message, point_at, speaking, tool_call
from tests.support.gateway import LiveGateway
from tests.support.records import write_records
from tests.support.upstream import Answer, Request, Upstream, mcp_server

pytestmark = pytest.mark.requirement("F-109")

LIMITS = Limits(failures=3, window=30.0, open_for=10.0, longest=35.0)
JSON = ("Content-Type", "application/json")


def opened(at: float = 0.0, cause: str = Phase.CONNECT) -> Breaker:
    breaker = Breaker(LIMITS)
    for _ in range(LIMITS.failures):
        breaker.failed(cause, at)
    return breaker


def refuses(breaker: Breaker, now: float) -> BreakerOpen | None:
    """How a call is refused; None when it is let through."""
    try:
        breaker.admit(now)
    except BreakerOpen as refusal:
        return refusal
    return None


def test_failures_in_a_row_open_it_and_a_success_between_does_not_count_as_one() -> None:
    breaker = Breaker(LIMITS)
    for now in (0.0, 1.0):
        breaker.failed(Phase.CONNECT, now)
    breaker.succeeded(2.0)
    for now in (3.0, 4.0):
        breaker.failed(Phase.CONNECT, now)
        assert refuses(breaker, now) is None
    breaker.failed(Phase.TLS, 5.0)
    refusal = refuses(breaker, 6.0)
    assert refusal is not None
    assert (refusal.cause, refusal.sent, refusal.lasting, refusal.next_try) == (Phase.TLS, False, 3.0, 9.0)


def test_failures_far_apart_do_not_open_it() -> None:
    breaker = Breaker(LIMITS)
    for number in range(20):
        breaker.failed(Phase.CONNECT, number * 16.0)
        assert refuses(breaker, number * 16.0) is None


def test_one_call_at_a_time_tries_whether_the_server_is_back() -> None:
    breaker = opened()
    assert refuses(breaker, 9.9) is not None
    assert refuses(breaker, 10.0) is None
    assert refuses(breaker, 10.1) is not None, "somebody tries already"
    breaker.succeeded(11.0)
    assert breaker.closed
    assert refuses(breaker, 11.1) is None


def test_each_failed_trial_doubles_the_time_up_to_the_longest() -> None:
    breaker, now, waits = opened(), 0.0, []
    for _ in range(4):
        refusal = refuses(breaker, now)
        assert refusal is not None
        waits.append(refusal.next_try)
        now += refusal.next_try
        assert refuses(breaker, now) is None
        breaker.failed(Phase.CONNECT, now)
    assert waits == [10.0, 20.0, 35.0, 35.0]
    now += 35.0
    assert refuses(breaker, now) is None
    breaker.succeeded(now)
    for _ in range(LIMITS.failures):
        breaker.failed(Phase.CONNECT, now)
    again = refuses(breaker, now)
    assert again is not None
    assert again.next_try == 10.0, "a success forgets how long it was"


def test_a_trial_that_says_nothing_lets_the_next_call_try() -> None:
    breaker = opened()
    assert refuses(breaker, 10.0) is None
    breaker.nothing_learned()
    assert refuses(breaker, 10.1) is None


def test_a_trial_that_lasts_does_not_keep_others_out_for_long() -> None:
    breaker = opened()
    assert refuses(breaker, 10.0) is None
    assert refuses(breaker, 19.0) is not None
    assert refuses(breaker, 20.0) is None


@pytest.mark.parametrize(("cause", "closes"), [(Phase.CONNECT, True), (Phase.TLS, True), (SERVER_ERROR, False)])
def test_a_connection_is_the_answer_where_there_was_none(cause: str, closes: bool) -> None:
    breaker = opened(cause=cause)
    breaker.connected(5.0)
    assert not breaker.closed, "made by a call of before"
    assert refuses(breaker, 10.0) is None
    breaker.connected(10.0)
    assert breaker.closed is closes


def test_what_was_sent_before_it_opened_changes_nothing() -> None:
    breaker = opened()
    breaker.failed(Phase.CONNECT, 5.0)
    breaker.succeeded(6.0)
    refusal = refuses(breaker, 7.0)
    assert refusal is not None
    assert refusal.next_try == 3.0


def test_a_server_that_asks_for_a_pause_gets_it_and_no_trial_afterwards() -> None:
    breaker = Breaker(LIMITS)
    breaker.rest(5.0, 0.0)
    refusal = refuses(breaker, 1.0)
    assert refusal is not None
    assert (refusal.cause, refusal.next_try) == (BUSY, 4.0)
    breaker.succeeded(2.0)
    assert refuses(breaker, 3.0) is not None, "an answer to a call of before"
    assert refuses(breaker, 5.0) is None
    assert breaker.closed
    breaker.rest(86400.0, 6.0)
    assert refuses(breaker, 40.9) is not None
    assert refuses(breaker, 41.0) is None


def test_a_cause_that_was_removed_is_forgotten() -> None:
    breaker = opened(cause=Phase.ADDRESS)
    breaker.forgive((Phase.CONNECT,))
    assert not breaker.closed
    breaker.forgive((Phase.ADDRESS,))
    assert breaker.closed


@given(
    st.lists(st.tuples(st.sampled_from(["fail", "succeed", "rest", "admit", "nothing"]), st.floats(0, 20)), max_size=60)
)
def test_it_never_stays_open_for_longer_than_the_longest(events: list[tuple[str, float]]) -> None:
    breaker, now = Breaker(LIMITS), 0.0
    for what, later in events:
        now += later
        match what:
            case "fail":
                breaker.failed(Phase.CONNECT, now)
            case "succeed":
                breaker.succeeded(now)
            case "rest":
                breaker.rest(later * 100, now)
            case "nothing":
                breaker.nothing_learned()
            case _:
                refusal = refuses(breaker, now)
                assert refusal is None or 0 < refusal.next_try <= LIMITS.longest
    breaker.nothing_learned()
    assert refuses(breaker, now + LIMITS.longest) is None


# Before a real server


@pytest.fixture
def upstream(cast: Cast, gateway: LiveGateway) -> Iterator[Upstream]:
    with Upstream() as found:
        point_at(cast.server, found)
        yield found


@pytest.fixture
def few(settings: Any) -> None:
    """Two failures are enough."""
    settings.BREAKER_FAILURES = 2


def outcomes() -> list[str]:
    write_records()
    return list(Call.objects.order_by("id").values_list("outcome", flat=True))


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("few")
def test_calls_to_a_server_that_is_down_fail_at_once_and_say_so(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    upstream.script = lambda _: Answer(500)
    caller = member_of(gateway, cast)
    for _ in range(2):
        assert caller.post(message("tools/list")).status == 502
    told = caller.post(tool_call(id=5)).json()
    assert (told["id"], told["result"]["isError"]) == (5, True)
    [text] = [part["text"] for part in told["result"]["content"]]
    assert "The MCP server 'Calculator' was not called" in text
    assert "(phase: response)" in text
    assert "The next try is in" in text
    refused = caller.post(message("tools/list"))
    assert (refused.status, refused.json()["error"]["code"]) == (503, 1505)
    assert 0 < int(refused.header("retry-after") or 0) <= 10
    assert len(upstream.requests) == 2
    assert outcomes() == ["upstream_error", "upstream_error", "breaker_open", "breaker_open"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 418, 429])
def test_a_refusal_opens_nothing(gateway: LiveGateway, cast: Cast, upstream: Upstream, status: int) -> None:
    upstream.script = lambda _: Answer(status, (JSON,), b"{}")
    caller = member_of(gateway, cast)
    for _ in range(4):
        caller.post(message("tools/list"))
    assert len(upstream.requests) == 4


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("few")
def test_a_server_that_cannot_be_reached_is_tried_at_another_address_at_once(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    upstream.stop_listening()
    caller = member_of(gateway, cast)
    assert [caller.post(message("tools/list")).json()["error"]["code"] for _ in range(3)] == [1502, 1502, 1505]
    with Upstream() as back:
        point_at(cast.server, back)
        assert caller.post(message("tools/list")).status == 200


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_server_that_names_a_time_is_left_alone_until_then(
    gateway: LiveGateway, cast: Cast, upstream: Upstream, status: int, form: str
) -> None:
    later = "30" if form == "seconds" else formatdate(time() + 30, usegmt=True)
    upstream.script = lambda _: Answer(status, (JSON, ("Retry-After", later)), b"{}")
    caller = member_of(gateway, cast)
    assert caller.post(message("tools/list")).status == status
    refused = caller.post(message("tools/list"))
    assert (refused.status, refused.json()["error"]["code"]) == (503, 1505)
    assert "asks to be left alone" in refused.json()["error"]["message"]
    assert len(upstream.requests) == 1


class OwnKeys(Upstream):
    """A server to which everybody brings a key; `said` to those with a key in it."""

    def __init__(self) -> None:
        self.said: dict[str, Answer] = {}
        super().__init__(lambda request: self.said.get(request.header("x-key") or "") or mcp_server(request))


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    "answer",
    [
        Answer(429, (JSON, ("Retry-After", "30")), b"{}"),
        Answer(401, (JSON,), b"{}"),
        Answer(403, (JSON,), b"{}"),
    ],
    ids=lambda answer: str(answer.status),
)
def test_what_a_server_says_to_one_persons_key_is_nobody_elses_business(
    gateway: LiveGateway, cast: Cast, answer: Answer
) -> None:
    with OwnKeys() as upstream:
        point_at(cast.server, upstream)
        config = AuthConfig.objects.get(server=cast.server)
        config.method = AuthConfig.Method.OWN_HEADER
        config.settings = {"headers": [{"name": "X-Key", "value": "{{API_KEY}}"}]}
        config.save()
        speaking(cast.server)
        one, other = (caller_for(gateway, cast.server, person) for person in (cast.member, cast.manager))
        give(cast.server, cast.member, value="one")
        give(cast.server, cast.manager, value="other")
        upstream.said["one"] = answer
        upstream.requests.clear()
        told = [one.post(tool_call()) for _ in range(3)]
        sent = [request for request in upstream.requests if request.header("x-key") == "one"]
        if answer.status == 429:
            assert len(sent) == 1
            assert "asks to be left alone" in json.dumps(told[-1].json())
        assert other.post(tool_call()).json()["result"]["isError"] is False


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("few")
def test_a_kept_connection_that_broke_is_no_failure_of_the_server(
    gateway: LiveGateway, cast: Cast, upstream: Upstream
) -> None:
    def script(request: Request) -> Any:
        before = [one for one in upstream.requests if one.peer.number == request.peer.number]
        return mcp_server(request) if len(before) == 1 else None

    upstream.script = script
    caller = member_of(gateway, cast)
    statuses = []
    for _ in range(8):
        statuses.append(caller.post(message("prompts/get", {"name": "p"})).status)
    assert statuses == [200, 502] * 4
    assert "breaker_open" not in outcomes()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("few")
def test_an_address_that_was_not_allowed_is_tried_as_soon_as_it_is(gateway: LiveGateway, cast: Cast) -> None:
    with Upstream() as upstream:
        Server.objects.filter(pk=cast.server.pk).update(url=upstream.url)
        caller = member_of(gateway, cast)
        assert [caller.post(message("tools/list")).json()["error"]["code"] for _ in range(3)] == [1502, 1502, 1505]
        allow_private(upstream.url)
        assert caller.post(message("tools/list")).status == 200
