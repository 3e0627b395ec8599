"""How sessions are opened: what Hellos say is written, and the worker's newest session is theirs from then on."""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from controller.gateway.database import Connection
from controller.gateway.facts import version_and_facts
from controller.gateway.identity import Peer
from controller.gateway.lately import Lately
from controller.gateway.plain import clipped, read_json, storable_json
from controller.store.queue import plan_worker_async
from streamswarm.targets import shown
from streamswarm.v1 import gateway_pb2

_log = logging.getLogger(__name__)

#: A worker's jobs are planned for the kinds that it announces no more often than this.
REPLAN_PAUSE = dt.timedelta(minutes=1)
_MOST_JSON = 65_536
#: A worker whose policy cannot be kept is told of once in a day, however often it comes.
_told: Lately[uuid.UUID] = Lately(86_400.0)

#: One statement for all of it: in a gateway to which thousands come at once each answer of the database is waited for
#: behind everything else. Where worker and certificate are good, what the Hello says is written; a certificate's first
#: session is noted, and supersedes the worker's older ones; so is the first of each release, of which the newest hundred are
#: kept. A drained worker that can measure is in service again; one that only delivers what waits on its disk announces no kind.
_OPEN = """
WITH hello AS (
    SELECT * FROM jsonb_to_recordset(%s::jsonb) AS h(
        id uuid, serial text, version text, contract integer, instance text, boot text, facts jsonb,
        policy jsonb, kinds jsonb, spool text, next bigint, first bigint)
),
free AS (
    SELECT w.id, w.kinds, w.contract_version FROM workers w WHERE w.id IN (SELECT id FROM hello)
    ORDER BY w.id FOR UPDATE SKIP LOCKED
),
opened AS (
    UPDATE workers w SET
        session_epoch = w.session_epoch + 1,
        gateway_id = %s, connected_at = now(), last_seen_at = now(), disconnected_at = NULL,
        version = h.version, contract_version = h.contract, instance_id = h.instance, boot_id = h.boot,
        facts = h.facts, policy = h.policy, kinds = h.kinds, spool_id = h.spool,
        acked_seq = CASE WHEN w.spool_id <> h.spool THEN 0
                         WHEN h.next <= w.acked_seq THEN greatest(h.first - 1, 0)
                         ELSE w.acked_seq END
    FROM hello h
    JOIN free f ON f.id = h.id
    JOIN certificates c ON c.serial = h.serial AND c.worker_id = h.id
    WHERE w.id = h.id AND w.deleted_at IS NULL AND w.revoked_at IS NULL
      AND c.revoked_at IS NULL AND c.superseded_at IS NULL AND c.not_after > now()
    RETURNING w.id, w.session_epoch, w.name, w.acked_seq, h.serial,
              (f.kinds, f.contract_version) IS DISTINCT FROM (h.kinds, h.contract) AS changed,
              jsonb_path_exists(h.kinds, '$.*.available ? (@ == true)') AS measures
),
resumed AS (
    UPDATE drains d SET until = now() FROM opened o
    WHERE d.worker_id = o.id AND d.until IS NULL AND o.measures
),
used AS (
    UPDATE certificates c SET first_used_at = now() FROM opened o
    WHERE c.serial = o.serial AND c.first_used_at IS NULL
    RETURNING c.worker_id, c.serial, c.issued_at
),
superseded AS (
    UPDATE certificates c SET superseded_at = now() FROM used u
    WHERE c.worker_id = u.worker_id AND c.serial <> u.serial AND c.issued_at <= u.issued_at
      AND c.superseded_at IS NULL
),
noted AS (
    INSERT INTO worker_releases (worker_id, since, version)
    SELECT o.id, now(), h.version FROM opened o JOIN hello h ON h.id = o.id
    WHERE h.version IS DISTINCT FROM (
        SELECT r.version FROM worker_releases r WHERE r.worker_id = o.id ORDER BY r.since DESC LIMIT 1
    )
    ON CONFLICT DO NOTHING
    RETURNING worker_id
),
forgotten AS (
    DELETE FROM worker_releases r USING noted n
    WHERE r.worker_id = n.worker_id AND r.since <= (
        SELECT e.since FROM worker_releases e WHERE e.worker_id = n.worker_id ORDER BY e.since DESC OFFSET 99 LIMIT 1
    )
)
SELECT w.id, f.id IS NULL, o.session_epoch, o.name, o.acked_seq, o.changed
FROM workers w
LEFT JOIN free f ON f.id = w.id
LEFT JOIN opened o ON o.id = w.id
WHERE w.id IN (SELECT id FROM hello)
"""


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
    rows = [_arrival_row(arrival) for arrival in arrivals]
    opened: Opened = {arrival.peer.worker_id: None for arrival in arrivals}
    async with connection.transaction():
        cursor = await connection.execute(_OPEN, (storable_json(rows), process_id))
        found = await cursor.fetchall()
        for worker_id, held, epoch, name, acked_seq, _ in found:
            if held:
                del opened[worker_id]
            elif epoch is not None:
                opened[worker_id] = OpenedSession(epoch=epoch, worker_name=name, acked_seq=acked_seq)
        changed = [row[0] for row in found if row[5]]
        if changed:
            await _replan(connection, changed)
    return opened


async def _replan(connection: Connection, worker_ids: Sequence[uuid.UUID]) -> None:
    """Have the jobs planned of workers that announce other kinds, each once a minute at the most.

    Each plan may end versions of all its jobs and begin others. What a worker announces in between is planned by the
    keepers' look over all tests, every minute, as it is then.
    """
    cursor = await connection.execute(
        "UPDATE workers SET replanned_at = now() "
        "WHERE id = ANY(%s) AND (replanned_at IS NULL OR NOT replanned_at BETWEEN now() - %s AND now()) RETURNING id",
        (list(worker_ids), REPLAN_PAUSE),
    )
    for (worker_id,) in await cursor.fetchall():
        await plan_worker_async(connection, worker_id)


def _arrival_row(arrival: Arrival) -> dict[str, Any]:
    peer, hello = arrival.peer, arrival.hello
    version, facts = version_and_facts(peer.worker_id, hello)
    return {
        "id": str(peer.worker_id),
        "serial": peer.serial,
        "version": version,
        "contract": hello.contract_version,
        "instance": clipped(hello.instance_id, 100),
        "boot": clipped(hello.boot_id, 100),
        "facts": facts,
        "policy": _policy(peer.worker_id, hello.policy_json),
        "kinds": _kinds(hello),
        "spool": hello.spool_id,
        "next": hello.next_seq,
        "first": hello.first_unacked_seq or hello.next_seq,
    }


def _kinds(hello: gateway_pb2.Hello) -> dict[str, Any]:
    return {
        clipped(item.kind, 64): {
            "available": item.available,
            "reason": clipped(item.reason, 1000),
            "mend": clipped(item.mend, 1000),
        }
        for item in hello.kinds[:200]
    }


def _policy(worker_id: uuid.UUID, text: str) -> dict[str, Any]:
    """Return the policy that a Hello tells; nothing, and a line in the log, for one that cannot be kept."""
    try:
        if len(text) > _MOST_JSON:
            raise ValueError(f"it has {len(text)} characters; {_MOST_JSON} is the most")
        policy = read_json(text) if text else {}
        # What can just be written by itself could not be among the rest of a Hello, nor with those of others.
        storable_json(policy)
        if not isinstance(policy, dict):
            raise ValueError("it is JSON, but not an object")
    except (ValueError, RecursionError) as error:
        if worker_id not in _told:
            _told.add(worker_id)
            _log.warning(
                "worker %s tells a policy that cannot be shown, and its page shows none: %s; look at what runs on that host",
                worker_id,
                shown(str(error)),
            )
        return {}
    return policy
