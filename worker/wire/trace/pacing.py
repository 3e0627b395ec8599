"""How fast routers are asked: no faster than one answers under the limits that Linux and others have by default.

Linux sends 1,000 ICMP errors a second at most, after a burst of 50, to all hosts together (`icmp_msgs_per_sec`,
`icmp_msgs_burst`). Whoever asks faster sees losses that are none. Each router has a bucket of its own, shared by all
runs of the worker. Who answers for a hop is known from earlier runs towards the same network; otherwise probes with
the same TTL are taken to meet the same router, which is the case near the worker, where it matters.
"""

from __future__ import annotations

from collections import deque
from typing import Union

from worker.wire.trace.plan import Probe

#: Below Linux's defaults: others ask too, it fills its bucket in lumps of 20 ms, and takes up to two for one at random.
PER_SECOND = 800.0
BURST = 20.0
#: What a new bucket holds. A router that becomes known by its address has been asked as its TTL's just before.
_FIRST = 4.0
#: Routers whose buckets are kept; those that were asked first are forgotten.
_MOST_ROUTERS = 20_000

#: A router's address as text, or IP version and TTL while it is not known.
Router = Union[str, tuple[int, int]]  # noqa: UP007  a value, and Python 3.10 has no `type`


class Bucket:
    """The probes that may be sent to one router now, and those that wait."""

    __slots__ = ("filled_s", "level", "waiting")

    def __init__(self, now_s: float) -> None:
        self.level = _FIRST
        self.filled_s = now_s
        self.waiting: deque[Probe] = deque()

    def take(self, now_s: float) -> bool:
        """Take one probe's share, if it is there."""
        level = min(BURST, self.level + (now_s - self.filled_s) * PER_SECOND)
        self.filled_s = now_s
        if level < 1.0:
            self.level = level
            return False
        self.level = level - 1.0
        return True


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
        if not bucket.waiting and bucket.take(now_s):
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
            while waiting and bucket.take(now_s):
                found.append(waiting.popleft())
            if not waiting:
                del self._behind[bucket]
        return found
