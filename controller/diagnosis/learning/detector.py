"""Watches one metric of one job: how often values lie beyond the normal range, and when that is no chance any more.

A single value beyond the range says little: networks have spikes. The detector knows how often they come in quiet
times, and becomes suspicious when the latest runs have so many that chance gives them once in half a million times.
That suits metrics with heavy tails, which have more spikes, without a setting for them.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from controller.diagnosis.learning.normal import LEAST, WINDOW, Normal
from controller.diagnosis.verdicts.records import MetricState
from controller.diagnosis.watched import floor
from streamswarm.contract import Metric

#: Runs that are looked at together: a hard fault shows in five, a faint one in twenty.
SPANS = (5, 10, 20)
_CHANCE = 2e-6
#: A loss is called by its sum over five runs too: it comes in drops, and a drop is no spike.
_LOSS_DEVIATIONS = 11.0
_LOSS_FLOORS = 2.5
#: Quiet runs after which the share of spikes forgets.
_MEMORY = 300.0
#: Runs that must be inside the range again, one after another, before a metric is normal again.
_CALM = 5
#: Runs after which the new level is what is normal now.
ADAPT = 500


@dataclass(kw_only=True)
class Detector:
    """One metric of one job; all of its state is numbers."""

    metric: Metric
    normal: Normal
    state: MetricState = "learning"
    #: Whether each of the latest runs was beyond the range, with its instant in microseconds; oldest first.
    recent: deque[tuple[int, bool]] = field(default_factory=lambda: deque(maxlen=SPANS[-1]))
    #: The latest values, oldest first.
    latest: deque[float] = field(default_factory=lambda: deque(maxlen=SPANS[0]))
    #: Values beyond the range that may yet turn out to be spikes, with the number of runs since each.
    pending: list[tuple[float, int]] = field(default_factory=list)
    #: Values since the suspicion; they become normal when it lasts.
    held: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    #: Quiet runs, with those beyond the range among them; both forget.
    quiet: float = 0.0
    spikes: float = 0.0
    since_us: int | None = None
    #: Measured runs since the suspicion.
    odd_runs: int = 0
    now: float | None = None
    #: The season's own limit at the newest run.
    raised_to: float | None = None

    @property
    def needed(self) -> int:
        """Measured runs that are still needed before the range is known."""
        return max(0, LEAST - len(self.normal))

    @property
    def beyond_lately(self) -> int:
        """How many of the latest five runs were beyond the range."""
        return sum(beyond for _, beyond in list(self.recent)[-SPANS[0] :])

    def score(self, value: float | None, at_us: int, *, good: bool, raised_to: float | None = None) -> None:
        """Take the value of the next run in; None was not measured. Only good runs teach what is normal."""
        self.now = None if value is None else _short(value)
        self.raised_to = raised_to
        if self.now is None:
            return
        value = self.now
        if self.needed:
            if good:
                self.normal.learn(value)
            if not self.needed:
                self.state, self.quiet = "normal", float(LEAST)
            return
        beyond = self.normal.beyond(value, raised_to=raised_to)
        self._remember(at_us, value, beyond)
        if self.state == "normal":
            self._score_normal(value, beyond, good=good)
        else:
            self._score_odd(value, good=good)

    def call(self) -> None:
        """Make the suspicion an anomaly: the batch model agrees."""
        if self.state == "suspected":
            self.state = "called"

    def beyond_us(self) -> list[int]:
        """Return the instants of the latest runs that were beyond the range, since the suspicion began."""
        return [at for at, beyond in self.recent if beyond and at >= (self.since_us or 0)]

    def _score_normal(self, value: float, beyond: bool, *, good: bool) -> None:
        self._learn_spikes()
        if good and beyond:
            self.pending.append((value, 0))
        elif good:
            self.normal.learn(value)
        since = self._suspicion() if beyond else None
        if since is not None:
            self.state, self.since_us, self.odd_runs = "suspected", since, 0
            self.held.extend(value for value, _ in self.pending)
            self.pending.clear()

    def _score_odd(self, value: float, *, good: bool) -> None:
        """While something is odd nothing is learnt; what lasts is normal in the end."""
        self.odd_runs += 1
        if good:
            self.held.append(value)
        lasting = self.odd_runs >= ADAPT and len(self.held) >= LEAST
        if lasting:
            self.normal = Normal(self.metric, self.held)
        if lasting or self._calm():
            self.state, self.since_us, self.odd_runs = "normal", None, 0
            self.held.clear()
            self.recent.clear()
            self.latest.clear()

    def _remember(self, at_us: int, value: float, beyond: bool) -> None:
        """Note a run; the one that leaves the latest ones counts for the share of spikes, if times were quiet."""
        if len(self.recent) == self.recent.maxlen and self.state == "normal":
            fade = 1.0 - 1.0 / _MEMORY
            self.quiet = _short(self.quiet * fade + 1.0)
            self.spikes = _short(self.spikes * fade + self.recent[0][1])
        self.recent.append((at_us, beyond))
        self.latest.append(value)

    def _learn_spikes(self) -> None:
        """Learn the values beyond the range that nothing followed."""
        aged = [(value, runs + 1) for value, runs in self.pending]
        for value, runs in aged:
            if runs >= SPANS[0]:
                self.normal.learn(value)
        self.pending = [(value, runs) for value, runs in aged if runs < SPANS[0]]

    def _suspicion(self) -> int | None:
        """Return since when the latest runs are too bad for chance, or None."""
        # Two more than were seen: a share that is known from few runs is taken to be larger.
        share = (self.spikes + 2.0) / (self.quiet + 4.0)
        latest = list(self.recent)
        for span in SPANS:
            hits = [at for at, beyond in latest[-span:] if beyond]
            if _tail(len(hits), span, share) < _CHANCE:
                return hits[0]
        return self._loss()

    def _loss(self) -> int | None:
        """Return since when packets are lost, judged by their sum; None for other metrics and while few are."""
        if self.metric.role != "loss" or len(self.latest) < SPANS[0]:
            return None
        middle, mean, deviation = self.normal.spread()
        values = [self.normal.turned(value) for value in self.latest]
        at = [at for at, _ in list(self.recent)[-len(values) :]]
        lossy = [at for at, value in zip(at, values, strict=True) if value > middle]
        least = max(
            _LOSS_FLOORS * floor(self.metric),
            _LOSS_DEVIATIONS * deviation / math.sqrt(len(values)),
        )
        if 2 * len(lossy) > len(values) and sum(values) / len(values) - mean >= least:
            return lossy[0]
        return None

    def _calm(self) -> bool:
        latest = list(self.recent)[-_CALM:]
        return len(latest) == _CALM and not any(beyond for _, beyond in latest)

    def dump(self) -> dict[str, Any]:
        """Return the state as plain JSON values."""
        return {
            "values": self.normal.values,
            "state": self.state,
            "recent": [[at, int(beyond)] for at, beyond in self.recent],
            "latest": list(self.latest),
            "pending": [[value, runs] for value, runs in self.pending],
            "held": list(self.held),
            "quiet": self.quiet,
            "spikes": self.spikes,
            "since_us": self.since_us,
            "odd_runs": self.odd_runs,
            "now": self.now,
            "raised_to": self.raised_to,
        }

    @classmethod
    def load(cls, metric: Metric, data: dict[str, Any] | None) -> Detector:
        """Return the detector that a dump describes; a new one without a dump."""
        if not data:
            return cls(metric=metric, normal=Normal(metric))
        return cls(
            metric=metric,
            normal=Normal(metric, data["values"]),
            state=data["state"],
            recent=deque(((at, bool(beyond)) for at, beyond in data["recent"]), maxlen=SPANS[-1]),
            latest=deque(data["latest"], maxlen=SPANS[0]),
            pending=[(value, runs) for value, runs in data["pending"]],
            held=deque(data["held"], maxlen=WINDOW),
            quiet=data["quiet"],
            spikes=data["spikes"],
            since_us=data["since_us"],
            odd_runs=data["odd_runs"],
            now=data["now"],
            raised_to=data["raised_to"],
        )


def _tail(hits: int, runs: int, share: float) -> float:
    """Return the chance of at least so many hits in so many runs, each with this share."""
    return sum(
        math.comb(runs, count) * share**count * (1.0 - share) ** (runs - count)
        for count in range(hits, runs + 1)
    )


def _short(value: float) -> float:
    """Return a number to seven digits: states are many, and the rest is noise."""
    return float(f"{value:.7g}")
