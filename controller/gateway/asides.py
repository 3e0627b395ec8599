"""Tells the log what was set aside: of each worker and reason one line, and then none for ten minutes.

What a worker brings comes by the thousand, and one that is broken or in other hands says what it likes: so reasons are
told without the numbers in them, each at the most once in ten minutes with the count of those in between, and of one
worker no more than ten lines at once and one a minute.
"""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping

from controller.gateway.lately import Lately
from controller.gateway.limits import RateLimit

_log = logging.getLogger(__name__)

_PAUSE_S = 600.0
_LINES_AT_ONCE, _LINES_PER_S = 10, 1 / 60
#: Reasons that wait to be told; a gateway that is told ever new ones forgets the counts of the oldest.
_MOST_WAITING = 10_000
_NUMBER = re.compile(r"[-+]?\b(\d[\d.e+-]*|nan|inf)\b")

#: Worker and reason, in full.
Aside = tuple[uuid.UUID, str]


def kind_of(fault: str) -> str:
    """Return what results with like faults have in common: no numbers, and nothing that the database or JSON quotes."""
    return _NUMBER.sub("…", fault.partition(":")[0])


class Asides:
    """Counts what was set aside, and tells of it."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._told: Lately[Aside] = Lately(_PAUSE_S, now=now)
        self._limit = RateLimit(rate=_LINES_PER_S, burst=_LINES_AT_ONCE, now=now)
        self._untold: Counter[Aside] = Counter()

    def tell(self, asides: Mapping[Aside, int]) -> None:
        """Take in how many results of a worker were set aside for a reason, and log what is to be told now."""
        kinds: Counter[Aside] = Counter()
        for (worker_id, fault), count in asides.items():
            kinds[worker_id, kind_of(fault)] += count
        for aside, count in kinds.items():
            self._untold[aside] += count
            worker_id, kind = aside
            if aside in self._told or not self._limit.allow(str(worker_id)):
                continue
            self._told.add(aside)
            _log.warning(
                "worker %s brings results that cannot be stored: %s (%s set aside since this was last told); "
                "its page and GET /api/v1/workers/%s/quarantine list them",
                worker_id,
                kind,
                self._untold.pop(aside),
                worker_id,
            )
        while len(self._untold) > _MOST_WAITING:
            del self._untold[next(iter(self._untold))]
