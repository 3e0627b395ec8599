"""Geometry of a metric's normal range with the value now, and of the health ring. Pure; templates write the SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass

from controller.diagnosis.verdicts.records import MetricReading

_WIDTH, _HEIGHT = 180, 22
_MARGIN = 8.0
#: A range that is next to nothing beside the value is drawn this wide, so that it can be seen.
_THINNEST = 5.0
_RING = 42.0


@dataclass(frozen=True, kw_only=True)
class RangeBar:
    """A normal range as a bar, with the value now as a mark."""

    width: int
    height: int
    #: Left edge and width of the normal range.
    x: float
    span: float
    #: Where its middle lies.
    normal: float
    #: Where the value now lies; None when it was not measured.
    now: float | None
    outside: bool


@dataclass(frozen=True, kw_only=True)
class Ring:
    """Health as an arc of a ring."""

    radius: float
    #: Length of the whole ring and of its filled part.
    whole: float
    filled: float
    #: `ok`, `attention`, `failed` or `missed`.
    tone: str


def range_bar(reading: MetricReading) -> RangeBar | None:
    """Draw a metric; None while its range is not known."""
    low, normal, high = reading.low, reading.normal, reading.high
    if low is None or normal is None or high is None:
        return None
    values = [low, high] if reading.now is None else [low, high, reading.now]
    least, most = min(values), max(values)
    room = (most - least) or max(abs(most), 1.0)
    # Zero belongs into the picture unless the range lies far from it: a bar that fills everything says nothing.
    if 0 <= least < 0.75 * most:
        least, room = 0.0, most
    scale = (_WIDTH - 2 * _MARGIN) / room

    def place(value: float) -> float:
        return round(_MARGIN + (value - least) * scale, 1)

    x, span = place(low), place(high) - place(low)
    if span < _THINNEST:
        x, span = max(0.0, x - (_THINNEST - span) / 2), _THINNEST
    return RangeBar(
        width=_WIDTH,
        height=_HEIGHT,
        x=round(x, 1),
        span=round(span, 1),
        normal=place(normal),
        now=None if reading.now is None else place(reading.now),
        outside=reading.now is not None and not low <= reading.now <= high,
    )


def ring(health: int | None) -> Ring:
    """Draw a health figure; an unknown one is an empty ring."""
    whole = round(2 * math.pi * _RING, 2)
    if health is None:
        return Ring(radius=_RING, whole=whole, filled=0.0, tone="missed")
    tone = "ok" if health >= 90 else "attention" if health >= 60 else "failed"
    return Ring(radius=_RING, whole=whole, filled=round(whole * health / 100, 2), tone=tone)
