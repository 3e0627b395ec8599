"""Geometry of small drawings: trends and the comb of workers. Pure; templates write the SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from controller.store.queries.glances import Alike, Glance
from controller.store.queries.pages import Trend
from web.pages.states import worker_state

_SPARK_WIDTH, _SPARK_HEIGHT = 120, 28
_CELL = 18.0


@dataclass(frozen=True, kw_only=True)
class Spark:
    """A trend as an SVG path."""

    width: int
    height: int
    #: `d` of the path; it lifts the pen at every gap.
    path: str
    #: Measured slots without neighbours, which a path would not show.
    lone: tuple[tuple[float, float], ...]
    #: Where runs did not end well.
    fails: tuple[float, ...]
    #: Jobs that it is of where those are some of many, and how many there are; 0 where it is of all.
    jobs: int
    among: int


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One worker of the comb."""

    worker: Glance
    state: str
    word: str
    #: Corners, as a polygon's `points`.
    points: str


@dataclass(frozen=True, kw_only=True)
class Comb:
    """The first workers of the fleet as cells of a comb."""

    width: int
    height: int
    cells: tuple[Cell, ...]
    #: Empty cells that fill the last row up.
    rest: tuple[str, ...]
    #: State, word and count of all workers.
    legend: tuple[tuple[str, str, int], ...]
    #: Workers that have no cell.
    left_out: int


def spark(trend: Trend | None, slots: int) -> Spark:
    """Draw a trend, None for one of a test without jobs; slots without a value are gaps."""
    points = trend.points if trend else ()
    measured = {point.slot: point.value for point in points if point.value is not None}
    low, high = min(measured.values(), default=0.0), max(measured.values(), default=0.0)
    room = high - low
    floor = 0.0 if low >= 0 and low < 0.6 * high else low - 0.15 * room
    reach = (high - floor) or 1.0
    top, bottom = 3.0, _SPARK_HEIGHT - 5.0

    def place(slot: int) -> tuple[float, float]:
        x = (slot + 0.5) * _SPARK_WIDTH / slots
        share = (measured[slot] - floor) / reach if room or floor == 0.0 else 0.5
        return round(x, 1), round(bottom - share * (bottom - top), 1)

    path: list[str] = []
    lone: list[tuple[float, float]] = []
    for slot in sorted(measured):
        x, y = place(slot)
        before, after = slot - 1 in measured, slot + 1 in measured
        if not before and not after:
            lone.append((x, y))
        else:
            path.append(f"{'L' if before else 'M'}{x:g} {y:g}")
    fails = tuple(round((point.slot + 0.5) * _SPARK_WIDTH / slots, 1) for point in points if point.bad)
    partly = trend if trend and trend.jobs < trend.among else None
    return Spark(
        width=_SPARK_WIDTH,
        height=_SPARK_HEIGHT,
        path="".join(path),
        lone=tuple(lone),
        fails=fails,
        jobs=partly.jobs if partly else 0,
        among=partly.among if partly else 0,
    )


def comb(workers: Sequence[Glance], fleet: Sequence[Alike]) -> Comb:
    """Lay workers out as a comb, rows shifted by half a cell; the legend counts the whole fleet."""
    count = len(workers)
    layout = _layout(count)
    cells = []
    for worker, points in zip(workers, layout.places, strict=False):
        state, word = worker_state(worker.look)
        cells.append(Cell(worker=worker, state=state, word=word, points=points))
    tally: dict[tuple[str, str], int] = {}
    for alike in fleet:
        shown = worker_state(alike.look)
        tally[shown] = tally.get(shown, 0) + alike.count
    return Comb(
        width=layout.width,
        height=layout.height,
        cells=tuple(cells),
        rest=layout.places[count:],
        legend=tuple((state, word, number) for (state, word), number in tally.items()),
        left_out=max(0, sum(tally.values()) - count),
    )


@dataclass(frozen=True, kw_only=True)
class _Layout:
    """Where the cells of a comb lie; its last row is full."""

    width: int
    height: int
    places: tuple[str, ...]


# It is drawn again every few seconds, mostly of as many workers.
@lru_cache(maxsize=8)
def _layout(count: int) -> _Layout:
    columns = max(6, math.ceil(math.sqrt(count * 2.6))) if count else 0
    rows = math.ceil(count / columns) if count else 0
    step_x, step_y = _CELL * math.sqrt(3), _CELL * 1.5
    places = tuple(
        _hexagon(
            _CELL * 0.95 + index % columns * step_x + index // columns % 2 * step_x / 2,
            index // columns * step_y,
        )
        for index in range(max(rows, 2) * columns if count else 0)
    )
    return _Layout(
        width=math.ceil((columns + 0.6) * step_x),
        height=math.ceil((max(rows, 2) - 1) * step_y + 2 * _CELL + 4),
        places=places,
    )


def _hexagon(x: float, y: float) -> str:
    size = _CELL * 0.9
    corners = (
        (x + size * math.sin(a), y + _CELL + 2 - size * math.cos(a))
        for a in (k * math.pi / 3 for k in range(6))
    )
    return " ".join(f"{cx:.1f},{cy:.1f}" for cx, cy in corners)
