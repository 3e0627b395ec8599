"""Reads workers."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, and_, func, select
from sqlalchemy.orm import Session, aliased

from controller.errors import NotFoundError
from controller.policies import same_policy
from controller.store.entities import (
    Backlog,
    Certificate,
    Drain,
    Job,
    OverdueJob,
    Process,
    Worker,
    WorkerRelease,
)
from controller.store.health import BACKLOG, PATIENCE, STALE_S, is_clock_off
from controller.store.queries.destinations import contains
from controller.store.queries.paging import DEFAULT_LIMIT, Order, Page, asked_order, ordered

#: A process whose heartbeat is older than this is taken for dead.
FRESH = dt.timedelta(seconds=STALE_S)

WorkerState = Literal["connected", "offline", "drained", "pending", "revoked"]


def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        return uuid.UUID(int=0)


def _read(keys: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*keys[:-1], _uuid(keys[-1]))


#: By name unless asked otherwise.
ORDERS = {
    "name": Order(keys=(func.lower(Worker.name), Worker.id), types=(str, str), read=_read),
    "site": Order(keys=(Worker.site, func.lower(Worker.name), Worker.id), types=(str, str, str), read=_read),
    "host": Order(keys=(func.lower(Worker.host_name), Worker.id), types=(str, str), read=_read),
}


@dataclass(frozen=True, kw_only=True)
class WorkerLook:
    """How a worker is, as far as it can be told at a glance."""

    #: `connected`, `drained` (out of service by somebody's order), `offline` (enrolled, no session), `pending` (never
    #: enrolled) or `revoked`.
    state: WorkerState
    #: Whether its spool is damaged or full.
    spool_alarm: bool
    #: Whether it gets rid of none of the results on its disk.
    spool_stuck: bool
    #: Whether its host cannot be trusted to measure: its access to the network, or what presses it.
    vantage_alarm: bool


@dataclass(frozen=True, kw_only=True)
class WorkerRecord:
    """A worker daemon."""

    id: uuid.UUID
    name: str
    #: Name of its host in the inventory.
    host_name: str
    site: str
    labels: Mapping[str, str]
    groups: tuple[str, ...]
    #: As in its look.
    state: WorkerState
    version: str
    contract_version: int
    #: What it told about its host.
    facts: Mapping[str, Any]
    #: What its local policy allows.
    policy: Mapping[str, Any]
    #: What provisioning said last that its policy shall be; null where nobody ever did.
    intended_policy: Mapping[str, Any] | None = None
    #: Whether it keeps to another policy than that, as far as it has said.
    policy_differs: bool = False
    #: `{kind: {available, reason, mend}}`.
    kinds: Mapping[str, Any]
    connected_at: dt.datetime | None
    disconnected_at: dt.datetime | None
    last_seen_at: dt.datetime | None
    #: Since when it is drained, and on whose behalf; null and empty where it is in service.
    drained_at: dt.datetime | None = None
    drained_by: str = ""
    #: Results that wait on its disk.
    spool_records: int
    #: A damaged or full spool, for people; empty when well.
    spool_alarm: str
    #: What is wrong with its host's access to the network, for people; empty when well.
    vantage_alarm: str = ""
    #: Since when it is connected and gets rid of none of the results on its disk; None while all is well.
    spool_stuck_since: dt.datetime | None = None
    #: Results that came when they were to be kept no longer, and were not stored; and when the last of them came.
    results_expired: int = 0
    results_expired_at: dt.datetime | None = None
    clock_offset_ms: float | None
    #: Whether its clock is more than five seconds away from the controller's.
    clock_off: bool = False
    #: Jobs that it should run now, and whether it has said that it does.
    jobs: int
    jobs_current: bool
    #: Jobs whose due runs do not come although it is connected.
    jobs_overdue: int = 0
    #: Begin and end of its newest certificate; renewed at half of its life.
    certificate_from: dt.datetime | None = None
    certificate_until: dt.datetime | None
    created_at: dt.datetime
    enrolled_at: dt.datetime | None
    revoked_at: dt.datetime | None

    @property
    def look(self) -> WorkerLook:
        """How it is, at a glance."""
        return WorkerLook(
            state=self.state,
            spool_alarm=bool(self.spool_alarm),
            spool_stuck=self.spool_stuck_since is not None,
            vantage_alarm=bool(self.vantage_alarm),
        )


@dataclass(frozen=True, kw_only=True)
class WorkerChoice:
    """A worker as a test can choose it."""

    id: uuid.UUID
    name: str
    site: str
    labels: Mapping[str, str]
    groups: tuple[str, ...]
    #: Whether the kind cannot be run there, as far as it has said what can.
    unavailable: bool


@dataclass(frozen=True, kw_only=True)
class ReleaseRecord:
    """A release that a worker had."""

    version: str
    #: Its first session with it; it had it until the next one.
    since: dt.datetime


def get(session: Session, worker_id: uuid.UUID) -> WorkerRecord:
    """Return one worker or raise NotFoundError."""
    row = session.execute(select_records().where(Worker.id == worker_id)).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no worker {worker_id}", mend="list the workers")
    return to_record(row)


def find(
    session: Session,
    *,
    search: str = "",
    site: str = "",
    label: tuple[str, str] | None = None,
    connected: bool | None = None,
    sort: str = "",
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[WorkerRecord]:
    """Return workers by name, or as `sort` of `ORDERS` says; `search` looks into name, host and site."""
    query = select_records()
    if search:
        query = query.where(contains(search, Worker.name, Worker.host_name, Worker.site))
    if site:
        query = query.where(Worker.site == site)
    if label:
        query = query.where(Worker.labels.contains({label[0]: label[1]}))
    if connected is not None:
        query = query.where(is_connected() if connected else ~is_connected())
    return ordered(session, query, asked_order(ORDERS, sort), limit=limit, cursor=cursor, make=to_record)


def choices(session: Session, kind: str, *, limit: int) -> tuple[WorkerChoice, ...]:
    """Return the first workers by name, as a test of a kind can choose them."""
    available = func.coalesce(Worker.kinds[kind]["available"].as_string() == "true", False)
    query = (
        select(
            Worker.id,
            Worker.name,
            Worker.site,
            Worker.labels,
            Worker.groups,
            (Worker.kinds != {}) & ~available,
        )
        .where(Worker.deleted_at.is_(None))
        .order_by(*ORDERS["name"].keys)
        .limit(limit)
    )
    return tuple(
        WorkerChoice(
            id=worker_id,
            name=name,
            site=site,
            labels=labels,
            groups=tuple(groups),
            unavailable=unavailable,
        )
        for worker_id, name, site, labels, groups, unavailable in session.execute(query)
    )


def releases_of(session: Session, worker_id: uuid.UUID) -> tuple[ReleaseRecord, ...]:
    """Return the releases that a worker had, the newest first."""
    query = (
        select(WorkerRelease).where(WorkerRelease.worker_id == worker_id).order_by(WorkerRelease.since.desc())
    )
    return tuple(ReleaseRecord(version=row.version, since=row.since) for row in session.scalars(query))


@cache
def is_connected() -> ColumnElement[bool]:
    """Return the condition that a worker has a session with a gateway that is alive."""
    # Gathered once in a statement: looked up for each of thousands of workers, it would take most of its time.
    alive = select(Process.id).where(
        Process.stopped_at.is_(None), Process.heartbeat_at > func.clock_timestamp() - FRESH
    )
    return and_(
        Worker.deleted_at.is_(None),
        Worker.revoked_at.is_(None),
        Worker.gateway_id.is_not(None),
        Worker.gateway_id == func.any(func.array(alive.correlate(None).scalar_subquery())),
    )


@cache
def is_drained() -> ColumnElement[bool]:
    """Return the condition that a worker is out of service by somebody's order, and has no session."""
    drained = select(Drain.worker_id).where(Drain.worker_id == Worker.id, Drain.until.is_(None))
    return and_(~is_connected(), drained.correlate(Worker).exists())


@cache
def lacks_kinds() -> ColumnElement[bool]:
    """Return the condition that a worker has announced a kind that is unavailable, or says nothing of whether it is."""
    lacking = aliased(Worker)
    # Found by the index of such workers: to look through what thousands announce takes longer than all else about them.
    return Worker.id.in_(
        select(lacking.id).where(func.jsonb_path_exists(lacking.kinds, "$.* ? (!(@.available == true))"))
    )


@cache
def spool_stuck_since() -> ColumnElement[dt.datetime | None]:
    """Return since when a worker's spool does not shrink, told after ten minutes, for a query over `Worker`."""
    since = func.greatest(Backlog.since, Worker.connected_at)
    return (
        select(since)
        .where(
            Backlog.worker_id == Worker.id,
            Worker.gateway_id.is_not(None),
            Worker.spool_records > BACKLOG,
            since < func.now() - PATIENCE,
        )
        .correlate(Worker)
        .scalar_subquery()
    )


# Made once, as its parts: to make it costs more than to run it.
@cache
def select_records() -> Select[Any]:
    """Return the query for what `to_record` makes records of: the workers that are not deleted."""
    jobs = (
        select(func.count())
        .select_from(Job)
        .where(Job.worker_id == Worker.id, Job.retired_at.is_(None), ~Job.one_shot)
        .correlate(Worker)
        .scalar_subquery()
    )
    overdue = (
        select(func.count())
        .select_from(OverdueJob)
        .join(Job, Job.id == OverdueJob.job_id)
        .where(Job.worker_id == Worker.id, Job.retired_at.is_(None))
        .correlate(Worker)
        .scalar_subquery()
    )
    drained_at, drained_by = (
        select(column)
        .where(Drain.worker_id == Worker.id, Drain.until.is_(None))
        .correlate(Worker)
        .scalar_subquery()
        for column in (Drain.since, Drain.made_by)
    )
    begin, until = (_newest_certificate(column) for column in (Certificate.not_before, Certificate.not_after))
    return select(
        Worker,
        is_connected().label("connected"),
        jobs.label("jobs"),
        overdue.label("overdue"),
        begin.label("begin"),
        until.label("until"),
        drained_at.label("drained_at"),
        drained_by.label("drained_by"),
        spool_stuck_since().label("stuck_since"),
    ).where(Worker.deleted_at.is_(None))


def _newest_certificate(column: Any) -> Any:
    return (
        select(column)
        .where(Certificate.worker_id == Worker.id, Certificate.revoked_at.is_(None))
        .order_by(Certificate.not_after.desc())
        .limit(1)
        .correlate(Worker)
        .scalar_subquery()
    )


def to_record(row: Any) -> WorkerRecord:
    """Return the record of a worker."""
    entity: Worker = row[0]
    state: WorkerState = "connected" if row.connected else "drained" if row.drained_at else "offline"
    if entity.revoked_at is not None:
        state = "revoked"
    elif entity.enrolled_at is None and not row.connected:
        state = "pending"
    return WorkerRecord(
        id=entity.id,
        name=entity.name,
        host_name=entity.host_name,
        site=entity.site,
        labels=entity.labels,
        groups=tuple(entity.groups),
        state=state,
        version=entity.version,
        contract_version=entity.contract_version,
        facts=entity.facts,
        policy=entity.policy,
        intended_policy=entity.intended_policy,
        policy_differs=entity.connected_at is not None
        and entity.intended_policy is not None
        and not same_policy(entity.intended_policy, entity.policy),
        kinds=entity.kinds,
        connected_at=entity.connected_at,
        disconnected_at=entity.disconnected_at,
        last_seen_at=entity.last_seen_at,
        drained_at=row.drained_at if state == "drained" else None,
        drained_by=row.drained_by if state == "drained" else "",
        spool_records=entity.spool_records,
        spool_alarm=entity.spool_alarm,
        vantage_alarm=entity.vantage_alarm,
        spool_stuck_since=row.stuck_since,
        results_expired=entity.results_expired,
        results_expired_at=entity.results_expired_at,
        clock_offset_ms=entity.clock_offset_ms,
        clock_off=is_clock_off(entity.clock_offset_ms),
        jobs=row.jobs,
        jobs_current=entity.jobs_applied == entity.jobs_revision,
        jobs_overdue=row.overdue,
        certificate_from=row.begin,
        certificate_until=row.until,
        created_at=entity.created_at,
        enrolled_at=entity.enrolled_at,
        revoked_at=entity.revoked_at,
    )
