"""How fast routers are asked: at a pace that Linux' default limits allow, and faster where a router keeps up.

Linux sends 1,000 ICMP errors a second at most, after a burst of 50, to all hosts together (`icmp_msgs_per_sec`,
`icmp_msgs_burst`). Whoever asks faster sees losses that are none. Each router has a bucket of its own, shared by all
runs of the worker. Who answers for a hop is known from earlier runs towards the same network; otherwise probes with
the same TTL are taken to meet the same router, which is the case near the worker, where it matters.

A router with more to answer than the safe pace allows is tried: as long as it answers all it is asked, it is asked faster,
and back at the safe pace as soon as answers are missing. Probes of a trial are marked as hasty: when one of those stays
without an answer, its run asks again, so that the trial costs nobody an answer.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Union

if TYPE_CHECKING:
    from worker.wire.trace.plan import Probe

#: Below Linux's defaults: others ask too, it fills its bucket in lumps of 20 ms, and takes up to two for one at random.
SAFE_PER_SECOND = 800.0
SAFE_BURST = 20.0
#: What a new bucket holds. A router that becomes known by its address has been asked as its TTL's just before.
_FIRST = 4.0
#: Where a router keeps up: growth of the pace with each answer, its end, and how much of it may go at once.
_GROWTH = 1.02
_MOST_PER_SECOND = 20_000.0
_BURST_S = 0.02
#: Probes that may be missing before one that was answered: more, and the router does not keep up.
_MISSING = 6
#: Seconds without any probe after that, in which it fills its bucket, and seconds at the safe pace.
_PAUSE_S = 0.06
_CALM_S = 60.0
#: Routers whose buckets are kept; those that were asked first are forgotten.
_MOST_ROUTERS = 20_000

#: A router's address as text, or IP version and TTL while it is not known.
Router = Union[str, tuple[int, int]]  # noqa: UP007  a value, and Python 3.10 has no `type`


class Bucket:
    """The probes that may be sent to one router now, and those that wait."""

    __slots__ = (
        "_answered", "_calm_until_s", "_filled_s", "_first", "_level", "_newest", "_pace", "_pressed", "_sent", "waiting",
    )  # fmt: skip

    def __init__(self, now_s: float) -> None:
        self._pace = SAFE_PER_SECOND
        self._level = _FIRST
        self._filled_s = now_s
        #: Probes that were sent; the first that counts for the trial; of those the newest answered, and how many were.
        self._sent = 0
        self._first = 0
        self._newest = -1
        self._answered = 0
        #: A probe had to wait lately.
        self._pressed = False
        self._calm_until_s = 0.0
        self.waiting: deque[Probe] = deque()

    def take(self, probe: Probe, now_s: float) -> bool:
        """Take one probe's share, if it is there."""
        if probe.repeated and self._calm_until_s < now_s:
            # It was lost to a trial: perhaps to one of this router by another name.
            self._slow_down(now_s)
        pace = self._pace
        hasty = pace > SAFE_PER_SECOND
        burst = pace * _BURST_S if hasty else SAFE_BURST
        level = min(burst, self._level + (now_s - self._filled_s) * pace)
        self._filled_s = now_s
        if level < 1.0:
            self._level = level
            self._pressed = True
            return False
        self._level = level - 1.0
        probe.hasty = hasty
        probe.bucket = self
        probe.number = self._sent
        self._sent += 1
        return True

    def answered(self, probe: Probe, now_s: float) -> None:
        """The router has answered a probe."""
        if probe.number < self._first:
            return
        self._answered += 1
        if probe.number > self._newest:
            self._newest = probe.number
        missing = self._newest + 1 - self._first - self._answered
        if missing > _MISSING:
            self._slow_down(now_s)
        elif self._pressed and self._pace < _MOST_PER_SECOND and now_s > self._calm_until_s:
            self._pace *= _GROWTH
            self._pressed = bool(self.waiting)

    def given_up(self, probe: Probe, now_s: float) -> None:
        """A probe had no answer in time."""
        if probe.hasty and probe.number >= self._first:
            self._slow_down(now_s)

    def _slow_down(self, now_s: float) -> None:
        if self._pace > SAFE_PER_SECOND:
            self._level = -_PAUSE_S * SAFE_PER_SECOND
            self._filled_s = now_s
        self._pace = SAFE_PER_SECOND
        self._calm_until_s = now_s + _CALM_S
        self._first = self._sent
        self._newest = self._sent - 1
        self._answered = 0


class Pacing:
    """The buckets of all routers."""

    def __init__(self) -> None:
        self._buckets: dict[Router, Bucket] = {}
        #: Buckets for which probes wait, in the order in which they began to.
        self._behind: dict[Bucket, None] = {}

    def admit(self, probe: Probe, router: Router, now_s: float) -> bool:
        """Return whether a probe may be sent now; otherwise it waits, and `due` gives it back."""
        bucket = self._buckets.get(router)
        if bucket is None:
            bucket = self._buckets[router] = Bucket(now_s)
            if len(self._buckets) > _MOST_ROUTERS:
                del self._buckets[next(iter(self._buckets))]
        if not bucket.waiting and bucket.take(probe, now_s):
            return True
        bucket.waiting.append(probe)
        self._behind[bucket] = None
        return False

    @property
    def waiting(self) -> bool:
        """Whether any probe waits."""
        return bool(self._behind)

    def due(self, now_s: float) -> list[Probe]:
        """Return the probes that may be sent now, oldest first for each router."""
        found: list[Probe] = []
        for bucket in list(self._behind):
            waiting = bucket.waiting
            while waiting and bucket.take(waiting[0], now_s):
                found.append(waiting.popleft())
            if not waiting:
                del self._behind[bucket]
        return found
