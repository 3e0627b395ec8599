"""Geometry of a report's charts: from periods to paths, ticks and cells. Pure; the template writes the SVG.

A line connects periods that follow each other by the schedule of that time. Where runs are missing, or none was due for
long, it ends, and begins anew after that.
"""

from __future__ import annotations

import datetime as dt
import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from controller.planning.gaps import Gap
from controller.quantities import quantity
from controller.store import rollups
from controller.store.queries.report_figures import Period
from streamswarm.zones import from_microseconds

#: Units of the drawing; the page scales it.
WIDTH, LEFT, RIGHT = 720.0, 62.0, 8.0
#: Steps of the axis of time, seconds; from 6 h on labels name the day too, from a day on the day alone.
_STEPS = (60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200)
_DAYS = (1, 2, 5, 10, 20, 50)
_SHORT_STEP, _DAY = 10_800, 86_400
_MOST_TICKS = 9
#: Values below are drawn as zero.
_SMALLEST = 1e-12


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A mark on an axis."""

    at: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Panel:
    """One metric over time."""

    title: str
    top: float
    height: float
    #: `d` of the line through the means; the pen is lifted at every gap.
    line: str
    #: `d` of the area between minima and maxima.
    band: str
    #: Periods without neighbours, which a line would not show.
    lone: tuple[tuple[float, float], ...]
    ticks: tuple[Tick, ...]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """How the runs of one period ended."""

    x: float
    width: float
    #: `ok`, `failed`, `error` or `missed`: the worst that was there.
    state: str
    #: Share of the height that the bad ones take.
    share: float


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A line's chart: panels above a strip of how runs ended."""

    height: float
    panels: tuple[Panel, ...]
    strip_top: float
    cells: tuple[Cell, ...]
    ticks: tuple[Tick, ...]
    #: Where the labels of time stand.
    foot: float


@dataclass(frozen=True, kw_only=True)
class _Scale:
    start: dt.datetime
    end: dt.datetime

    def x(self, instant: dt.datetime) -> float:
        share = (instant - self.start) / max(self.end - self.start, dt.timedelta(microseconds=1))
        return round(LEFT + min(1.0, max(0.0, share)) * (WIDTH - LEFT - RIGHT), 1)


@dataclass(frozen=True, kw_only=True)
class _Value:
    """One period of one metric."""

    start: dt.datetime
    mean: float
    low: float
    high: float


def chart(
    periods: Sequence[Period],
    *,
    start: dt.datetime,
    end: dt.datetime,
    width: dt.timedelta,
    gaps: Sequence[Gap],
    headline: tuple[str, str],
    loss: tuple[str, str] | None = None,
) -> Chart:
    """Draw a line's periods; `headline` and `loss` are label and unit of the two metrics."""
    scale = _Scale(start=start, end=end)
    holes = [from_microseconds(gap.start_us) for gap in gaps]
    values = [
        _Value(start=item.start, mean=item.mean, low=item.min, high=item.max)
        for item in periods
        if item.mean is not None and item.min is not None and item.max is not None
    ]
    unmeasured = [item.start for item in periods if item.mean is None]
    breaks = sorted([*holes, *unmeasured])
    panels = [_panel(values, scale, width, breaks, headline, top=18.0, height=82.0)]
    foot = 18.0 + 82.0
    if loss is not None:
        lost = [
            _Value(start=item.start, mean=item.loss, low=item.loss, high=item.loss)
            for item in periods
            if item.loss is not None
        ]
        unmeasured = [item.start for item in periods if item.loss is None]
        breaks = sorted([*holes, *unmeasured])
        panels.append(_panel(lost, scale, width, breaks, loss, top=foot + 24.0, height=34.0, least=1.0))
        foot += 24.0 + 34.0
    strip = foot + 10.0
    return Chart(
        height=strip + 11.0 + 18.0,
        panels=tuple(panels),
        strip_top=strip,
        cells=tuple(_cells(periods, scale, width)),
        ticks=time_ticks(start, end),
        foot=strip + 11.0 + 13.0,
    )


def time_ticks(start: dt.datetime, end: dt.datetime) -> tuple[Tick, ...]:
    """Return marks at round times of UTC."""
    span = (end - start).total_seconds()
    steps = (*_STEPS, *(days * _DAY for days in _DAYS))
    seconds = next((step for step in steps if span / step <= _MOST_TICKS), steps[-1])
    step = dt.timedelta(seconds=seconds)
    scale = _Scale(start=start, end=end)
    at = rollups.EPOCH + math.ceil((start - rollups.EPOCH) / step) * step
    found = []
    while at < end:
        day, time = f"{at.day} {at:%b}", f"{at:%H:%M}"
        if seconds >= _DAY or (seconds <= _SHORT_STEP and time == "00:00"):
            label = day
        else:
            label = time if seconds <= _SHORT_STEP else f"{day} {time}"
        found.append(Tick(at=scale.x(at), label=label))
        at += step
    return tuple(found)


def value_ticks(low: float, high: float, most: int = 4) -> tuple[float, ...]:
    """Return round values from below `low` to above `high`."""
    size = max(abs(low), abs(high))
    room = high - low
    if size < _SMALLEST:
        room = 1.0
    elif room < size * 1e-9:
        # Nothing but rounding, which has no scale of its own.
        room = size
    raw = room / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if last == first:
        last += 1
    return tuple(round(index * step, 12) for index in range(first, last + 1))


def _panel(
    values: Sequence[_Value],
    scale: _Scale,
    width: dt.timedelta,
    breaks: Sequence[dt.datetime],
    titled: tuple[str, str],
    *,
    top: float,
    height: float,
    least: float = 0.0,
) -> Panel:
    label, unit = titled
    low, high = _extent(values, least)
    marks = value_ticks(low, high, most=4 if height > 50 else 2)

    def y(value: float) -> float:
        share = (value - marks[0]) / (marks[-1] - marks[0])
        return round(top + height - share * height, 1)

    line: list[str] = []
    band: list[str] = []
    lone: list[tuple[float, float]] = []
    for group in _unbroken(values, breaks):
        points = [(scale.x(value.start + width / 2), value) for value in group]
        if len(points) == 1:
            lone.append((points[0][0], y(points[0][1].mean)))
        line.append("M" + "L".join(f"{x:g} {y(value.mean):g}" for x, value in points))
        edge = [f"{x:g} {y(value.high):g}" for x, value in points]
        edge += [f"{x:g} {y(value.low):g}" for x, value in reversed(points)]
        band.append("M" + "L".join(edge) + "Z")
    return Panel(
        title=label,
        top=top,
        height=height,
        line="".join(line),
        band="".join(band),
        lone=tuple(lone),
        ticks=tuple(Tick(at=y(mark), label=quantity(mark, unit)) for mark in marks),
    )


def _extent(values: Sequence[_Value], least: float) -> tuple[float, float]:
    """Return what the axis must show: zero too, unless the values are far from it."""
    if not values:
        return 0.0, max(1.0, least)
    low, high = min(value.low for value in values), max(value.high for value in values)
    if low >= 0 and low < 0.7 * high:
        low = 0.0
    return low, max(high, low + least)


def _unbroken(values: Sequence[_Value], breaks: Sequence[dt.datetime]) -> Iterable[list[_Value]]:
    """Return the values in groups with no break between."""
    group: list[_Value] = []
    for value in values:
        if group and bisect_right(breaks, group[-1].start) < bisect_left(breaks, value.start):
            yield group
            group = []
        group.append(value)
    if group:
        yield group


def _cells(periods: Sequence[Period], scale: _Scale, width: dt.timedelta) -> Iterable[Cell]:
    for period in periods:
        left, right = scale.x(period.start), scale.x(period.start + width)
        worst = next((state for state in ("failed", "error", "missed") if getattr(period, state)), "ok")
        bad = getattr(period, worst) if worst != "ok" else 0
        yield Cell(
            x=left,
            width=max(0.6, round(right - left, 1)),
            state=worst,
            # A single bad run among many must be seen.
            share=max(0.25, bad / period.runs) if bad else 1.0,
        )
