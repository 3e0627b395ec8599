"""Compares what workers have spooled with what is stored of their jobs: nothing lost, nothing doubled."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from support.installation import Installation
from support.spools import Key, Ledger


@dataclass(kw_only=True)
class Found:
    """What became of everything that was spooled."""

    spooled: int = 0
    lost: list[Key] = field(default_factory=list)
    #: Rows beyond the first of one run.
    doubled: int = 0
    #: Rows of runs that nobody has spooled.
    invented: list[Key] = field(default_factory=list)
    #: Runs that a worker has spooled more than once.
    repeated: list[Key] = field(default_factory=list)
    quarantined: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether each result was stored exactly once."""
        return not (self.lost or self.doubled or self.invented or self.repeated or self.quarantined)


def compare(made: Installation, ledgers: Mapping[uuid.UUID, Ledger]) -> Found:
    """Hold what each worker has spooled against what is stored of its jobs; all of them measure over TCP."""
    found = Found()
    for worker_id, ledger in ledgers.items():
        spooled = ledger.spooled()
        stored = Counter(
            (job_id, due_us)
            for job_id, due_us in made.sql(
                "SELECT r.job_id, (extract(epoch FROM r.scheduled_at) * 1000000)::bigint "
                "FROM result_tcp r JOIN jobs j ON j.id = r.job_id WHERE j.worker_id = %s",
                worker_id,
            )
        )
        found.spooled += len(spooled)
        found.lost += spooled.keys() - stored.keys()
        found.invented += stored.keys() - spooled.keys()
        found.repeated += [key for key, count in spooled.items() if count > 1]
        found.doubled += stored.total() - len(stored)
    found.quarantined = made.sql("SELECT worker_id, seq, reason FROM quarantine LIMIT 20")
    return found


def waits_beyond(ledger: Ledger, seq: int) -> bool:
    """Whether everything that was spooled up to a sequence number has been acknowledged."""
    oldest = ledger.oldest_waiting()
    return oldest is None or oldest > seq
