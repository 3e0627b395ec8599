"""Which controller processes are alive and whether the installation does its work.

Every gateway, keeper and web process keeps a row of its own and refreshes its heartbeat; what is older than
`STALE_S` is taken for dead. Ages are measured by the database's clock alone.
"""

from __future__ import annotations

import datetime as dt
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from controller.store.upkeep import believed, standstills
from controller.store.upkeep.standstills import JobStandstill, Standstill

Role = Literal["gateway", "keeper", "web"]
State = Literal["ok", "degraded", "down"]

#: Seconds between two heartbeats of a process.
HEARTBEAT_S = 2.0
#: Age of a heartbeat, seconds, from which the process counts as dead.
STALE_S = 15.0
#: The roles of processes, and what comes of it when none is alive.
NEEDS: dict[Role, str] = {
    "gateway": "workers cannot deliver results",
    "keeper": "nothing is planned and no partitions are made",
    "web": "there is neither a dashboard nor a REST API",
}
#: A worker's clock that is further away from the controller's is flagged, and so are the results that carry it.
CLOCK_LIMIT_MS = 5_000.0
#: A worker with more records than one batch in its spool is emptying it.
BACKLOG = 500
#: One whose spool has not become smaller for so long is not, whatever it says: one heartbeat at least, the rarest come
#: every five minutes, and time for a keeper to look.
PATIENCE = dt.timedelta(minutes=10)


@dataclass(frozen=True, kw_only=True)
class Component:
    """One part of the installation."""

    state: State
    #: What is wrong and what to do, or what is there; for people.
    message: str
    #: How many of it are alive.
    alive: int


@dataclass(frozen=True, kw_only=True)
class Health:
    """The installation as a whole."""

    database: Component
    gateway: Component
    keeper: Component
    worker: Component

    @property
    def state(self) -> State:
        """The worst state of any part."""
        states = [part.state for part in (self.database, self.gateway, self.keeper, self.worker)]
        return "down" if "down" in states else "degraded" if "degraded" in states else "ok"


def is_clock_off(offset_ms: float | None) -> bool:
    """Whether a clock is so far away from the controller's that its readings are flagged."""
    return offset_ms is not None and abs(offset_ms) > CLOCK_LIMIT_MS


def register_process(connection: Connection, role: Role, name: str) -> int:
    """Make the row of this process and return its id."""
    return int(
        connection.execute(
            text(
                "INSERT INTO processes (role, name, host_name, pid, version) "
                "VALUES (:role, :name, :host_name, :pid, :version) RETURNING id"
            ),
            {
                "role": role,
                "name": name,
                "host_name": socket.gethostname(),
                "pid": os.getpid(),
                "version": version("streamswarm"),
            },
        ).scalar_one()
    )


def heartbeat(connection: Connection, process_id: int, gauges: Mapping[str, Any] | None = None) -> bool:
    """Refresh the heartbeat of a process; False when its row is gone and it must register again."""
    statement = text(
        "UPDATE processes SET heartbeat_at = clock_timestamp(), stopped_at = NULL, gauges = :gauges "
        "WHERE id = :id"
    ).bindparams(bindparam("gauges", type_=JSONB))
    return connection.execute(statement, {"id": process_id, "gauges": dict(gauges or {})}).rowcount == 1


def stop_process(connection: Connection, process_id: int) -> None:
    """Note that a process has ended in good order."""
    connection.execute(
        text("UPDATE processes SET stopped_at = clock_timestamp() WHERE id = :id"), {"id": process_id}
    )


def disconnect_orphans(connection: Connection) -> int:
    """Mark the workers of dead gateways as disconnected; return how many there were."""
    return connection.execute(
        text(
            "UPDATE workers SET gateway_id = NULL, disconnected_at = clock_timestamp() "
            "WHERE id IN (SELECT w.id FROM workers w JOIN processes p ON p.id = w.gateway_id "
            "  WHERE p.stopped_at IS NOT NULL OR p.heartbeat_at < clock_timestamp() - :stale * interval '1 s' "
            "  ORDER BY w.id FOR UPDATE OF w SKIP LOCKED)"
        ),
        {"stale": STALE_S},
    ).rowcount


def prune_processes(connection: Connection, *, older_than_s: float) -> int:
    """Remove the rows of processes that have been dead for so long; return how many there were."""
    return connection.execute(
        text("DELETE FROM processes WHERE heartbeat_at < clock_timestamp() - :age * interval '1 s'"),
        {"age": older_than_s},
    ).rowcount


def read_health(connection: Connection) -> Health:
    """Return the state of the installation; that this returns at all says that the database answers."""
    counts = connection.execute(
        text(
            "SELECT role, count(*) FROM processes WHERE stopped_at IS NULL "
            "AND heartbeat_at >= clock_timestamp() - :stale * interval '1 s' GROUP BY role"
        ),
        {"stale": STALE_S},
    ).all()
    alive: dict[str, int] = {str(role): int(count) for role, count in counts}
    workers = connection.execute(
        text(
            "SELECT count(*) FILTER (WHERE gateway_id IS NOT NULL) AS connected, count(*) AS known, "
            "count(*) FILTER (WHERE gateway_id IS NOT NULL AND spool_alarm <> '') AS alarmed, "
            "count(*) FILTER (WHERE gateway_id IS NOT NULL AND abs(clock_offset_ms) > :limit) AS astray, "
            "count(*) FILTER (WHERE gateway_id IS NULL AND EXISTS ("
            "  SELECT FROM drains d WHERE d.worker_id = workers.id AND d.until IS NULL)) AS drained, "
            "(SELECT count(*) FROM overdue_jobs) AS overdue FROM workers "
            "WHERE deleted_at IS NULL AND revoked_at IS NULL AND enrolled_at IS NOT NULL"
        ),
        {"limit": CLOCK_LIMIT_MS},
    ).one()
    astray = _astray(connection)
    return Health(
        database=Component(state="ok", message="PostgreSQL answers", alive=1),
        gateway=_gateways(alive.get("gateway", 0), astray.get("gateway", ())),
        keeper=_keepers(
            alive.get("keeper", 0),
            astray.get("keeper", ()),
            [*standstills.read(connection), *standstills.read_jobs(connection)],
        ),
        worker=_workers(**workers._asdict()),
    )


def _process(alive: int, role: Role) -> Component:
    if alive:
        return Component(state="ok", message=f"{alive} alive", alive=alive)
    return Component(
        state="down", message=f"no {role} is alive: {NEEDS[role]}; start `streamswarm {role}`", alive=0
    )


def _astray(connection: Connection) -> dict[str, list[Any]]:
    """Return name and offset of the processes whose clock is far away from the database's, by role."""
    rows = connection.execute(
        text(
            "SELECT role, name, (gauges->>'clock_offset_ms')::float8 AS offset_ms FROM processes "
            "WHERE stopped_at IS NULL AND heartbeat_at >= clock_timestamp() - :stale * interval '1 s' "
            "AND abs((gauges->>'clock_offset_ms')::float8) > :limit ORDER BY name"
        ),
        {"stale": STALE_S, "limit": CLOCK_LIMIT_MS},
    )
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row.role, []).append(row)
    return found


def _off(astray: Sequence[Any]) -> str:
    first, more = astray[0], f" (and {len(astray) - 1} more)" if len(astray) > 1 else ""
    return f"the clock of {first.name}{more} is {off_by(first.offset_ms)} the database's; set the one that is wrong (NTP)"


def _gateways(alive: int, astray: Sequence[Any]) -> Component:
    if not alive or not astray:
        return _process(alive, "gateway")
    return Component(state="degraded", message=_off(astray), alive=alive)


def off_by(offset_ms: float) -> str:
    """Return by how much a clock is off, before the name of what it is compared with."""
    return f"{abs(offset_ms) / 1000:,.1f} s {'ahead of' if offset_ms > 0 else 'behind'}"


def _keepers(alive: int, astray: Sequence[Any], still: Sequence[Standstill | JobStandstill]) -> Component:
    if not alive or not (astray or still):
        return _process(alive, "keeper")
    told = []
    if astray:
        minutes = believed.AGREEMENT.total_seconds() / 60
        told.append(f"{_off(astray)}: beyond {minutes:.0f} minutes nothing is removed for its age")
    if still:
        more = f" and {len(still) - 1} more" if len(still) > 1 else ""
        told.append(f"{still[0].text}{more}; {still[0].mend}")
    return Component(state="degraded", message="; ".join(told), alive=alive)


def _workers(
    *, connected: int, known: int, alarmed: int, astray: int, drained: int, overdue: int
) -> Component:
    if alarmed:
        return Component(
            state="degraded",
            message=f"{alarmed} of {connected} connected cannot keep results; their pages say why",
            alive=connected,
        )
    troubles = []
    if overdue:
        troubles.append(f"{overdue} jobs of connected workers do not deliver what is due")
    if astray:
        troubles.append(f"{astray} of {connected} connected have a clock that is more than 5 s off")
    if connected and troubles:
        return Component(state="degraded", message="; ".join(troubles), alive=connected)
    # Nobody waits for those that are drained.
    wanted, aside = known - drained, f", {drained} drained" if drained else ""
    if connected == wanted and known:
        every = f"all {wanted} connected{aside}" if wanted else f"all {drained} drained"
        return Component(state="ok", message=every, alive=connected)
    if connected:
        return Component(
            state="degraded",
            message=f"{wanted - connected} of {wanted} are not connected{aside}",
            alive=connected,
        )
    what = "no worker has enrolled yet" if not known else f"none of {wanted} is connected{aside}"
    return Component(state="down", message=what, alive=0)
