"""What the gateway reads and writes about workers that it knows: standings, heartbeats, ends of sessions, certificates."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from controller.gateway.authority import IssuedCertificate
from controller.gateway.database import APPLICATION, LONGEST_TRANSACTION_MS, Connection
from controller.gateway.plain import clipped


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a connected worker stands in the database now."""

    #: Whether the worker is still good.
    listed: bool
    #: Epoch of the newest session, wherever it is.
    epoch: int
    jobs_revision: int
    #: Where that session is; None when it has ended, or a keeper took its gateway for dead.
    gateway_id: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Pulse:
    """One heartbeat to be written."""

    worker_id: uuid.UUID
    epoch: int
    jobs_revision: int
    spool_records: int
    spool_alarm: str
    vantage_alarm: str
    clock_offset_ms: float | None


async def end_stuck(connection: Connection) -> int:
    """End transactions of gateways that have outlived their time-out; return how many there were.

    While PostgreSQL waits for the rows of a COPY it looks at no time-out: a gateway that is stopped right then would
    hold its workers' rows for as long as it is stopped.
    """
    cursor = await connection.execute(
        """
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND usename = current_user AND application_name = %s
          AND xact_start < clock_timestamp() - %s * interval '1 ms'
          AND state = 'active' AND wait_event = 'ClientRead'
        """,
        (APPLICATION, LONGEST_TRANSACTION_MS),
    )
    return cursor.rowcount


async def close_sessions(
    connection: Connection, ended: Sequence[tuple[uuid.UUID, int]]
) -> set[tuple[uuid.UUID, int]]:
    """Note that sessions have ended, unless newer ones have taken their places.

    Returns those whose rows another transaction holds, to be tried again.
    """
    cursor = await connection.execute(
        """
        WITH ended AS (SELECT * FROM unnest(%s::uuid[], %s::bigint[]) AS e(id, epoch)),
        free AS (
            SELECT w.id FROM workers w JOIN ended e ON e.id = w.id AND e.epoch = w.session_epoch
            FOR UPDATE OF w SKIP LOCKED
        ),
        closed AS (
            UPDATE workers w SET gateway_id = NULL, disconnected_at = now() FROM free WHERE w.id = free.id
        )
        SELECT e.id, e.epoch FROM ended e JOIN workers w ON w.id = e.id AND w.session_epoch = e.epoch
        WHERE e.id NOT IN (SELECT id FROM free)
        """,
        [list(column) for column in zip(*ended, strict=True)],
    )
    return {(row[0], row[1]) for row in await cursor.fetchall()}


async def expected(connection: Connection) -> int:
    """Return how many workers each living gateway has to expect: of those that were there in the last day, its share."""
    cursor = await connection.execute(
        """
        SELECT count(*) / greatest(1, (
            SELECT count(*) FROM processes
            WHERE role = 'gateway' AND stopped_at IS NULL AND heartbeat_at > now() - interval '30 s'
        ))
        FROM workers
        WHERE deleted_at IS NULL AND revoked_at IS NULL AND coalesce(last_seen_at, enrolled_at) > now() - interval '1 day'
        """
    )
    row = await cursor.fetchone()
    return 0 if row is None else int(row[0])


async def changed_standings(
    connection: Connection, ids: str, epochs: str, revisions: str, process_id: int
) -> dict[uuid.UUID, Standing | None]:
    """Return how those workers stand of whom something is not as it is given here; None for unknown ones.

    The three are arrays of the same length as PostgreSQL reads them, since thousands are asked for every second and
    hardly any has changed.
    """
    cursor = await connection.execute(
        """
        SELECT s.id, w.session_epoch, w.jobs_revision, w.deleted_at IS NULL AND w.revoked_at IS NULL, w.gateway_id
        FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[]) AS s(id, epoch, revision)
        LEFT JOIN workers w ON w.id = s.id
        WHERE w.session_epoch IS DISTINCT FROM s.epoch OR w.jobs_revision IS DISTINCT FROM s.revision
           OR w.deleted_at IS NOT NULL OR w.revoked_at IS NOT NULL OR w.gateway_id IS DISTINCT FROM %s
        """,
        (ids, epochs, revisions, process_id),
    )
    return {
        row[0]: None
        if row[1] is None
        else Standing(epoch=row[1], jobs_revision=row[2], listed=row[3], gateway_id=row[4])
        for row in await cursor.fetchall()
    }


async def take_back(
    connection: Connection, sessions: Sequence[tuple[uuid.UUID, int]], process_id: int
) -> None:
    """Note that these sessions, by worker and epoch, are here after all; rows that others hold are left for the next time."""
    await connection.execute(
        """
        WITH free AS (
            SELECT w.id FROM workers w
            JOIN unnest(%s::uuid[], %s::bigint[]) AS s(id, epoch) ON s.id = w.id AND s.epoch = w.session_epoch
            WHERE EXISTS (SELECT FROM processes WHERE id = %s)
            FOR UPDATE OF w SKIP LOCKED
        )
        UPDATE workers w SET gateway_id = %s, disconnected_at = NULL FROM free WHERE w.id = free.id
        """,
        (*([list(column) for column in zip(*sessions, strict=True)]), process_id, process_id),
    )


async def unlisted(connection: Connection, ids: str, serials: str) -> set[uuid.UUID]:
    """Return the workers whose certificates, given by their serial numbers, are not good any more."""
    cursor = await connection.execute(
        """
        SELECT s.id FROM unnest(%s::uuid[], %s::text[]) AS s(id, serial)
        LEFT JOIN certificates c ON c.serial = s.serial AND c.worker_id = s.id
        WHERE c.serial IS NULL OR c.revoked_at IS NOT NULL OR c.not_after <= now()
        """,
        (ids, serials),
    )
    return {row[0] for row in await cursor.fetchall()}


async def write_pulses(connection: Connection, pulses: Sequence[Pulse]) -> set[uuid.UUID]:
    """Write heartbeats and return whose were written.

    A worker whose row an ingest transaction holds is left for the next time: waiting for one worker's row with
    others' rows in hand could lock two processes against each other.
    """
    cursor = await connection.execute(
        """
        WITH free AS (
            SELECT w.id FROM workers w
            JOIN unnest(%s::uuid[], %s::bigint[]) AS p(id, epoch) ON p.id = w.id AND p.epoch = w.session_epoch
            FOR UPDATE OF w SKIP LOCKED
        )
        UPDATE workers w SET last_seen_at = now(), jobs_applied = p.jobs, spool_records = p.records,
               spool_alarm = p.alarm, vantage_alarm = p.vantage, clock_offset_ms = p.clock
        FROM free, unnest(%s::uuid[], %s::bigint[], %s::bigint[], %s::text[], %s::text[], %s::float8[])
             AS p(id, jobs, records, alarm, vantage, clock)
        WHERE w.id = free.id AND p.id = w.id
        RETURNING w.id
        """,
        (
            [pulse.worker_id for pulse in pulses],
            [pulse.epoch for pulse in pulses],
            [pulse.worker_id for pulse in pulses],
            [pulse.jobs_revision for pulse in pulses],
            [pulse.spool_records for pulse in pulses],
            [clipped(pulse.spool_alarm, 1000) for pulse in pulses],
            [clipped(pulse.vantage_alarm, 1000) for pulse in pulses],
            [pulse.clock_offset_ms for pulse in pulses],
        ),
    )
    return {row[0] for row in await cursor.fetchall()}


async def register(connection: Connection, issued: IssuedCertificate) -> None:
    """List a certificate; only listed ones are heard."""
    await connection.execute(
        "INSERT INTO certificates (serial, worker_id, not_before, not_after) VALUES (%s, %s, %s, %s)",
        (issued.serial, issued.worker_id, issued.not_before, issued.not_after),
    )


async def register_renewal(connection: Connection, issued: IssuedCertificate, epoch: int) -> bool:
    """List a renewed certificate, unless the worker was revoked or has a newer session; whether it was listed."""
    cursor = await connection.execute(
        "INSERT INTO certificates (serial, worker_id, not_before, not_after) SELECT %s, id, %s, %s FROM workers "
        "WHERE id = %s AND session_epoch = %s AND revoked_at IS NULL AND deleted_at IS NULL RETURNING serial",
        (issued.serial, issued.not_before, issued.not_after, issued.worker_id, epoch),
    )
    return await cursor.fetchone() is not None
