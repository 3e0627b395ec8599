"""Is the installation well? Heartbeats of its processes and the sessions of its workers."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controller.store.entities import Process, Worker
from controller.store.queries.workers import FRESH, is_connected

#: Roles of which at least one process must be fresh; the web answers for itself.
_NEEDED = ("gateway", "keeper")


@dataclass(frozen=True, kw_only=True)
class ProcessRecord:
    """A controller process that has not said that it stopped."""

    id: int
    role: str
    name: str
    host_name: str
    pid: int
    version: str
    started_at: dt.datetime
    #: Seconds since its last heartbeat, by the database's clock.
    heartbeat_age_s: float
    fresh: bool
    gauges: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Health:
    """The state of the installation."""

    #: `ok` or `down` for `database`, `gateway`, `keeper`, `worker`.
    components: Mapping[str, str]
    #: What is wrong, one sentence each, empty when all is well.
    problems: tuple[str, ...]
    processes: tuple[ProcessRecord, ...]
    workers_total: int
    workers_connected: int

    @property
    def ok(self) -> bool:
        """Whether every component is well."""
        return all(state == "ok" for state in self.components.values())


def read(session: Session) -> Health:
    """Return the health as the database knows it."""
    now = session.execute(select(func.now())).scalar_one()
    processes = tuple(
        ProcessRecord(
            id=entity.id,
            role=entity.role,
            name=entity.name,
            host_name=entity.host_name,
            pid=entity.pid,
            version=entity.version,
            started_at=entity.started_at,
            heartbeat_age_s=round((now - entity.heartbeat_at).total_seconds(), 3),
            fresh=now - entity.heartbeat_at <= FRESH,
            gauges=entity.gauges,
        )
        for entity in session.scalars(
            # Processes that died unheard are of interest for a while, not for ever.
            select(Process)
            .where(Process.stopped_at.is_(None), Process.heartbeat_at > func.now() - dt.timedelta(hours=1))
            .order_by(Process.role, Process.name, Process.id)
        )
    )
    live = select(func.count()).select_from(Worker).where(Worker.deleted_at.is_(None))
    total = session.execute(live.where(Worker.revoked_at.is_(None))).scalar_one()
    connected = session.execute(live.where(is_connected())).scalar_one()
    components = {"database": "ok"}
    problems: list[str] = []
    for role in _NEEDED:
        fresh = any(process.fresh for process in processes if process.role == role)
        components[role] = "ok" if fresh else "down"
        if not fresh:
            problems.append(
                f"no {role} has given a sign of life in the last {FRESH.seconds} s; start one: streamswarm {role}"
            )
    components["worker"] = "ok" if connected else "down"
    if not connected:
        problems.append(
            f"none of {total} workers is connected"
            if total
            else "no worker is enrolled; provision one: streamswarm fleet provision"
        )
    return Health(
        components=components,
        problems=tuple(problems),
        processes=processes,
        workers_total=total,
        workers_connected=connected,
    )


def unreachable(problem: str) -> Health:
    """Return the health when the database cannot be asked."""
    return Health(
        components={"database": "down", "gateway": "unknown", "keeper": "unknown", "worker": "unknown"},
        problems=(problem,),
        processes=(),
        workers_total=0,
        workers_connected=0,
    )
