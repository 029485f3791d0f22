"""Calls over time: counted by the database, in buckets, for what the viewer administers."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from servers.models import Call, Membership, Server
from servers.overview.charts import calls_chart, duration, times_chart
from servers.overview.periods import PERIODS, period_of
from servers.overview.tools import tools
from servers.overview.traffic import Traffic, managed_calls, quantile, traffic
from servers.scope import scope_of
from tests.conftest import Cast

pytestmark = pytest.mark.requirement("F-802")
NOW = datetime(2026, 3, 14, 15, 9, 26, tzinfo=UTC)
DAY = period_of("24h")


def call(ago: timedelta = timedelta(0), **fields: Any) -> Call:
    values: dict[str, Any] = {
        "at": NOW - ago, "request_id": "r", "tenant": "default", "server": "calculator", "http_method": "POST",
        "method": "tools/call", "item": "add", "decision": "allowed", "status": 200, "outcome": "ok", "bytes_in": 1,
        "bytes_out": 1, "milliseconds": 10,
    }  # fmt: skip
    return Call.objects.create(**values | fields)


def seen(key: str = "24h") -> Traffic:
    return traffic(Call.objects.all(), period=period_of(key), now=NOW)


@pytest.mark.parametrize("period", PERIODS, ids=lambda period: period.key)
def test_the_last_bucket_holds_this_moment_and_all_are_equal(period: Any) -> None:
    edges = period.edges(NOW)
    assert len(edges) == period.count + 1
    assert {after - before for before, after in itertools.pairwise(edges)} == {period.bucket}
    assert edges[-2] <= NOW < edges[-1]


@pytest.mark.django_db
@pytest.mark.parametrize("period", PERIODS, ids=lambda period: period.key)
def test_each_call_is_counted_in_the_bucket_of_its_time(period: Any) -> None:
    edges = period.edges(NOW)
    for place in (0, 3, period.count - 1):
        call(NOW - edges[place])
        call(NOW - edges[place] - period.bucket + timedelta(microseconds=1), outcome="upstream_down")
    call(NOW - edges[0] + timedelta(microseconds=1))
    found = seen(period.key)
    assert [b.start for b in found.buckets] == edges[:-1]
    counted = {place: (b.calls, b.errors) for place, b in enumerate(found.buckets) if b.calls}
    assert counted == {0: (2, 1), 3: (2, 1), period.count - 1: (2, 1)}
    assert (found.total.calls, found.total.errors) == (6, 3)


@pytest.mark.django_db
def test_times_are_those_of_answered_calls_to_two_digits() -> None:
    for milliseconds in (7, 42, 99, 123, 1_987, 65_432, 654_321):
        call(milliseconds=milliseconds)
    call(milliseconds=900_000, http_method="GET")
    call(milliseconds=900_000, method="subscriptions/listen")
    call(milliseconds=900_000, outcome="upstream_down")
    call(milliseconds=0, decision="no_rule", outcome="no_rule")
    total = seen().total
    assert (total.median, total.slow) == (120, 650_000)
    call(timedelta(hours=2), milliseconds=65_432)
    assert seen().buckets[-3].median == 65_000
    assert seen().buckets[-4].median is None


@pytest.mark.parametrize(
    ("counts", "median", "slow"),
    [({}, None, None), ({5: 1}, 5, 5), ({1: 19, 9: 1}, 1, 1), ({1: 18, 9: 2}, 1, 9), ({1: 1, 2: 1, 3: 1}, 2, 3)],
)
def test_quantiles_are_values_that_were_measured(counts: dict[int, int], median: int | None, slow: int | None) -> None:
    assert (quantile(counts, 50), quantile(counts, 95)) == (median, slow)


def test_only_calls_to_what_the_viewer_administers_count(cast: Cast) -> None:
    other = Server.objects.create(tenant=cast.tenant, slug="second", name="Second", url="http://127.0.0.1:7/mcp")
    call(server_id=cast.server.pk)
    call(server_id=other.pk)
    call(tenant="other", server_id=None)
    assert managed_calls(scope_of(cast.admin)).count() == 3
    assert managed_calls(scope_of(cast.manager)).get().server_id == cast.server.pk
    assert not managed_calls(scope_of(cast.outsider)).exists()
    Membership.objects.filter(user=cast.outsider).update(role=Membership.Role.ADMIN)
    assert managed_calls(scope_of(cast.outsider)).count() == 2
    Membership.objects.filter(user=cast.outsider).update(role=Membership.Role.AUDITOR)
    assert not managed_calls(scope_of(cast.outsider)).exists()


@pytest.mark.django_db
def test_tools_are_listed_by_use_and_by_time() -> None:
    for _ in range(3):
        call(item="add", milliseconds=10)
    call(item="dig", milliseconds=4_000)
    call(item="dig", milliseconds=90_000, outcome="upstream_down")
    call(item="invented", decision="no_item_rule", outcome="no_item_rule")
    call(item="greet", method="prompts/get")
    found = tools(Call.objects.all(), period=DAY, now=NOW)
    assert [(use.tool, use.calls, use.errors, use.mean) for use in found.used] == [
        ("add", 3, 0, "10 ms"), ("dig", 2, 1, "4 s"),
    ]  # fmt: skip
    assert [use.tool for use in found.slowest] == ["dig", "add"]


@pytest.mark.django_db
def test_a_chart_says_in_words_and_in_a_table_what_it_draws() -> None:
    call(timedelta(hours=1), milliseconds=250)
    call(timedelta(hours=1), outcome="upstream_down")
    chart = calls_chart(seen())
    assert chart.description == "2 calls in 24 hours, 1 of them with errors."
    assert chart.spots[-2].text == "2026-03-14 14:00 to 15:00 UTC: calls 2, with errors 1"
    assert chart.rows[-2] == ("2026-03-14 14:00 to 15:00 UTC", "2", "1")
    assert [(bar.look, bar.y, bar.height) for bar in chart.bars] == [("good", "50", "50"), ("bad", "0", "50")]
    times = times_chart(seen())
    assert times.description == "Half of the answers came within 250 ms, 95 % within 250 ms."
    assert [line.path.count("M") for line in times.lines] == [1, 1]
    assert times.scale == ["1 s", "100 ms", "10 ms", "1 ms"]
    assert "20.07" in times.lines[0].path  # log10(250) of three decades, from the top


@pytest.mark.django_db
def test_charts_without_any_call_are_flat() -> None:
    assert calls_chart(seen()).bars == []
    assert [line.path for line in times_chart(seen()).lines] == ["", ""]


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [(None, "–"), (0, "0 ms"), (999, "999 ms"), (2_000, "2 s"), (2_500, "2.5 s"), (120_000, "120 s")],
)
def test_times_are_written_short(milliseconds: int | None, words: str) -> None:
    assert duration(milliseconds) == words
