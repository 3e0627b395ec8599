"""Geometry of a judgement: what a quantity was before an upgrade and since, with the release and without. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from controller.store.operation_notes import Figure

_WIDTH, _HEIGHT = 180, 34
_MARGIN = 8.0
_OURS, _OTHERS = 10.0, 24.0
#: The scale is at least so wide: percentage points; a share of the largest value, or where that is nothing in its unit.
_WIDE_POINTS, _WIDE_SHARE, _WIDE_AT_LEAST = 10.0, 0.2, 1e-3
_NOTHING = "\N{EN DASH}"


@dataclass(frozen=True, kw_only=True)
class Change:
    """One group's change: a line from what was to what is."""

    y: float
    before: float
    after: float


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure as a drawing and in words."""

    figure: Figure
    width: int
    height: int
    #: With the release, and without it; None where nobody without it measured that.
    ours: Change
    others: Change | None
    #: `10.1 ms`.
    before: str
    after: str
    others_before: str
    others_after: str


def picture(figure: Figure) -> Picture:
    """Draw a figure; both groups on one scale."""
    values = [figure.before, figure.after]
    before, after = figure.others_before, figure.others_after
    if before is not None and after is not None:
        values += [before, after]
    least, most = min(values), max(values)
    # Zero belongs into the picture unless all lies far from it; and a small change that fills everything would say too much.
    if 0 <= least < 0.75 * most:
        least = 0.0
    wide = _WIDE_POINTS if figure.unit == "%" else max(_WIDE_SHARE * abs(most), _WIDE_AT_LEAST)
    room = max(most - least, wide)
    if least:
        least -= (room - (most - least)) / 2

    def place(value: float) -> float:
        return round(_MARGIN + (value - least) * (_WIDTH - 2 * _MARGIN) / room, 1)

    def words(value: float | None) -> str:
        return _NOTHING if value is None else f"{value:.3g} {figure.unit}".rstrip()

    return Picture(
        figure=figure,
        width=_WIDTH,
        height=_HEIGHT,
        ours=Change(y=_OURS, before=place(figure.before), after=place(figure.after)),
        others=None
        if before is None or after is None
        else Change(y=_OTHERS, before=place(before), after=place(after)),
        before=words(figure.before),
        after=words(figure.after),
        others_before=words(before),
        others_after=words(after),
    )
