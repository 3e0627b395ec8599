"""How fast routers are asked: at a pace that Linux' default limits allow, and faster where a router keeps up.

Linux sends 1,000 ICMP errors a second at most, after a burst of 50, to all hosts together (`icmp_msgs_per_sec`,
`icmp_msgs_burst`). Whoever asks faster sees losses that are none. Each router has a bucket of its own, shared by all
runs of the worker. Who answers for a hop is known from earlier runs towards the same network; otherwise probes with
the same TTL are taken to meet the same router, which is the case near the worker, where it matters.

A router that answers all it is asked is asked faster, and back at the safe pace as soon as answers are missing. Probes
that the safe pace would have held back are marked as hasty: when one of those stays without an answer, its run asks
again, so that the trial costs nobody an answer.
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
#: Seconds at the safe pace after answers were missing.
_CALM_S = 60.0
#: Routers whose buckets are kept; those that were asked first are forgotten.
_MOST_ROUTERS = 20_000

#: A router's address as text, or IP version and TTL while it is not known.
Router = Union[str, tuple[int, int]]  # noqa: UP007  a value, and Python 3.10 has no `type`


class Bucket:
    """The probes that may be sent to one router now, and those that wait."""

    __slots__ = ("_awaited", "_calm_until_s", "_filled_s", "_level", "_pace", "_safe_level", "waiting")

    def __init__(self, now_s: float) -> None:
        self._pace = SAFE_PER_SECOND
        self._level = self._safe_level = _FIRST
        self._filled_s = now_s
        #: Probes that were sent and not answered, as far as the trial of a faster pace is concerned.
        self._awaited = 0
        self._calm_until_s = 0.0
        self.waiting: deque[Probe] = deque()

    def take(self, probe: Probe, now_s: float) -> bool:
        """Take one probe's share, if it is there."""
        passed_s = now_s - self._filled_s
        self._filled_s = now_s
        pace = self._pace
        burst = pace * _BURST_S if pace > SAFE_PER_SECOND else SAFE_BURST
        level = min(burst, self._level + passed_s * pace)
        safe = min(SAFE_BURST, self._safe_level + passed_s * SAFE_PER_SECOND)
        if pace > SAFE_PER_SECOND and self._awaited > 2 * burst:
            self._pace = SAFE_PER_SECOND
            self._calm_until_s = now_s + _CALM_S
            level = safe
        if level < 1.0:
            self._level, self._safe_level = level, safe
            return False
        probe.hasty = safe < 1.0
        probe.bucket = self
        self._level, self._safe_level = level - 1.0, max(0.0, safe - 1.0)
        self._awaited += 1
        return True

    def answered(self, now_s: float) -> None:
        """The router has answered a probe."""
        if self._awaited:
            self._awaited -= 1
        if self._pace < _MOST_PER_SECOND and now_s > self._calm_until_s:
            self._pace *= _GROWTH

    def given_up(self) -> None:
        """A probe stays without an answer."""
        if self._awaited:
            self._awaited -= 1


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
