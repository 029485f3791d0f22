"""The shapes of a chart as plain numbers for a template: stacked bars, or lines with gaps. Pure.

A drawing is stretched to the width of its place, so it holds shapes only; words and numbers stand beside it as text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from typing import Final

from servers.overview.traffic import Traffic

HEIGHT: Final = 100
STEP: Final = 10
"""The width of one bucket. Both in units of the drawing."""
_GAP: Final = 1.5
_TICKS: Final = 5


@dataclass(frozen=True, slots=True)
class Bar:
    """One rectangle. Numbers as they stand in the drawing."""

    x: str
    y: str
    width: str
    height: str
    look: str


@dataclass(frozen=True, slots=True)
class Line:
    """One series as the data of a path."""

    path: str
    look: str


@dataclass(frozen=True, slots=True)
class Spot:
    """The whole height of one bucket, which says in words what it holds when pointed at."""

    x: str
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One drawing, its axes in words, and the same as a table."""

    title: str
    key: str
    description: str
    legend: Sequence[tuple[str, str]]
    """Look and name of each series."""
    width: int
    bars: Sequence[Bar]
    lines: Sequence[Line]
    spots: Sequence[Spot]
    scale: Sequence[str]
    """From the top down, at equal distances."""
    grid: Sequence[str]
    """The heights of these."""
    ticks: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    height: int = HEIGHT
    step: int = STEP


def calls_chart(traffic: Traffic) -> Chart:
    """Bars of calls, those with errors in them in the colour of trouble."""
    top = _nice(max((bucket.calls for bucket in traffic.buckets), default=0))
    bars = []
    for place, bucket in enumerate(traffic.buckets):
        good, bad = ((bucket.calls - bucket.errors) * HEIGHT / top, bucket.errors * HEIGHT / top)
        # A single error among thousands of calls is still to be seen.
        bad = max(bad, 1.5) if bucket.errors else 0
        bars += [_bar(place, HEIGHT - good, good, "good"), _bar(place, max(0, HEIGHT - good - bad), bad, "bad")]
    total = traffic.total
    return _chart(
        traffic,
        title="Calls",
        key="calls",
        description=f"{total.calls:,} calls in {traffic.period.label}, {total.errors:,} of them with errors.",
        legend=(("good", "Without errors"), ("bad", "With errors")),
        bars=[bar for bar in bars if bar.height != "0"],
        scale=[f"{top:,}", f"{top // 2:,}", "0"],
        columns=("Calls", "With errors"),
        cells=[(str(bucket.calls), str(bucket.errors)) for bucket in traffic.buckets],
    )


def times_chart(traffic: Traffic) -> Chart:
    """Two lines: the time within which half of the answers came, and within which 19 of 20 did.

    On a scale of powers of ten from a millisecond up, or the slow ones would press the others flat.
    """
    medians = [bucket.median for bucket in traffic.buckets]
    slow = [bucket.slow for bucket in traffic.buckets]
    longest = max((value for value in slow if value is not None), default=0)
    decades = next(power for power in range(2, 20) if longest <= 10**power)
    total = traffic.total
    description = (
        "No call was answered yet."
        if total.median is None
        else f"Half of the answers came within {duration(total.median)}, 95 % within {duration(total.slow)}."
    )
    return _chart(
        traffic,
        title="Time to answer",
        key="times",
        description=description,
        legend=(("median", "Half within (p50)"), ("slow", "95 % within (p95)")),
        lines=[Line(_path(slow, decades), "slow"), Line(_path(medians, decades), "median")],
        scale=[duration(10**power) for power in range(decades, -1, -1)],
        columns=("Half within", "95 % within"),
        cells=[(duration(bucket.median), duration(bucket.slow)) for bucket in traffic.buckets],
    )


def duration(milliseconds: int | None) -> str:
    """A time in words, as short as it may be."""
    if milliseconds is None:
        return "–"
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    seconds = milliseconds / 1000
    return f"{seconds:.1f} s".replace(".0 s", " s") if seconds < 100 else f"{round(seconds)} s"


def _chart(
    traffic: Traffic,
    *,
    title: str,
    key: str,
    description: str,
    legend: Sequence[tuple[str, str]],
    scale: Sequence[str],
    columns: Sequence[str],
    cells: Sequence[tuple[str, str]],
    bars: Sequence[Bar] = (),
    lines: Sequence[Line] = (),
) -> Chart:
    period = traffic.period
    names = [period.name_of(bucket.start) for bucket in traffic.buckets]
    words = [
        f"{when}: {columns[0].lower()} {first}, {columns[1].lower()} {second}"
        for when, (first, second) in zip(names, cells, strict=True)
    ]
    last = len(traffic.buckets) - 1
    ticks = [traffic.buckets[round(last * part / (_TICKS - 1))].start for part in range(_TICKS)]
    return Chart(
        title=title,
        key=key,
        description=description,
        legend=legend,
        width=len(traffic.buckets) * STEP,
        bars=bars,
        lines=lines,
        spots=[Spot(str(place * STEP), text) for place, text in enumerate(words)],
        scale=scale,
        grid=[_number(HEIGHT * place / (len(scale) - 1)) for place in range(len(scale))],
        ticks=[f"{start:{period.tick}}" for start in ticks],
        columns=columns,
        rows=[(when, *row) for when, row in zip(names, cells, strict=True)],
    )


def _bar(place: int, y: float, height: float, look: str) -> Bar:
    return Bar(_number(place * STEP + _GAP), _number(y), _number(STEP - 2 * _GAP), _number(height), look)


def _path(values: Sequence[int | None], decades: int) -> str:
    """A line through the middles of the buckets, broken where there is nothing; a single point is a dot."""
    parts: list[str] = []
    pen_down = False
    for place, value in enumerate(values):
        if value is None:
            pen_down = False
            continue
        x, y = _number((place + 0.5) * STEP), _number(HEIGHT - log10(max(value, 1)) * HEIGHT / decades)
        parts.append(f"L{x} {y}" if pen_down else f"M{x} {y}h.01")
        pen_down = True
    return "".join(parts)


def _number(value: float) -> str:
    # As text, because templates would write numbers in the reader's way.
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _nice(value: int) -> int:
    """The top of a scale for values up to this one: an even number that is easy to read."""
    size = 1
    while True:
        for factor in (2, 4, 6, 10):
            if value <= factor * size:
                return factor * size
        size *= 10
