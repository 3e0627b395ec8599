"""Tells the log what was not stored: of each worker and reason one line, and then none for ten minutes.

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
from collections.abc import Callable, Iterator, Mapping

from controller.gateway.lately import Lately
from controller.gateway.limits import RateLimit

_log = logging.getLogger(__name__)

_PAUSE_S = 600.0
_LINES_AT_ONCE, _LINES_PER_S = 10, 1 / 60
#: Reasons that wait to be told; a gateway that is told ever new ones forgets the counts of the oldest.
_MOST_WAITING = 10_000
_EXPIRED = "its time is over"
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
        for (worker_id, kind), count in self._due(kinds):
            _log.warning(
                "worker %s brings results that cannot be stored: %s (%s set aside since this was last told); "
                "its page and GET /api/v1/workers/%s/quarantine list them",
                worker_id,
                kind,
                count,
                worker_id,
            )

    def tell_expired(self, expired: Mapping[uuid.UUID, int]) -> None:
        """Take in how many results of a worker came after their time, and log what is to be told now."""
        for (worker_id, _), count in self._due({(worker, _EXPIRED): n for worker, n in expired.items()}):
            _log.warning(
                "worker %s brings results that are older than results are kept, and they are not stored (%s since this was "
                "last told); its page counts them",
                worker_id,
                count,
            )

    def _due(self, counts: Mapping[Aside, int]) -> Iterator[tuple[Aside, int]]:
        """Yield what is to be told now, with its count since it last was."""
        for aside, count in counts.items():
            self._untold[aside] += count
            if aside not in self._told and self._limit.allow(str(aside[0])):
                self._told.add(aside)
                yield aside, self._untold.pop(aside)
        while len(self._untold) > _MOST_WAITING:
            del self._untold[next(iter(self._untold))]
