"""Where a line has no runs, and whether any were due there by the schedule of that time. Pure.

A chart's line joins runs that follow each other by the schedule. Where a due run lacks it is broken, and where the
schedule rests it is too, for nothing was measured there; but only the first is something to worry about.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from controller.planning.accounts import Span

Reason = Literal["missing", "rest", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A time without runs, in microseconds since 1970: [start, end)."""

    start_us: int
    end_us: int
    #: `missing`: runs were due, the first at the start, and none came. `rest`: none was due, for longer than from one
    #: run to the next: a night, a pause, a drained worker. `unknown`: the schedule of that time is not known any more.
    reason: Reason


@dataclass(frozen=True, kw_only=True)
class _Mark:
    """A time with runs, or one in which every due run lacks: instants from the first to the last."""

    first_us: int
    last_us: int
    #: How far the next due instant may be and still follow.
    stride_us: int
    missing: bool


def gaps(
    known: Sequence[Span],
    covered: Sequence[tuple[int, int]],
    *,
    start_us: int,
    end_us: int,
    unknown: Sequence[tuple[int, int]] = (),
    drains: Sequence[tuple[int, int]] = (),
    buckets: bool = False,
) -> tuple[Gap, ...]:
    """Return the gaps of a line within [start, end), in order.

    `covered` are the times [from, to) of which there are runs, in order and apart: instants of runs, or `buckets`. Of times
    in `unknown` it is not known what was due; single runs are joined there, and what lies between buckets is a gap.
    In `drains` the worker was out of service: nothing lacks there.
    """
    spans = sorted(known, key=lambda span: span.start_us)
    starts = [span.start_us for span in spans]
    strides = [span.version.schedule.longest_stride_us for span in spans] or [0]

    def stride(instant_us: int) -> int:
        return strides[max(0, bisect_right(starts, instant_us) - 1)]

    marks = [
        _Mark(first_us=first, last_us=end - 1, stride_us=stride_us, missing=False)
        for first, end, stride_us in _touching(covered, stride)
    ]
    excused = _united([*covered, *drains])
    for span in spans:
        if not span.version.paused:
            marks += _lacking(span, excused)
    found: list[Gap] = []
    before: _Mark | None = None
    for mark in _joined(sorted(marks, key=lambda mark: mark.first_us)):
        found += _between(before, mark, start_us, end_us)
        before = mark
    found += _between(before, None, start_us, end_us)
    inside = (replace(gap, end_us=min(gap.end_us, end_us)) for gap in found if gap.start_us < end_us)
    return tuple(_known_apart(inside, unknown, buckets=buckets))


def _touching(covered: Iterable[tuple[int, int]], stride: Callable[[int], int]) -> list[tuple[int, int, int]]:
    """Return the same times, each with its stride, in which those of one stride that touch are one: buckets mostly do."""
    found: list[tuple[int, int, int]] = []
    for start, end in covered:
        stride_us = stride(start)
        if found and found[-1][1:] == (start, stride_us):
            found[-1] = (found[-1][0], end, stride_us)
        else:
            found.append((start, end, stride_us))
    return found


def _united(times: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the same times in order and apart."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(times):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def _lacking(span: Span, covered: Sequence[tuple[int, int]]) -> Iterator[_Mark]:
    """Yield the times in which every due instant of a version lacks."""
    schedule, at = span.version.schedule, 0
    for base, offsets in schedule.chunks(span.start_us, span.end_us - 1):
        next_ = 0
        while next_ < len(offsets):
            due = base + offsets[next_]
            while at < len(covered) and covered[at][1] <= due:
                at += 1
            if at < len(covered) and covered[at][0] <= due:
                next_ = bisect_left(offsets, covered[at][1] - base, next_)
                continue
            behind = bisect_left(offsets, covered[at][0] - base, next_) if at < len(covered) else len(offsets)
            yield _Mark(
                first_us=due,
                last_us=base + offsets[behind - 1],
                stride_us=schedule.longest_stride_us,
                missing=True,
            )
            next_ = behind


def _joined(marks: Sequence[_Mark]) -> list[_Mark]:
    """Return marks in which what lacks without a rest or a run between is one."""
    found: list[_Mark] = []
    for mark in marks:
        last = found[-1] if found else None
        if (
            last is not None
            and last.missing
            and mark.missing
            and mark.first_us - last.last_us <= max(last.stride_us, mark.stride_us)
        ):
            found[-1] = replace(last, last_us=max(last.last_us, mark.last_us), stride_us=mark.stride_us)
        else:
            found.append(mark)
    return found


def _between(before: _Mark | None, mark: _Mark | None, start_us: int, end_us: int) -> Iterator[Gap]:
    """Yield the gap that one mark is, if it lacks, and the rest from there to the next; None stands for the range's edges."""
    behind = start_us if before is None else before.last_us
    ahead = end_us if mark is None else mark.first_us
    stride = max(each.stride_us for each in (before, mark) if each) if before or mark else 0
    rests = ahead - behind > stride
    begin = behind
    if before is not None:
        # It rests from where the next run would have been.
        usual = before.stride_us * 2 // 3
        begin = min(ahead, behind + max(usual, 1))
    if before is not None and before.missing:
        yield Gap(start_us=before.first_us, end_us=begin if rests else ahead, reason="missing")
    if rests and begin < ahead:
        yield Gap(start_us=begin, end_us=ahead, reason="rest")


def _known_apart(found: Iterable[Gap], unknown: Sequence[tuple[int, int]], *, buckets: bool) -> Iterator[Gap]:
    """Yield gaps in which no time of which nothing is known is called a rest."""
    for gap in found:
        begin = gap.start_us
        for start, end in unknown if gap.reason == "rest" else ():
            start, end = max(start, begin), min(end, gap.end_us)
            if start >= end:
                continue
            if begin < start:
                yield replace(gap, start_us=begin, end_us=start)
            if buckets:
                yield Gap(start_us=start, end_us=end, reason="unknown")
            begin = end
        if begin < gap.end_us:
            yield replace(gap, start_us=begin)
