"""Tests by workers by destinations: the jobs that should be."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from controller.planning.records import JobValues, Plan, PlannedDestination, PlannedTest, PlannedWorker, Skip
from controller.planning.schedule import (
    LONGEST_PHASE_US,
    ONE_SHOT_GRACE,
    RUN_NOW_GRACE,
    end_of,
    phase_us,
    schedule_of,
)
from controller.planning.selection import selects, too_old, unable
from streamswarm import contract
from streamswarm.contract import InvalidInputError, Kind, UnknownKindError
from streamswarm.zones import from_microseconds


def plan(tests: Iterable[PlannedTest], workers: Sequence[PlannedWorker], *, now: dt.datetime) -> Plan:
    """Return every job that should be for these tests on these workers.

    What cannot be planned is listed with its reason: an unknown kind, a destination that the kind cannot aim at,
    a worker that cannot run the kind, a test
    whose selection takes no worker. A one-shot test that is paused, or whose instant has passed, has no jobs.
    """
    jobs: list[JobValues] = []
    skipped: list[Skip] = []
    pairs: set[tuple[int, uuid.UUID]] = set()
    for test in tests:
        if test.deleted:
            continue
        try:
            kind = contract.kind(test.kind)
        except UnknownKindError as error:
            skipped.append(_skip(test, reason=str(error)))
            continue
        targets = list(_targets(test, kind, skipped))
        chosen = [worker for worker in workers if not worker.deleted and selects(test.selection, worker)]
        if not chosen and workers:
            skipped.append(_skip(test, reason="its selection takes no worker"))
        able: list[PlannedWorker] = []
        for worker in chosen:
            reason = unable(worker, test.kind) or too_old(worker, test)
            if reason:
                skipped.append(_skip(test, worker=worker, reason=reason))
            else:
                able.append(worker)
        pairs.update((test.id, worker.id) for worker in able)
        if not test.makes_tests:
            for destination, target in targets:
                jobs += _jobs(test, able, destination, target)
    due = [job for job in jobs if job.expires_at is None or (job.expires_at > now and not job.paused)]
    return Plan(jobs=tuple(due), skipped=tuple(skipped), pairs=frozenset(pairs))


def plan_run_now(
    test: PlannedTest, workers: Sequence[PlannedWorker], *, requested_at: dt.datetime, now: dt.datetime
) -> Plan:
    """Return the one-shot jobs that run a test once at the requested instant, whatever its schedule says."""
    made = plan(
        [
            replace(
                test,
                interval_us=None,
                cron="",
                windows=(),
                max_runs=None,
                makes_tests=False,
                starts_at=requested_at,
                ends_at=None,
                paused=False,
            )
        ],
        workers,
        now=now,
    )
    expires_at = requested_at + RUN_NOW_GRACE
    jobs = tuple(replace(job, expires_at=expires_at) for job in made.jobs if expires_at > now)
    return replace(made, jobs=jobs)


def _targets(
    test: PlannedTest, kind: Kind, skipped: list[Skip]
) -> Iterator[tuple[PlannedDestination | None, str]]:
    if kind.target == "none":
        yield None, ""
        return
    if not test.destinations:
        skipped.append(_skip(test, reason="it has no destination"))
    for destination in test.destinations:
        if destination.deleted:
            skipped.append(_skip(test, destination=destination, reason="the destination is deleted"))
            continue
        try:
            target = contract.parse_target(kind, destination.address)
        except InvalidInputError as error:
            reason = f"`{kind.name}` cannot aim at it: {error.problems[0].message}; correct its address, or take it out of the test"
            skipped.append(_skip(test, destination=destination, reason=reason))
        else:
            yield destination, str(target)


def _jobs(
    test: PlannedTest,
    workers: Iterable[PlannedWorker],
    destination: PlannedDestination | None,
    target: str,
) -> Iterator[JobValues]:
    """Return the jobs of a test to one destination. What they have in common is made once: there may be thousands."""
    destination_id = None if destination is None else destination.id
    schedule = schedule_of(test)
    one_shot = schedule.once
    pace_us = test.interval_us or LONGEST_PHASE_US
    common: dict[str, Any] = {
        "test_id": test.id,
        "destination_id": destination_id,
        "kind": test.kind,
        "target": target,
        "spec": dict(test.spec),
        "interval_us": schedule.interval_us,
        "cron": schedule.cron,
        "zone": schedule.zone if schedule.cron or schedule.windows else "UTC",
        "windows": tuple(window.plain() for window in schedule.windows),
        "starts_at": None if one_shot else test.starts_at,
        "paused": test.paused,
        "one_shot": one_shot,
        "expires_at": from_microseconds(schedule.anchor_us) + ONE_SHOT_GRACE if one_shot else None,
    }
    for worker in workers:
        anchor_us, ends_at = schedule.anchor_us, None
        if not one_shot:
            anchor_us += phase_us(test.id, worker.id, destination_id, pace_us)
            counted = test.max_runs is not None
            ends_at = end_of(test, replace(schedule, anchor_us=anchor_us)) if counted else test.ends_at
        yield JobValues(worker_id=worker.id, anchor_us=anchor_us, ends_at=ends_at, **common)


def _skip(
    test: PlannedTest,
    *,
    worker: PlannedWorker | None = None,
    destination: PlannedDestination | None = None,
    reason: str,
) -> Skip:
    return Skip(
        test_id=test.id,
        worker_id=None if worker is None else worker.id,
        worker_name="" if worker is None else worker.name,
        destination_id=None if destination is None else destination.id,
        destination_name="" if destination is None else destination.name,
        reason=reason,
    )
