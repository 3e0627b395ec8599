"""Reads what planning works with, and tells pages what could not be planned."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, case, cast, false, func, or_, select, true
from sqlalchemy.orm import Session, lazyload

from controller.planning.jobs import plan
from controller.planning.records import (
    ExistingJob,
    JobValues,
    PlannedDestination,
    PlannedTest,
    PlannedWorker,
    Skip,
)
from controller.planning.schedule import ONE_SHOT_GRACE
from controller.store.entities import Destination, Job, Test, Worker, test_destinations
from controller.store.queries.tests import runs_once
from streamswarm import SCHEDULES_CONTRACT, windows

#: Stands between the reason of a skip and what mends it.
MENDS = "; mend it with: "

#: Why a worker gets no job of a kind that it announces.
NOT_YET = "what it can run has changed so often of late that its jobs follow within the hour only"

#: Of workers and jobs there are thousands, and planning reads them all: only the columns it looks at, no entities, and
#: JSON as text, for most of it is the same everywhere and is decoded once.
_KINDS: Any = cast(Worker.kinds, Text).label("kinds")
_WORKER: tuple[Any, ...] = (
    Worker.id,
    Worker.name,
    Worker.site,
    cast(Worker.groups, Text).label("groups"),
    cast(Worker.labels, Text).label("labels"),
    _KINDS,
    Worker.enrolled_at,
    Worker.revoked_at,
    Worker.deleted_at,
    Worker.contract_version,
    cast(Worker.ability, Text).label("ability"),
)
_JOB = (
    Job.id,
    Job.version,
    Job.retired_at,
    Job.test_id,
    Job.worker_id,
    Job.destination_id,
    Job.kind,
    Job.target,
    cast(Job.spec, Text).label("spec"),
    Job.interval_us,
    Job.anchor_us,
    Job.starts_at,
    Job.ends_at,
    Job.paused,
    Job.one_shot,
    Job.expires_at,
    Job.cron,
    Job.zone,
    cast(Job.windows, Text).label("windows"),
)


def read_tests(
    session: Session, *, ids: Collection[int] | None = None, lock: bool = False
) -> list[PlannedTest]:
    """Return tests in the order of their ids: those named, deleted ones too, or all that are not deleted.

    With `lock`, nobody else changes them or plans them until the transaction ends.
    """
    statement = select(Test).order_by(Test.id).execution_options(populate_existing=True)
    statement = statement.where(Test.deleted_at.is_(None) if ids is None else Test.id.in_(ids))
    if lock:
        statement = statement.with_for_update(key_share=True, of=Test)
    return [_test(row, row.destinations) for row in session.scalars(statement)]


def read_repeating(session: Session) -> list[PlannedTest]:
    """Return the tests whose jobs run again and again and are not paused, without their destinations."""
    return [
        _test(row, ())
        for row in session.scalars(
            select(Test)
            .where(
                Test.deleted_at.is_(None), ~runs_once(), Test.paused.is_(False), Test.recurrence == "continue"
            )
            .options(lazyload(Test.destinations))
            .order_by(Test.id)
        )
    ]


def ids_to_look_at(session: Session, *, workers: Collection[uuid.UUID] | None = None) -> list[int]:
    """Return the ids of the tests that can have jobs on all workers or on some, and of those with jobs left over.

    Tests whose only run is over, or whose end is past, are not among them: they are many, and stay for as long as
    their results. With `workers`, each test that has a live job there is among them, whatever it is.
    """
    unplanned = select(Test.id).where(Test.planned_version != Test.version)
    repeating = select(Test.id).where(Test.deleted_at.is_(None), ~runs_once(), ~_is_past_its_end())
    once = select(Test.id).where(
        Test.deleted_at.is_(None),
        runs_once(),
        func.coalesce(Test.starts_at, Test.created_at) > func.now() - ONE_SHOT_GRACE,
    )
    left = select(Job.test_id).where(Job.retired_at.is_(None))
    if workers is not None:
        left = left.where(Job.worker_id.in_(workers))
    else:
        # Of tests that are past the jobs stay, for pages show them; they go with the test or the worker.
        left = left.join(Test, Test.id == Job.test_id).join(Worker, Worker.id == Job.worker_id)
        left = left.where(
            or_(
                Job.one_shot,
                Test.deleted_at.is_not(None),
                Worker.deleted_at.is_not(None),
                Worker.revoked_at.is_not(None),
            )
        )
    return sorted(session.scalars(unplanned.union(repeating, once, left)))


def _is_past_its_end() -> ColumnElement[bool]:
    """Whether a test has ended, or each of its jobs has after so many runs."""
    jobs = select(Job.id).where(Job.test_id == Test.id, Job.retired_at.is_(None), ~Job.one_shot)
    jobs = jobs.correlate(Test)
    counted_out = and_(
        Test.max_runs.is_not(None),
        jobs.exists(),
        ~jobs.where(or_(Job.ends_at.is_(None), Job.ends_at > func.now())).exists(),
    )
    return or_(func.coalesce(Test.ends_at <= func.now(), false()), counted_out)


def count_workers(session: Session) -> int:
    """Return how many workers are not deleted."""
    return session.scalars(select(func.count()).select_from(Worker).where(Worker.deleted_at.is_(None))).one()


def read_workers(
    session: Session, *, ids: Collection[uuid.UUID] | None = None, kind: str | None = None
) -> list[PlannedWorker]:
    """Return the workers that are not deleted, or of those only some; for tests of one `kind`, with what they say of it alone."""
    return _read_workers(session, kind, *(() if ids is None else (Worker.id.in_(ids),)))


def _read_workers(
    session: Session, kind: str | None, *conditions: ColumnElement[bool]
) -> list[PlannedWorker]:
    columns = list(_WORKER)
    if kind is not None:
        # An empty name stands for all others: a worker that lacks the kind must not seem to have announced nothing yet.
        of_kind = func.jsonb_build_object("", func.jsonb_build_object(), kind, Worker.kinds[kind])
        says = case((Worker.kinds != {}, func.jsonb_strip_nulls(of_kind)), else_=Worker.kinds)
        columns = [cast(says, Text).label("kinds") if column is _KINDS else column for column in _WORKER]
    statement = select(*columns).where(Worker.deleted_at.is_(None), *conditions).order_by(Worker.id)
    decoded = _Decoded()
    return [_worker(row, decoded, kind) for row in session.execute(statement)]


def read_jobs(
    session: Session,
    *,
    tests: Collection[int] | None = None,
    workers: Collection[uuid.UUID] | None = None,
) -> list[ExistingJob]:
    """Return jobs, retired ones included, of all or only some tests and workers; one-shot jobs while they count."""
    # One-shot jobs that are over and cannot come back are many, and of no interest here.
    statement = select(*_JOB).where(
        or_(Job.retired_at.is_(None), Job.one_shot.is_(False), Job.expires_at > func.now())
    )
    if tests is not None:
        statement = statement.where(Job.test_id.in_(tests))
    if workers is not None:
        statement = statement.where(Job.worker_id.in_(workers))
    decoded = _Decoded()
    return [_job(row, decoded) for row in session.execute(statement.order_by(Job.id))]


def tests_of_destination(session: Session, destination_id: int) -> list[int]:
    """Return the ids of the tests that aim at a destination."""
    return list(
        session.scalars(
            select(test_destinations.c.test_id)
            .where(test_destinations.c.destination_id == destination_id)
            .order_by(test_destinations.c.test_id)
        )
    )


def read_skips(session: Session, test_id: int, *, now: dt.datetime) -> tuple[Skip, ...]:
    """Return what of a test is not planned at present, each with its reason."""
    found = read_tests(session, ids=[test_id])
    workers = [worker for test in found for worker in _read_workers(session, test.kind, _tells(test))]
    return plan(found, workers, now=now).skipped


def _tells(test: PlannedTest) -> ColumnElement[bool]:
    """Return the condition that a worker is of interest to what of a test is not planned: of thousands most run it.

    Those that the test means and that may not be able to run it; and one that it means, or any worker where it means none.
    """
    means = _means(test.selection)
    lacking = or_(
        Worker.revoked_at.is_not(None),
        Worker.enrolled_at.is_(None),
        Worker.ability.is_not(None),
        func.coalesce(Worker.kinds[test.kind]["available"].astext, "") != "true",
        Worker.contract_version.between(1, SCHEDULES_CONTRACT - 1),
    )
    one = select(Worker.id).where(Worker.deleted_at.is_(None))
    one = one.order_by(case((means, 0), else_=1), Worker.id).limit(1)
    return or_(and_(means, lacking), Worker.id == one.correlate(None).scalar_subquery())


def _means(selection: Mapping[str, Any]) -> ColumnElement[bool]:
    """Return the condition that a selection takes a worker, as `controller.planning.selection` tells it."""
    if selection.get("all"):
        return true()
    labels = selection.get("labels") or {}
    return or_(
        Worker.id.in_([uuid.UUID(item) for item in selection.get("workers") or ()]),
        and_(Worker.site != "", Worker.site.in_(selection.get("sites") or ())),
        *(Worker.groups.contains([group]) for group in selection.get("groups") or ()),
        *(Worker.labels[key].astext == value for key, value in labels.items()),
    )


def _test(row: Test, destinations: Sequence[Destination]) -> PlannedTest:
    return PlannedTest(
        id=row.id,
        kind=row.kind,
        spec=row.spec,
        selection=row.selection,
        destinations=tuple(
            PlannedDestination(
                id=destination.id,
                name=destination.name,
                address=destination.address,
                deleted=destination.deleted_at is not None,
            )
            for destination in destinations
        ),
        interval_us=None if row.interval_s is None else round(row.interval_s * 1_000_000),
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        paused=row.paused,
        deleted=row.deleted_at is not None,
        created_at=row.created_at,
        cron=row.cron,
        zone=row.zone,
        windows=windows.read(row.windows),
        max_runs=row.max_runs,
        makes_tests=row.recurrence == "new_test",
    )


class _Decoded(dict[str, Any]):
    """Values by their JSON; those who share one do not change it."""

    def __missing__(self, text: str) -> Any:
        value = self[text] = json.loads(text)
        return value


def _worker(row: Any, decoded: _Decoded, kind: str | None) -> PlannedWorker:
    kinds, contract_version = decoded[row.kinds], row.contract_version
    if row.ability is not None:
        ability = decoded[row.ability]
        able = [name for name in ability["kinds"] if kind in (None, name)]
        kinds, contract_version = _by_ability(kinds, able), ability["contract"]
    return PlannedWorker(
        id=row.id,
        name=row.name,
        site=row.site,
        groups=tuple(str(group) for group in decoded[row.groups]),
        labels={str(key): str(value) for key, value in decoded[row.labels].items()},
        kinds=kinds,
        enrolled=row.enrolled_at is not None,
        revoked=row.revoked_at is not None,
        deleted=row.deleted_at is not None,
        contract_version=contract_version,
    )


def _by_ability(announced: Mapping[str, Any], able: Sequence[str]) -> Mapping[str, Any]:
    """Return what a worker has announced, but with those kinds available that its jobs are planned by."""
    says = [kind for kind, said in announced.items() if said.get("available")]
    if sorted(says) == sorted(able):
        return announced
    held = {kind: {"available": True} for kind in able}
    not_yet = {kind: {"available": False, "reason": NOT_YET} for kind in says if kind not in held}
    return {**announced, **held, **not_yet}


def _job(row: Any, decoded: _Decoded) -> ExistingJob:
    return ExistingJob(
        id=row.id,
        version=row.version,
        retired=row.retired_at is not None,
        values=JobValues(
            test_id=row.test_id,
            worker_id=row.worker_id,
            destination_id=row.destination_id,
            kind=row.kind,
            target=row.target,
            spec=decoded[row.spec],
            interval_us=row.interval_us,
            anchor_us=row.anchor_us,
            starts_at=row.starts_at,
            ends_at=row.ends_at,
            paused=row.paused,
            one_shot=row.one_shot,
            expires_at=row.expires_at,
            cron=row.cron,
            zone=row.zone,
            windows=tuple(decoded[row.windows]),
        ),
    )
