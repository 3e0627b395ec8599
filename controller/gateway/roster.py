"""What the gateway reads and writes about workers: sessions, watermarks, certificates, heartbeats."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from controller.gateway.authority import IssuedCertificate
from controller.gateway.database import Connection
from controller.gateway.identity import Peer
from controller.gateway.plain import storable_json
from controller.store.queue import plan_worker_async
from streamswarm.v1 import gateway_pb2

_MOST_JSON = 65_536


class NotListedError(Exception):
    """The worker or its certificate is unknown, revoked, superseded, expired or deleted."""


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

    #: Whether worker and certificate are still good.
    listed: bool
    #: Epoch of the newest session, wherever it is.
    epoch: int
    jobs_revision: int


@dataclass(frozen=True, kw_only=True)
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


async def open_session(
    connection: Connection, peer: Peer, hello: gateway_pb2.Hello, process_id: int
) -> OpenedSession:
    """Make this the worker's newest session, or raise NotListedError.

    The watermark goes on where the named spool left off; another spool starts at nothing. A spool whose next
    number lies at or below the watermark has been set back (a restored disk): its numbers will come again for
    other results, so the watermark is set back with it and the rows' own keys tell duplicates apart.
    """
    kinds = _kinds(hello)
    async with connection.transaction():
        cursor = await connection.execute(
            "SELECT kinds, contract_version FROM workers WHERE id = %s FOR UPDATE", (peer.worker_id,)
        )
        before = await cursor.fetchone()
        cursor = await connection.execute(
            """
            UPDATE workers w SET
                session_epoch = w.session_epoch + 1,
                gateway_id = %(process)s, connected_at = now(), last_seen_at = now(), disconnected_at = NULL,
                version = %(version)s, contract_version = %(contract)s,
                instance_id = %(instance)s, boot_id = %(boot)s,
                facts = %(facts)s::jsonb, policy = %(policy)s::jsonb, kinds = %(kinds)s::jsonb,
                spool_id = %(spool)s,
                acked_seq = CASE WHEN w.spool_id <> %(spool)s THEN 0
                                 WHEN %(next)s <= w.acked_seq THEN greatest(%(first)s - 1, 0)
                                 ELSE w.acked_seq END
            FROM certificates c
            WHERE w.id = %(worker)s AND w.deleted_at IS NULL AND w.revoked_at IS NULL
              AND c.serial = %(serial)s AND c.worker_id = w.id
              AND c.revoked_at IS NULL AND c.superseded_at IS NULL AND c.not_after > now()
            RETURNING w.session_epoch, w.name, w.acked_seq
            """,
            {
                "process": process_id,
                "worker": peer.worker_id,
                "serial": peer.serial,
                "version": _text(hello.worker_version, 100),
                "contract": hello.contract_version,
                "instance": _text(hello.instance_id, 100),
                "boot": _text(hello.boot_id, 100),
                "facts": _facts(hello),
                "policy": _policy(hello.policy_json),
                "kinds": storable_json(kinds),
                "spool": hello.spool_id,
                "next": hello.next_seq,
                "first": hello.first_unacked_seq or hello.next_seq,
            },
        )
        row = await cursor.fetchone()
        if row is None:
            raise NotListedError
        await _use_certificate(connection, peer)
        if before is not None and before != (kinds, hello.contract_version):
            await plan_worker_async(connection, peer.worker_id)
    return OpenedSession(epoch=row[0], worker_name=row[1], acked_seq=row[2])


async def close_session(connection: Connection, worker_id: uuid.UUID, epoch: int) -> None:
    """Note that the session has ended, unless a newer one has taken its place."""
    await connection.execute(
        "UPDATE workers SET gateway_id = NULL, disconnected_at = now() WHERE id = %s AND session_epoch = %s",
        (worker_id, epoch),
    )


async def standings(
    connection: Connection, connected: Sequence[tuple[uuid.UUID, str]]
) -> dict[uuid.UUID, Standing]:
    """Return how these workers, each with the serial it came with, stand; one query for all of them."""
    cursor = await connection.execute(
        """
        SELECT w.id, w.session_epoch, w.jobs_revision,
               w.deleted_at IS NULL AND w.revoked_at IS NULL
               AND c.serial IS NOT NULL AND c.revoked_at IS NULL AND c.not_after > now()
        FROM unnest(%s::uuid[], %s::text[]) AS s(worker_id, serial)
        JOIN workers w ON w.id = s.worker_id
        LEFT JOIN certificates c ON c.serial = s.serial AND c.worker_id = w.id
        """,
        ([worker_id for worker_id, _ in connected], [serial for _, serial in connected]),
    )
    return {
        row[0]: Standing(epoch=row[1], jobs_revision=row[2], listed=row[3]) for row in await cursor.fetchall()
    }


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


async def _use_certificate(connection: Connection, peer: Peer) -> None:
    """Note a certificate's first session; from then on the worker's older ones are superseded."""
    cursor = await connection.execute(
        "UPDATE certificates SET first_used_at = now() WHERE serial = %s AND first_used_at IS NULL "
        "RETURNING issued_at",
        (peer.serial,),
    )
    first_use = await cursor.fetchone()
    if first_use is not None:
        await connection.execute(
            "UPDATE certificates SET superseded_at = now() "
            "WHERE worker_id = %s AND serial <> %s AND issued_at <= %s AND superseded_at IS NULL",
            (peer.worker_id, peer.serial, first_use[0]),
        )


def _text(value: str, longest: int) -> str:
    return value.replace("\0", "")[:longest]


def _facts(hello: gateway_pb2.Hello) -> str:
    if hello.facts.ByteSize() > _MOST_JSON:
        return "{}"
    facts = {}
    for field in hello.facts.DESCRIPTOR.fields:
        value = getattr(hello.facts, field.name)
        facts[field.name] = list(value) if field.is_repeated else value
    return storable_json(facts)


def _kinds(hello: gateway_pb2.Hello) -> dict[str, Any]:
    return {
        _text(item.kind, 64): {
            "available": item.available,
            "reason": _text(item.reason, 1000),
            "mend": _text(item.mend, 1000),
        }
        for item in hello.kinds[:200]
    }


def _policy(text: str) -> str:
    try:
        policy = json.loads(text[:_MOST_JSON]) if text else {}
        return storable_json(policy) if isinstance(policy, dict) else "{}"
    except (ValueError, RecursionError):
        return "{}"
