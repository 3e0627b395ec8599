"""What the gateway reads and writes about workers: sessions, watermarks, certificates, heartbeats."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from controller.gateway.authority import IssuedCertificate
from controller.gateway.database import APPLICATION, LONGEST_TRANSACTION_MS, Connection
from controller.gateway.identity import Peer
from controller.gateway.plain import storable_json, without_nul
from controller.store.queue import plan_worker_async
from streamswarm.v1 import gateway_pb2

#: A worker's jobs are planned for the kinds that it announces no more often than this.
REPLAN_PAUSE = dt.timedelta(minutes=1)
_MOST_JSON = 65_536


class NotListedError(Exception):
    """The worker or its certificate is unknown, revoked, superseded, expired or deleted."""


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """A Hello, and who said it."""

    peer: Peer
    hello: gateway_pb2.Hello


@dataclass(frozen=True, kw_only=True)
class OpenedSession:
    """What a Hello opened."""

    epoch: int
    worker_name: str
    #: Watermark of the spool that the Hello named.
    acked_seq: int


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a connected worker stands in the database now."""

    #: Whether the worker is still good.
    listed: bool
    #: Epoch of the newest session, wherever it is.
    epoch: int
    jobs_revision: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Pulse:
    """One heartbeat to be written."""

    worker_id: uuid.UUID
    epoch: int
    #: The gateway that holds the session: a keeper that took it for dead has let go of its workers.
    process_id: int
    jobs_revision: int
    spool_records: int
    spool_alarm: str
    clock_offset_ms: float | None


#: What became of an arrival: None when it is not listed; absent when its row was held by another transaction.
Opened = dict[uuid.UUID, OpenedSession | None]


async def open_sessions(connection: Connection, arrivals: Sequence[Arrival], process_id: int) -> Opened:
    """Make these the newest sessions of their workers, of which each may be there once, in one transaction.

    Rows that other transactions hold are passed over: waiting for one worker's row would hold up all the others, and
    with their rows in hand could lock two processes against each other.

    The watermark goes on where the named spool left off; another spool starts at nothing. A spool whose next
    number lies at or below the watermark has been set back (a restored disk): its numbers will come again for
    other results, so the watermark is set back with it and the rows' own keys tell duplicates apart.
    """
    ids = [arrival.peer.worker_id for arrival in arrivals]
    async with connection.transaction():
        cursor = await connection.execute(
            "SELECT id, kinds, contract_version FROM workers WHERE id = ANY(%s) ORDER BY id FOR UPDATE SKIP LOCKED",
            (ids,),
        )
        before = {row[0]: (row[1], row[2]) for row in await cursor.fetchall()}
        cursor = await connection.execute("SELECT id FROM workers WHERE id = ANY(%s)", (ids,))
        held = {row[0] for row in await cursor.fetchall()} - before.keys()
        free = [arrival for arrival in arrivals if arrival.peer.worker_id in before]
        opened = await _take_over(connection, free, process_id) if free else {}
        await _use_certificates(connection, [item.peer for item in free if item.peer.worker_id in opened])
        changed = [
            arrival.peer.worker_id
            for arrival in free
            if arrival.peer.worker_id in opened
            and before[arrival.peer.worker_id] != (_kinds(arrival.hello), arrival.hello.contract_version)
        ]
        if changed:
            await _replan(connection, changed)
    return {worker_id: opened.get(worker_id) for worker_id in ids if worker_id not in held}


async def _replan(connection: Connection, worker_ids: Sequence[uuid.UUID]) -> None:
    """Have the jobs planned of workers that announce other kinds, each once a minute at the most.

    Each plan may end versions of all its jobs and begin others. What a worker announces in between is planned by the
    keepers' look over all tests, every minute, as it is then.
    """
    cursor = await connection.execute(
        "UPDATE workers SET replanned_at = now() "
        "WHERE id = ANY(%s) AND (replanned_at IS NULL OR replanned_at < now() - %s) RETURNING id",
        (list(worker_ids), REPLAN_PAUSE),
    )
    for (worker_id,) in await cursor.fetchall():
        await plan_worker_async(connection, worker_id)


async def _take_over(
    connection: Connection, arrivals: Sequence[Arrival], process_id: int
) -> dict[uuid.UUID, OpenedSession]:
    """Write what the Hellos say, where worker and certificate are good; return those."""
    rows = [
        {
            "id": str(peer.worker_id),
            "serial": peer.serial,
            "version": _text(hello.worker_version, 100),
            "contract": hello.contract_version,
            "instance": _text(hello.instance_id, 100),
            "boot": _text(hello.boot_id, 100),
            "facts": _facts(hello),
            "policy": _policy(hello.policy_json),
            "kinds": without_nul(_kinds(hello)),
            "spool": hello.spool_id,
            "next": hello.next_seq,
            "first": hello.first_unacked_seq or hello.next_seq,
        }
        for peer, hello in ((arrival.peer, arrival.hello) for arrival in arrivals)
    ]
    cursor = await connection.execute(
        """
        UPDATE workers w SET
            session_epoch = w.session_epoch + 1,
            gateway_id = %s, connected_at = now(), last_seen_at = now(), disconnected_at = NULL,
            version = h.version, contract_version = h.contract, instance_id = h.instance, boot_id = h.boot,
            facts = h.facts, policy = h.policy, kinds = h.kinds, spool_id = h.spool,
            acked_seq = CASE WHEN w.spool_id <> h.spool THEN 0
                             WHEN h.next <= w.acked_seq THEN greatest(h.first - 1, 0)
                             ELSE w.acked_seq END
        FROM jsonb_to_recordset(%s::jsonb) AS h(
                 id uuid, serial text, version text, contract integer, instance text, boot text, facts jsonb,
                 policy jsonb, kinds jsonb, spool text, next bigint, first bigint)
        JOIN certificates c ON c.serial = h.serial AND c.worker_id = h.id
        WHERE w.id = h.id AND w.deleted_at IS NULL AND w.revoked_at IS NULL
          AND c.revoked_at IS NULL AND c.superseded_at IS NULL AND c.not_after > now()
        RETURNING w.id, w.session_epoch, w.name, w.acked_seq
        """,
        (process_id, storable_json(rows)),
    )
    return {
        row[0]: OpenedSession(epoch=row[1], worker_name=row[2], acked_seq=row[3])
        for row in await cursor.fetchall()
    }


async def _use_certificates(connection: Connection, peers: Sequence[Peer]) -> None:
    """Note a certificate's first session; from then on the worker's older ones are superseded."""
    cursor = await connection.execute(
        "UPDATE certificates SET first_used_at = now() WHERE serial = ANY(%s) AND first_used_at IS NULL "
        "RETURNING worker_id, serial, issued_at",
        ([peer.serial for peer in peers],),
    )
    first_uses = await cursor.fetchall()
    if first_uses:
        await connection.execute(
            "UPDATE certificates c SET superseded_at = now() "
            "FROM unnest(%s::uuid[], %s::text[], %s::timestamptz[]) AS n(worker_id, serial, issued_at) "
            "WHERE c.worker_id = n.worker_id AND c.serial <> n.serial AND c.issued_at <= n.issued_at "
            "AND c.superseded_at IS NULL",
            [list(column) for column in zip(*first_uses, strict=True)],
        )


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


async def changed_standings(
    connection: Connection, ids: str, epochs: str, revisions: str
) -> dict[uuid.UUID, Standing | None]:
    """Return how those workers stand of whom something is not as it is given here; None for unknown ones.

    The three are arrays of the same length as PostgreSQL reads them, since thousands are asked for every second and
    hardly any has changed.
    """
    cursor = await connection.execute(
        """
        SELECT s.id, w.session_epoch, w.jobs_revision, w.deleted_at IS NULL AND w.revoked_at IS NULL
        FROM unnest(%s::uuid[], %s::bigint[], %s::bigint[]) AS s(id, epoch, revision)
        LEFT JOIN workers w ON w.id = s.id
        WHERE w.session_epoch IS DISTINCT FROM s.epoch OR w.jobs_revision IS DISTINCT FROM s.revision
           OR w.deleted_at IS NOT NULL OR w.revoked_at IS NOT NULL
        """,
        (ids, epochs, revisions),
    )
    return {
        row[0]: None if row[1] is None else Standing(epoch=row[1], jobs_revision=row[2], listed=row[3])
        for row in await cursor.fetchall()
    }


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
               spool_alarm = p.alarm, clock_offset_ms = p.clock, disconnected_at = NULL,
               gateway_id = (SELECT g.id FROM processes g WHERE g.id = p.process)
        FROM free, unnest(%s::uuid[], %s::bigint[], %s::bigint[], %s::bigint[], %s::text[], %s::float8[])
             AS p(id, process, jobs, records, alarm, clock)
        WHERE w.id = free.id AND p.id = w.id
        RETURNING w.id
        """,
        (
            [pulse.worker_id for pulse in pulses],
            [pulse.epoch for pulse in pulses],
            [pulse.worker_id for pulse in pulses],
            [pulse.process_id for pulse in pulses],
            [pulse.jobs_revision for pulse in pulses],
            [pulse.spool_records for pulse in pulses],
            [_text(pulse.spool_alarm, 1000) for pulse in pulses],
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


def _text(value: str, longest: int) -> str:
    return value.replace("\0", "")[:longest]


def _facts(hello: gateway_pb2.Hello) -> dict[str, Any]:
    if hello.facts.ByteSize() > _MOST_JSON:
        return {}
    facts = {}
    for field in hello.facts.DESCRIPTOR.fields:
        value = getattr(hello.facts, field.name)
        facts[field.name] = list(value) if field.is_repeated else value
    return facts


def _kinds(hello: gateway_pb2.Hello) -> dict[str, Any]:
    return {
        _text(item.kind, 64): {
            "available": item.available,
            "reason": _text(item.reason, 1000),
            "mend": _text(item.mend, 1000),
        }
        for item in hello.kinds[:200]
    }


def _policy(text: str) -> dict[str, Any]:
    try:
        policy = json.loads(text[:_MOST_JSON]) if text else {}
        storable_json(policy)
    except (ValueError, RecursionError):
        return {}
    return policy if isinstance(policy, dict) else {}
