"""Which runs show the batch model what is usual."""

from __future__ import annotations

from collections.abc import Sequence

from controller.diagnosis.learning.detector import Detector
from controller.diagnosis.learning.forest import SAMPLE

#: Runs before a suspicion among which the usual ones are looked for.
LOOK_BACK = 2 * SAMPLE
Row = list[float | None]


def usual(rows: Sequence[Row], names: Sequence[str], suspected: Sequence[Detector]) -> list[Row]:
    """Return runs as they are in quiet times, with no more spikes among them than such times have.

    What was an anomaly an hour ago would otherwise pass for usual, and keep the forest from seeing it again. `rows` are
    the runs before the suspicion, newest first; `names` their columns' metrics.
    """
    places = [(detector, names.index(detector.metric.name)) for detector in suspected]

    def odd(row: Row) -> bool:
        values = [(detector, row[place]) for detector, place in places]
        return any(value is not None and detector.normal.beyond(float(value)) for detector, value in values)

    share = max((detector.spikes / max(detector.quiet, 1.0) for detector in suspected), default=0.0)
    spikes: list[Row] = []
    quiet: list[Row] = []
    for row in rows:
        (spikes if odd(row) else quiet).append(row)
    kept = spikes[: round(share * SAMPLE)]
    return [*quiet[: SAMPLE - len(kept)], *kept]
