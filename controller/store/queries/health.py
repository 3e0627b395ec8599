"""The controller processes that are there, one by one; `controller.store.health` has the summary."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controller.store.entities import Process
from controller.store.health import STALE_S

#: Processes that died unheard are of interest for a while, not for ever.
_REMEMBERED = dt.timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class ProcessRecord:
    """A controller process that has not said that it stopped."""

    id: int
    #: `gateway`, `keeper` or `web`.
    role: str
    name: str
    host_name: str
    pid: int
    version: str
    started_at: dt.datetime
    #: Seconds since its last heartbeat, by the database's clock.
    heartbeat_age_s: float
    #: False when it is taken for dead.
    alive: bool
    #: Sessions, queue lengths, loop lag: what the process tells about itself.
    gauges: Mapping[str, Any]


def processes(session: Session) -> tuple[ProcessRecord, ...]:
    """Return the processes by role and name."""
    age = func.extract("epoch", func.clock_timestamp() - Process.heartbeat_at)
    rows = session.execute(
        select(Process, age.label("age"))
        .where(Process.stopped_at.is_(None), Process.heartbeat_at > func.clock_timestamp() - _REMEMBERED)
        .order_by(Process.role, Process.name, Process.id)
    )
    return tuple(
        ProcessRecord(
            id=entity.id,
            role=entity.role,
            name=entity.name,
            host_name=entity.host_name,
            pid=entity.pid,
            version=entity.version,
            started_at=entity.started_at,
            heartbeat_age_s=round(float(age), 3),
            alive=float(age) <= STALE_S,
            gauges=entity.gauges,
        )
        for entity, age in rows
    )
