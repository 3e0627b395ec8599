"""Reads which workers are in trouble: how many of each sort, and the first of them by name."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import Enum
from functools import cache

from sqlalchemy import ColumnElement, and_, func, select
from sqlalchemy.orm import Session

from controller.store.entities import OverdueJob, Quarantine, Worker
from controller.store.health import CLOCK_LIMIT_MS
from controller.store.queries.workers import is_connected, is_drained, spool_stuck_since
from streamswarm import CONTRACT_VERSION

#: Names that are told of each sort.
_TOLD = 5
_DAY = dt.timedelta(days=1)


class Trouble(Enum):
    """A sort of trouble; the value tells what is so with the workers in it."""

    OFFLINE = "are not connected"
    CLOCK = "have a clock that is more than 5 s off"
    SPOOL = "cannot keep results"
    STUCK = "get rid of none of the results on their disk"
    NETWORK = "have lost their access to the network"
    REFUSED = "have delivered results within a day that could not be stored"
    EXPIRED = "have delivered results within a day that are older than results are kept"
    NEWER = "speak a newer contract than this release"


@dataclass(frozen=True, kw_only=True)
class TroubleRecord:
    """The workers in one sort of trouble."""

    trouble: Trouble
    workers: int
    #: The first of them.
    names: tuple[str, ...]

    @property
    def text(self) -> str:
        """What is so with them."""
        return self.trouble.value


@cache
def has_clock_off() -> ColumnElement[bool]:
    """Return the condition that a connected worker's clock is so far off that its results are flagged."""
    return is_connected() & (func.abs(Worker.clock_offset_ms) > CLOCK_LIMIT_MS)


def refused_lately() -> ColumnElement[bool]:
    """Return the condition that a result was refused within a day."""
    return Quarantine.received_at > func.now() - _DAY


def read(session: Session) -> tuple[TroubleRecord, ...]:
    """Return the sorts of trouble that there are."""
    conditions: dict[Trouble, ColumnElement[bool]] = {
        Trouble.OFFLINE: and_(~is_connected(), ~is_drained()),
        Trouble.CLOCK: has_clock_off(),
        Trouble.SPOOL: is_connected() & (Worker.spool_alarm != ""),
        Trouble.STUCK: is_connected() & spool_stuck_since().is_not(None),
        Trouble.NETWORK: is_connected() & (Worker.vantage_alarm != ""),
        Trouble.REFUSED: select(Quarantine.id)
        .where(Quarantine.worker_id == Worker.id, refused_lately())
        .exists(),
        Trouble.EXPIRED: Worker.results_expired_at > func.now() - _DAY,
        Trouble.NEWER: Worker.contract_version > CONTRACT_VERSION,
    }
    enrolled = (Worker.deleted_at.is_(None), Worker.revoked_at.is_(None), Worker.enrolled_at.is_not(None))
    found = []
    for trouble, condition in conditions.items():
        among = select(Worker.name, func.count().over().label("workers")).where(*enrolled, condition)
        rows = session.execute(among.order_by(func.lower(Worker.name)).limit(_TOLD)).all()
        if rows:
            names = tuple(row.name for row in rows)
            found.append(TroubleRecord(trouble=trouble, workers=rows[0].workers, names=names))
    return tuple(found)


def overdue_jobs(session: Session) -> int:
    """Count the jobs of connected workers of which nothing comes although it is due."""
    return session.execute(select(func.count()).select_from(OverdueJob)).scalar_one()
