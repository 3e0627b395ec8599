"""What the spool writes and reads."""

from __future__ import annotations

from dataclasses import dataclass

from worker.used import Used

#: Bytes that SQLite needs for a record beside its body, for the spool's accounts.
OVERHEAD = 32


@dataclass(frozen=True)
class Record:
    """One result waiting for acknowledgement."""

    seq: int
    #: The serialised Result.
    body: bytes


@dataclass(frozen=True)
class Entry:
    """What one append writes in one transaction."""

    body: bytes
    job_id: int = 0
    used: Used | None = None


@dataclass(frozen=True)
class Gap:
    """Runs of one job that did not start while the spool took no results: how many, and the first of them."""

    job_id: int
    count: int
    #: The last instant that was missed.
    last_us: int
    #: The serialised Result of the first one.
    body: bytes
