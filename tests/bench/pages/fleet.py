"""Thousands of workers as they are after some months: most connected and well, some not."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from support.deployment import Member

from streamswarm import CONTRACT_VERSION, contract

_SITES = ("ams", "fra", "lon", "nyc", "par", "sfo", "sin", "syd", "tyo", "waw")
_ROLES = ("edge", "core", "access")
#: Kinds that hosts without raw sockets cannot run.
_RAW = ("mtu", "qos", "traceroute")
#: Workers of the beginning that all is well with.
PLAIN = 32
_UPDATE = """
    UPDATE workers w SET site = f.site, labels = f.labels, groups = f.groups, version = %(version)s,
        contract_version = CASE WHEN f.pending THEN 0 ELSE %(contract)s END,
        facts = CASE WHEN f.pending THEN '{}' ELSE f.facts END, policy = '{"allow_private": true, "max_jobs": 1000}',
        kinds = CASE WHEN f.pending THEN '{}' ELSE f.kinds END, spool_id = CASE WHEN f.pending THEN '' ELSE f.spool END,
        gateway_id = CASE WHEN f.connected THEN %(gateway)s::bigint END,
        connected_at = CASE WHEN NOT f.pending THEN %(now)s - interval '3 days' END,
        disconnected_at = CASE WHEN NOT f.connected AND NOT f.pending THEN f.heard_until END,
        last_seen_at = CASE WHEN f.connected THEN %(now)s WHEN NOT f.pending THEN f.heard_until END,
        enrolled_at = CASE WHEN NOT f.pending THEN %(now)s - interval '100 days' END,
        created_at = %(now)s - interval '101 days', revoked_at = CASE WHEN f.revoked THEN f.heard_until END,
        spool_alarm = f.spool_alarm, vantage_alarm = f.vantage_alarm, clock_offset_ms = f.clock_offset_ms,
        spool_records = f.spool_records
    FROM jsonb_to_recordset(%(rows)s) AS f (id uuid, site text, labels jsonb, groups jsonb, facts jsonb, kinds jsonb, spool text,
        pending boolean, connected boolean, revoked boolean, heard_until timestamptz, spool_alarm text, vantage_alarm text,
        clock_offset_ms float8, spool_records bigint)
    WHERE w.id = f.id
"""


def make_fleet(connection: psycopg.Connection[Any], members: Sequence[Member], now: dt.datetime) -> None:
    """Give the enrolled workers their sites, states and troubles, and the controller its processes."""
    gateway = _processes(connection, now)
    for start in range(0, len(members), 500):
        rows = [
            _row(number, members[number].worker_id, now)
            for number in range(start, start + 500)[: len(members) - start]
        ]
        values = {
            "version": version("streamswarm"),
            "contract": CONTRACT_VERSION,
            "gateway": gateway,
            "now": now,
        }
        connection.execute(_UPDATE.encode(), {**values, "rows": Jsonb(rows)})
    connection.execute(
        "INSERT INTO drains (worker_id, since, made_by) SELECT id, disconnected_at, 'user:ada' FROM workers "
        "WHERE disconnected_at IS NOT NULL AND revoked_at IS NULL AND labels ->> 'rack' = '13'"
    )
    connection.execute(
        "INSERT INTO backlogs (worker_id, least, since) SELECT id, spool_records, %s FROM workers WHERE spool_records > 500",
        (now - dt.timedelta(hours=2),),
    )
    connection.execute(
        "INSERT INTO worker_releases (worker_id, since, version) SELECT id, %(now)s - age * interval '40 days', release "
        "FROM workers, (VALUES (1, %(version)s), (2, '0.9.0')) known (age, release) WHERE enrolled_at IS NOT NULL",
        {"now": now, "version": version("streamswarm")},
    )
    connection.execute("UPDATE certificates SET first_used_at = not_before")


def _processes(connection: psycopg.Connection[Any], now: dt.datetime) -> int:
    """Nobody beats for gateway and keeper here: they stay alive for as long as the benchmark may take."""
    rows = connection.execute(
        "INSERT INTO processes (role, name, host_name, pid, version, started_at, heartbeat_at) "
        "SELECT role, role || '-1', 'controller', 1, %s, %s, now() + interval '1 day' "
        "FROM unnest(ARRAY['gateway', 'keeper']) AS role ORDER BY role RETURNING id",
        (version("streamswarm"), now - dt.timedelta(days=3)),
    ).fetchall()
    return int(rows[0][0])


def _row(number: int, worker_id: uuid.UUID, now: dt.datetime) -> dict[str, Any]:
    odd = number if number >= PLAIN else 0
    offline, drained = odd % 50 == 7, odd % 100 == 63
    revoked, pending = odd % 1000 == 114, odd % 1000 == 115
    heard_until = now - dt.timedelta(minutes=20 + number % 300)
    raw = odd % 40 != 3
    return {
        "id": str(worker_id),
        "site": f"{_SITES[number % 10]}{1 + number // 10 % 4}",
        "labels": {
            "rack": "13" if drained else str(20 + number % 40),
            "role": _ROLES[number % 3],
            "tier": str(1 + number % 4),
        },
        "groups": [_ROLES[number % 3], f"ring{number % 8}"],
        "facts": _facts(number),
        "kinds": {kind: _ability(kind, raw=raw) for kind in contract.kinds()},
        "spool": uuid.UUID(int=number + 1).hex,
        "pending": pending,
        "connected": not (offline or drained or revoked or pending),
        "revoked": revoked,
        "heard_until": heard_until.isoformat(),
        "spool_alarm": "its disk is full; results are being dropped, the oldest first"
        if odd % 500 == 205
        else "",
        "vantage_alarm": "its default route is gone" if odd % 400 == 209 else "",
        "clock_offset_ms": 7_300.0 if odd % 300 == 106 else (number % 17 - 8) / 4,
        "spool_records": 20_000 if odd % 250 == 111 else 0,
    }


def _facts(number: int) -> dict[str, Any]:
    return {
        "host_name": f"host-{number:05}",
        "os": "Debian GNU/Linux 12 (bookworm)",
        "kernel": "6.1.0-28-amd64",
        "architecture": "x86_64",
        "python": "3.11.2",
        "cpu_count": 4,
        "memory_bytes": 8 << 30,
        "addresses": [f"10.{number // 250}.{number % 250}.1", f"2001:db8::{number:x}"],
        "open_files_max": 65536,
    }


def _ability(kind: str, *, raw: bool) -> dict[str, Any]:
    if raw or kind not in _RAW:
        return {"available": True, "reason": "", "mend": ""}
    return {
        "available": False,
        "reason": "raw sockets are not permitted",
        "mend": "setcap cap_net_raw+ep /opt/streamswarm/bin/python",
    }
