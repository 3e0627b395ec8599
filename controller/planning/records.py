"""What planning works with: tests, workers and destinations as values, jobs as they should be and as they are."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from streamswarm.windows import Window

#: Which job is meant: test, worker, destination (0 for none) and, for one-shot jobs, the instant it is due.
Identity = tuple[int, uuid.UUID, int, int]


@dataclass(frozen=True, kw_only=True)
class PlannedDestination:
    """A destination of a test."""

    id: int
    name: str
    #: Host, host:port or URL, as typed.
    address: str
    deleted: bool = False


@dataclass(frozen=True, kw_only=True)
class PlannedTest:
    """A test as far as planning looks at it."""

    id: int
    kind: str
    spec: Mapping[str, Any]
    #: `{"all": true}`, or any of `workers`, `sites`, `groups`, `labels`.
    selection: Mapping[str, Any]
    destinations: tuple[PlannedDestination, ...]
    #: Microseconds between runs; None with cron and for a one-shot test.
    interval_us: int | None
    starts_at: dt.datetime | None
    ends_at: dt.datetime | None
    paused: bool
    #: Five fields; empty for interval and one-shot tests.
    cron: str = ""
    #: In which cron and windows are meant.
    zone: str = "UTC"
    windows: tuple[Window, ...] = ()
    #: It ends after so many due instants, counted from its start.
    max_runs: int | None = None
    #: Whether each due instant makes a test of its own; then it has no jobs itself.
    makes_tests: bool = False
    deleted: bool
    created_at: dt.datetime


@dataclass(frozen=True, kw_only=True)
class PlannedWorker:
    """A worker as far as planning looks at it."""

    id: uuid.UUID
    name: str
    site: str
    groups: tuple[str, ...]
    labels: Mapping[str, str]
    #: `{kind: {available, reason, mend}}` as announced; empty until its first session.
    kinds: Mapping[str, Mapping[str, Any]]
    enrolled: bool
    revoked: bool
    deleted: bool
    #: Of its release; 0 until its first session.
    contract_version: int = 0


@dataclass(frozen=True, kw_only=True)
class JobValues:
    """A job as it should be."""

    test_id: int
    worker_id: uuid.UUID
    destination_id: int | None
    kind: str
    target: str
    spec: Mapping[str, Any]
    #: 0 with cron and for a one-shot job.
    interval_us: int
    #: Grid origin with the job's phase in it; with cron the phase alone; the due instant of a one-shot job.
    anchor_us: int
    starts_at: dt.datetime | None
    ends_at: dt.datetime | None
    paused: bool
    one_shot: bool
    #: A one-shot job is not started after this instant.
    expires_at: dt.datetime | None
    cron: str = ""
    zone: str = "UTC"
    #: As the database has them: `{days, from, to}` each.
    windows: Sequence[Mapping[str, Any]] = ()

    @property
    def identity(self) -> Identity:
        """What stays the same when the job changes."""
        return (
            self.test_id,
            self.worker_id,
            self.destination_id or 0,
            self.anchor_us if self.one_shot else -1,
        )


@dataclass(frozen=True, kw_only=True)
class ExistingJob:
    """A job as it is."""

    id: int
    version: int
    retired: bool
    values: JobValues


@dataclass(frozen=True, kw_only=True)
class Skip:
    """Something that a test asks for and that is not planned, with the reason for people."""

    test_id: int
    #: None when no worker can do it.
    worker_id: uuid.UUID | None
    worker_name: str
    #: None when it is not about one destination.
    destination_id: int | None
    destination_name: str
    #: Why not, and where it is known, what mends it.
    reason: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All jobs that should be, and what could not be planned."""

    jobs: tuple[JobValues, ...]
    skipped: tuple[Skip, ...]
    #: Test and worker of every pair that may work together; one-shot jobs of others are withdrawn.
    pairs: frozenset[tuple[int, uuid.UUID]]


@dataclass(frozen=True, kw_only=True)
class Change:
    """A job that becomes another, or comes back from retirement, under its old id."""

    job: ExistingJob
    values: JobValues


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What must be done to get from the jobs that are to those that should be."""

    create: tuple[JobValues, ...]
    change: tuple[Change, ...]
    retire: tuple[ExistingJob, ...]

    def __bool__(self) -> bool:
        return bool(self.create or self.change or self.retire)

    @property
    def workers(self) -> frozenset[uuid.UUID]:
        """The workers whose jobs change."""
        return frozenset(
            [values.worker_id for values in self.create]
            + [change.values.worker_id for change in self.change]
            + [job.values.worker_id for job in self.retire]
        )

    @property
    def tests(self) -> frozenset[int]:
        """The tests whose jobs change."""
        return frozenset(
            [values.test_id for values in self.create]
            + [change.values.test_id for change in self.change]
            + [job.values.test_id for job in self.retire]
        )
