"""Which of the runs that were due were delivered, and which were not though nothing failed."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import pairwise

from controller.fleet.upgrades.samples import Line, Run

#: A gap of so many runs or more says nothing of single ones: the host was off, or the window of the schedule closed.
_AWAY = 10
#: By how much of an interval a job's usual gap may differ from it; others have a schedule that is not even.
_EVEN = 0.1
#: A run that was due and was not delivered, and one that was, in percent of what was lost.
_LOST, _DELIVERED = 100.0, 0.0


def deliveries(line: Line) -> tuple[list[float], list[float]]:
    """Return for each run that was due before the upgrade and since, in the order of time, whether it is missing: 100 or 0.

    A run that came shows that those between it and the one before it were due. Since the upgrade also those are that were
    due before the newest run of the host, as results come in their order. The first run of each side is left out.
    """
    interval_s = line.interval_s
    gaps = [_seconds(early, late) for late, early in pairwise(line.before)]
    if not interval_s or not gaps or abs(statistics.median(gaps) - interval_s) > _EVEN * interval_s:
        return [], []
    before, after = _due(line.before, interval_s), _due(line.after, interval_s)
    if line.after and line.arrived_until is not None:
        open_s = (line.arrived_until - line.after[0].scheduled_at).total_seconds()
        # The last one may still be under way.
        missing = int(open_s / interval_s) - 1
        after += [_LOST] * missing if 0 < missing < _AWAY else []
    return before, after


def _due(runs: Sequence[Run], interval_s: float) -> list[float]:
    found = []
    for early, late in pairwise(reversed(runs)):
        missing = round(_seconds(early, late) / interval_s) - 1
        found += [_LOST] * missing if 0 < missing < _AWAY else []
        found.append(_DELIVERED)
    return found


def _seconds(early: Run, late: Run) -> float:
    return (late.scheduled_at - early.scheduled_at).total_seconds()
