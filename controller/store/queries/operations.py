"""Reads operations on the fleet: what was asked for, how far each host is, and what happened."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from controller.errors import NotFoundError
from controller.store.entities import Job, Operation, OperationEvent, OperationHost, Worker
from controller.store.operation_notes import Figure
from controller.store.operation_words import HARMLESS, NEVER_CANCELLED
from controller.store.queries.paging import DEFAULT_LIMIT, Page, decode_cursor, encode_cursor, page_of

#: Operations that are marked on one chart.
_MOST_MARKS = 50
#: How far an operation can be.
STATES = ("queued", "running", "succeeded", "failed", "cancelled", "interrupted")


@dataclass(frozen=True, kw_only=True)
class HostCounts:
    """How many hosts of an operation are how far."""

    total: int = 0
    waiting: int = 0
    working: int = 0
    ok: int = 0
    failed: int = 0
    unreachable: int = 0
    #: Hosts on which something was changed.
    changed: int = 0

    @property
    def over(self) -> int:
        """Hosts that are done, well or not."""
        return self.ok + self.failed + self.unreachable


@dataclass(frozen=True, kw_only=True)
class OperationRecord:
    """One run of a playbook on hosts of the inventory."""

    id: int
    #: `provision`, `remove`, `verify`, …
    kind: str
    #: The upgrade that it belongs to: a keeper's, or the first step of a command line's; None of one that stands for itself.
    part_of: int | None
    #: `queued`, `running`, `succeeded`, `failed`, `cancelled` or `interrupted`.
    state: str
    #: Version of its state; who runs it says it with each word about it.
    version: int
    #: Ansible's host pattern that narrows it down; empty for all workers of the inventory.
    limit: str
    #: Whether it only says what would change.
    check: bool
    #: Hosts worked on at the same time.
    forks: int
    #: What else was asked for.
    options: Mapping[str, Any]
    #: Whether a keeper runs it; otherwise a command line.
    by_keeper: bool
    made_by: str
    #: Who asked for its end before it was over; empty when nobody did.
    cancelled_by: str
    #: Why it has not succeeded, and what to do about it.
    error: str
    mend: str
    hosts: HostCounts
    #: Events that were told; beyond 10,000 they are not kept.
    event_count: int
    created_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None

    @property
    def over(self) -> bool:
        """Whether nothing more happens."""
        return self.state not in ("queued", "running")

    @property
    def cancellable(self) -> bool:
        """Whether it can be cancelled. One that is run elsewhere always can: its kind is what somebody says it is."""
        return not self.over and not (self.by_keeper and self.kind in NEVER_CANCELLED)


@dataclass(frozen=True, kw_only=True)
class HostRecord:
    """One host of an operation, and how far it is."""

    #: Its name in the inventory.
    host: str
    #: `waiting`, `working`, `ok`, `failed` or `unreachable`.
    state: str
    #: The task under way, or the last one.
    task: str
    #: Tasks that changed something.
    changed: int
    #: Why it failed, or what there is to say about it.
    message: str
    updated_at: dt.datetime


@dataclass(frozen=True, kw_only=True)
class EventRecord:
    """One task that has ended on one host, or something that is said of the whole operation."""

    #: 1, 2, 3 … within the operation; numbers may be left out.
    sequence: int
    at: dt.datetime
    #: Empty for the whole.
    host: str
    task: str
    #: `ok`, `changed`, `failed` or `unreachable`.
    state: str
    message: str


@dataclass(frozen=True, kw_only=True)
class OperationMark:
    """An operation as charts show it."""

    id: int
    kind: str
    state: str
    started_at: dt.datetime
    #: None while it runs.
    finished_at: dt.datetime | None
    hosts: tuple[str, ...]


def get(session: Session, operation_id: int) -> OperationRecord:
    """Return one operation or raise NotFoundError."""
    entity = session.scalar(_select().where(Operation.id == operation_id))
    if entity is None:
        raise NotFoundError(
            f"there is no operation {operation_id}", mend="list the operations; old ones are deleted"
        )
    return _record(entity, _counts(session, [operation_id]).get(operation_id, HostCounts()))


def find(
    session: Session,
    *,
    kind: str = "",
    state: str = "",
    host: str = "",
    part_of: int | None = None,
    limit: int = DEFAULT_LIMIT,
    cursor: str | None = None,
) -> Page[OperationRecord]:
    """Return operations, newest first; with `part_of` those that belong to that one."""
    query = _select().order_by(Operation.id.desc()).limit(limit + 1)
    if kind:
        query = query.where(Operation.kind == kind)
    if state:
        query = query.where(Operation.state == state)
    if host:
        query = query.where(
            Operation.id.in_(select(OperationHost.operation_id).where(OperationHost.host == host))
        )
    if part_of is not None:
        query = query.where(Operation.part_of == part_of)
    if cursor:
        query = query.where(Operation.id < decode_cursor(cursor, int)[0])
    rows = session.scalars(query).all()
    counts = _counts(session, [row.id for row in rows])
    return page_of(
        rows,
        limit,
        lambda row: _record(row, counts.get(row.id, HostCounts())),
        lambda row: encode_cursor(row.id),
    )


def hosts_of(session: Session, operation_id: int) -> tuple[HostRecord, ...]:
    """Return all hosts of an operation by name."""
    query = (
        select(
            OperationHost.host,
            OperationHost.state,
            OperationHost.task,
            OperationHost.changed,
            OperationHost.message,
            OperationHost.updated_at,
        )
        .where(OperationHost.operation_id == operation_id)
        .order_by(OperationHost.host)
    )
    return tuple(
        HostRecord(host=host, state=state, task=task, changed=changed, message=message, updated_at=updated_at)
        for host, state, task, changed, message, updated_at in session.execute(query)
    )


def figures_of(session: Session, operation_id: int) -> tuple[Figure, ...]:
    """Return what was judged, in numbers; none of other operations."""
    found = session.execute(
        select(Operation.figures).where(Operation.id == operation_id)
    ).scalar_one_or_none()
    return tuple(Figure(**figure) for figure in found or ())


def events_of(
    session: Session, operation_id: int, *, limit: int = DEFAULT_LIMIT, cursor: str | None = None
) -> Page[EventRecord]:
    """Return what happened, in its order."""
    after = decode_cursor(cursor, int)[0] if cursor else 0
    query = (
        select(OperationEvent)
        .where(OperationEvent.operation_id == operation_id, OperationEvent.sequence > after)
        .order_by(OperationEvent.sequence)
        .limit(limit + 1)
    )
    return page_of(session.scalars(query).all(), limit, _event, lambda row: encode_cursor(row.sequence))


def last_events(session: Session, operation_id: int, *, most: int) -> tuple[EventRecord, ...]:
    """Return what happened last, in its order."""
    query = (
        select(OperationEvent)
        .where(OperationEvent.operation_id == operation_id)
        .order_by(OperationEvent.sequence.desc())
        .limit(most)
    )
    return tuple(_event(row) for row in reversed(session.scalars(query).all()))


def marks_of_test(
    session: Session, test_id: int, *, start: dt.datetime, end: dt.datetime
) -> tuple[OperationMark, ...]:
    """Return the operations within a range that may have changed something on a host that runs a test."""
    hosts = (
        select(Worker.host_name)
        .join(Job, Job.worker_id == Worker.id)
        .where(Job.test_id == test_id)
        .distinct()
    )
    query = (
        select(
            Operation.id,
            Operation.kind,
            Operation.state,
            Operation.started_at,
            Operation.finished_at,
            func.array_agg(OperationHost.host).label("hosts"),
        )
        .join(OperationHost, OperationHost.operation_id == Operation.id)
        .where(
            OperationHost.host.in_(hosts),
            ~Operation.check_only,
            Operation.kind.not_in(HARMLESS),
            Operation.started_at < end,
            or_(Operation.finished_at.is_(None), Operation.finished_at >= start),
        )
        .group_by(Operation.id)
        .order_by(Operation.id.desc())
        .limit(_MOST_MARKS)
    )
    return tuple(
        OperationMark(
            id=row.id,
            kind=row.kind,
            state=row.state,
            started_at=row.started_at,
            finished_at=row.finished_at,
            hosts=tuple(sorted(row.hosts)),
        )
        for row in reversed(session.execute(query).all())
    )


def count_queued(session: Session) -> int:
    """Count the operations that wait for a keeper."""
    query = select(func.count()).select_from(Operation).where(Operation.state == "queued")
    return session.execute(query).scalar_one()


def _counts(session: Session, ids: list[int]) -> dict[int, HostCounts]:
    states = ("waiting", "working", "ok", "failed", "unreachable")
    query = (
        select(
            OperationHost.operation_id,
            func.count().label("total"),
            func.count().filter(OperationHost.changed > 0).label("changed"),
            *(func.count().filter(OperationHost.state == state).label(state) for state in states),
        )
        .where(OperationHost.operation_id.in_(ids))
        .group_by(OperationHost.operation_id)
    )
    return {
        row.operation_id: HostCounts(**{name: getattr(row, name) for name in ("total", "changed", *states)})
        for row in session.execute(query)
    }


def _record(entity: Operation, hosts: HostCounts) -> OperationRecord:
    parameters = entity.parameters
    return OperationRecord(
        id=entity.id,
        kind=entity.kind,
        part_of=entity.part_of,
        state=entity.state,
        version=entity.version,
        limit=parameters["limit"],
        check=entity.check_only,
        forks=parameters["forks"],
        options=parameters["options"],
        by_keeper=entity.by_keeper,
        made_by=entity.made_by,
        cancelled_by=entity.cancelled_by,
        error=entity.error,
        mend=entity.mend,
        hosts=hosts,
        event_count=entity.event_count,
        created_at=entity.created_at,
        started_at=entity.started_at,
        finished_at=entity.finished_at,
    )


def _event(row: OperationEvent) -> EventRecord:
    return EventRecord(
        sequence=row.sequence,
        at=row.at,
        host=row.host,
        task=row.task,
        state=row.state,
        message=row.message,
    )


def _select() -> Any:
    return select(Operation).execution_options(populate_existing=True)
