"""What is known of jobs when a verdict is asked for, and what a verdict says."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from streamswarm.contract import Kind, Metric

#: `called` is an anomaly on which online detector and forest agree; `suspected` one that the forest has not seen.
MetricState = Literal["learning", "normal", "suspected", "called"]
#: The fault domains of the contract, in lower case.
Domain = Literal["unknown", "target_fault", "path_fault", "vantage_fault", "resolver_fault", "internal"]
#: How a job fares. Only `good` and `bad` say something about the destination.
Condition = Literal["good", "bad", "learning", "unmeasured", "silent"]
Status = Literal["healthy", "fault", "unmeasured", "learning", "silent", "idle"]


@dataclass(frozen=True, kw_only=True)
class MetricReading:
    """One watched metric of a job: its normal range and where it stands."""

    metric: Metric
    state: MetricState
    #: The normal range and its middle; None while it is being learnt.
    low: float | None
    normal: float | None
    high: float | None
    #: The newest value; None when the newest run did not measure it.
    now: float | None
    #: When it left its range; None while it is inside.
    since: dt.datetime | None
    #: How many of the latest five runs were beyond the range.
    beyond: int = 0
    #: Whether the range is that of this hour of the week.
    seasonal: bool = False


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """How one run ended."""

    at: dt.datetime
    #: `ok`, `failed`, `error` or `missed`.
    status: str
    #: The failure source, as in results.
    source: str


@dataclass(frozen=True, kw_only=True)
class JobReading:
    """What is known of one job: a test, from a worker, to a destination."""

    job_id: int
    test_id: int
    test_name: str
    kind: Kind
    worker_id: uuid.UUID
    worker_name: str
    destination_name: str
    target: str
    #: The test's parameters.
    spec: Mapping[str, Any]
    interval_s: float
    #: Runs that are still needed before its normal range is known; 0 when it is.
    needed: int
    #: The latest runs, oldest first; at most twenty.
    runs: tuple[RunOutcome, ...] = ()
    #: What the latest run that did not end well said.
    error: str = ""
    #: Worker clock minus controller clock at the newest run.
    clock_offset_ms: float | None = None
    metrics: tuple[MetricReading, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One thing that was found, for people to check."""

    job: JobReading
    #: The metric that left its range; None when it is the runs themselves that fail.
    metric: MetricReading | None
    #: In words, with the figures: `4 of the last 5 runs failed (destination)`.
    text: str
    since: dt.datetime
    #: The part of the way that this one speaks of.
    domain: Domain
    #: True for what was found beside the test: on the worker's host, by its other tests.
    context: bool = False


@dataclass(frozen=True, kw_only=True)
class Command:
    """The next command for a person to run."""

    #: Ready to be pasted into a shell; targets in it are quoted.
    line: str
    #: Where to run it.
    where: str
    #: What it will show.
    why: str


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is the matter with a test."""

    status: Status
    #: 0 to 100 over all jobs that were measured; None when none was.
    health: int | None
    #: None unless something is wrong.
    domain: Domain | None
    #: One sentence for people.
    sentence: str
    evidence: tuple[Evidence, ...]
    #: Since when the oldest evidence of the test itself holds.
    since: dt.datetime | None
    command: Command | None
    #: How many of how many jobs that were judged are bad.
    bad: int
    judged: int
    #: Most runs that any job still needs before its normal range is known.
    needed: int
