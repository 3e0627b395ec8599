"""What the picture of the fleet shows: the first workers by name, and how many of all are how."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, or_, select
from sqlalchemy.orm import Session

from controller.store.entities import Worker
from controller.store.queries.troubles import has_clock_off
from controller.store.queries.workers import (
    WorkerLook,
    WorkerRecord,
    is_connected,
    is_drained,
    lacks_kinds,
    select_records,
    spool_stuck_since,
    to_record,
)


@dataclass(frozen=True, kw_only=True)
class Glance:
    """A worker of the picture."""

    id: uuid.UUID
    name: str
    look: WorkerLook


@dataclass(frozen=True, kw_only=True)
class Alike:
    """How many workers look alike."""

    look: WorkerLook
    count: int


def first(session: Session, *, limit: int) -> tuple[Glance, ...]:
    """Return the first workers by name."""
    return tuple(
        Glance(id=worker_id, name=name, look=_made(look))
        for worker_id, name, *look in session.execute(_first(limit))
    )


def counted(session: Session) -> tuple[Alike, ...]:
    """Return how many of all workers look alike."""
    return tuple(Alike(look=_made(look), count=count) for count, *look in session.execute(_counted()))


def in_need(session: Session, *, limit: int) -> tuple[WorkerRecord, ...]:
    """Return the first workers by name that somebody should look at; of those out of service nobody waits for."""
    return tuple(to_record(row) for row in session.execute(_in_need(limit)))


# Statements are made once, as to make them costs more than to run them.
@cache
def _first(limit: int) -> Select[Any]:
    return (
        select(Worker.id, Worker.name, *_look())
        .where(Worker.deleted_at.is_(None))
        .order_by(func.lower(Worker.name), Worker.id)
        .limit(limit)
    )


@cache
def _counted() -> Select[Any]:
    each = select(*_look()).where(Worker.deleted_at.is_(None)).subquery("each")
    return select(func.count(), *each.c).group_by(*each.c).order_by(*each.c)


@cache
def _in_need(limit: int) -> Select[Any]:
    needs = or_(
        ~is_connected() & Worker.enrolled_at.is_not(None),
        Worker.spool_alarm != "",
        is_connected() & (Worker.vantage_alarm != ""),
        spool_stuck_since().is_not(None),
        has_clock_off(),
        lacks_kinds(),
    )
    return (
        select_records()
        .where(Worker.revoked_at.is_(None), ~is_drained(), needs)
        .order_by(func.lower(Worker.name), Worker.id)
        .limit(limit)
    )


def _look() -> tuple[ColumnElement[Any], ...]:
    """Return the columns of a look, in its order."""
    state = case(
        (Worker.revoked_at.is_not(None), "revoked"),
        (is_connected(), "connected"),
        (Worker.enrolled_at.is_(None), "pending"),
        (is_drained(), "drained"),
        else_="offline",
    )
    return (
        state.label("state"),
        (Worker.spool_alarm != "").label("spool_alarm"),
        spool_stuck_since().is_not(None).label("spool_stuck"),
        (Worker.vantage_alarm != "").label("vantage_alarm"),
    )


def _made(look: list[Any]) -> WorkerLook:
    state, spool_alarm, spool_stuck, vantage_alarm = look
    return WorkerLook(
        state=state, spool_alarm=spool_alarm, spool_stuck=spool_stuck, vantage_alarm=vantage_alarm
    )
