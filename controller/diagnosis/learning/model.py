"""One job's model: a detector for each watched metric, and how the latest runs ended."""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from controller.diagnosis.learning.detector import Detector
from controller.diagnosis.learning.season import Season
from controller.diagnosis.watched import watched
from streamswarm.zones import to_microseconds

#: The latest runs that a verdict looks at.
RUNS = 20
#: Runs between two questions to the batch model about the same suspicion.
_PATIENCE = 5


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run, as the model takes it in."""

    at: dt.datetime
    #: `ok`, `failed`, `error` or `missed`.
    status: str
    source: str
    error: str
    clock_offset_ms: float | None
    #: Watched metrics; what was not measured is None or not there.
    values: Mapping[str, float | None]


class JobModel:
    """What is known of one job; scoring the same runs again gives the same model."""

    def __init__(self, kind: str, data: Mapping[str, Any] | None = None) -> None:
        data = data or {}
        detectors = data.get("detectors", {})
        self.detectors = {
            metric.name: Detector.load(metric, detectors.get(metric.name)) for metric in watched(kind)
        }
        self.runs: deque[tuple[int, str, str]] = deque(
            ((at, status, source) for at, status, source in data.get("runs", [])), maxlen=RUNS
        )
        self.error: str = data.get("error", "")
        self.clock_offset_ms: float | None = data.get("clock_offset_ms")
        #: Runs until the batch model may be asked again.
        self.patience: int = data.get("patience", 0)

    @property
    def needed(self) -> int:
        """Runs that are still needed before the job's headline, or whatever it measures at all, is known."""
        started = [detector for detector in self.detectors.values() if len(detector.normal)]
        return max((detector.needed for detector in started or self.detectors.values()), default=0)

    @property
    def suspected(self) -> list[Detector]:
        """The detectors about which the batch model is to be asked now."""
        if self.patience > 0:
            return []
        return [detector for detector in self.detectors.values() if detector.state == "suspected"]

    def score(self, run: Run, season: Season) -> None:
        """Take the next run in. What was not measured teaches nothing and says nothing."""
        at_us = to_microseconds(run.at)
        self.runs.append((at_us, run.status, run.source))
        if run.status != "ok":
            self.error = run.error
        self.clock_offset_ms = run.clock_offset_ms
        self.patience = max(0, self.patience - 1)
        measured = run.status in ("ok", "failed")
        for name, detector in self.detectors.items():
            value = run.values.get(name) if measured else None
            good = run.status == "ok"
            detector.score(value, at_us, good=good, raised_to=season.limit(detector.metric, run.at))
            if value is not None and good:
                season.learn(detector.metric, value, run.at)

    def judged(self, agreed: bool) -> None:
        """Take the batch model's answer about what is suspected."""
        for detector in self.suspected:
            if agreed:
                detector.call()
        self.patience = 0 if agreed else _PATIENCE

    def dump(self) -> dict[str, Any]:
        """Return the model as plain JSON values."""
        return {
            "detectors": {name: detector.dump() for name, detector in self.detectors.items()},
            "runs": [list(run) for run in self.runs],
            "error": self.error,
            "clock_offset_ms": self.clock_offset_ms,
            "patience": self.patience,
        }

    def reading(self) -> dict[str, Any]:
        """Return what verdicts read of it, as plain JSON values."""
        return {
            "metrics": [_shown(detector) for detector in self.detectors.values()],
            "runs": [list(run) for run in self.runs],
            "error": self.error,
            "clock_offset_ms": self.clock_offset_ms,
        }


def _shown(detector: Detector) -> dict[str, Any]:
    raised_to = detector.raised_to
    usual = None if detector.needed else detector.normal.range(raised_to=raised_to)
    plain = None if detector.needed else detector.normal.range()
    return {
        "name": detector.metric.name,
        "state": detector.state,
        "low": usual and usual.low,
        "normal": usual and usual.normal,
        "high": usual and usual.high,
        "now": detector.now,
        "since_us": detector.since_us,
        "beyond": detector.beyond_lately,
        "seasonal": usual != plain,
    }
