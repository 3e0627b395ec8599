"""What else there is after some months: people, tokens, operations on the fleet, the audit log, reports, refused results."""

from __future__ import annotations

import datetime as dt
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

#: Hosts of the largest operation.
LARGEST = 1000
_USERS, _TOKENS, _OPERATIONS, _REPORTS, _REFUSED = 200, 500, 300, 100, 400
_EVENTS_OF_HOST = 5
_FIGURES = [
    {
        "kind": "ping",
        "where": f"host-{number:05} to gate-0001.example.net",
        "quantity": "RTT average",
        "unit": "ms",
        "before": 10.0 + number,
        "after": 10.2 + number,
        "others": 40,
        "others_before": 11.0,
        "others_after": 11.1,
        "worse": number == 7,
    }
    for number in range(30)
]


def make_records(connection: psycopg.Connection[Any], now: dt.datetime, *, audited: int) -> None:
    """Make them, and so many entries of the audit log."""
    _make_people(connection, now)
    _make_operations(connection, now)
    _make_audit(connection, now, audited)
    connection.execute(
        "INSERT INTO reports (state, title, request, made_by, attempt, file, size, sha256, created_at, finished_at, expires_at) "
        "SELECT 'ready', 'Report ' || n, jsonb_build_object('tests', jsonb_build_array(n), 'from', %(now)s - interval '1 day', "
        "'to', %(now)s), 'user:ada', 1, '\\x25504446', 4, repeat('0', 64), %(now)s - n * interval '1 h', %(now)s - n * interval '1 h', "
        "%(now)s + interval '7 days' FROM generate_series(1, %(reports)s) n",
        {"now": now, "reports": _REPORTS},
    )
    connection.execute(
        "INSERT INTO quarantine (worker_id, spool_id, seq, received_at, reason, payload) "
        "SELECT w.id, w.spool_id, n, %(now)s - n * interval '1 min', 'rtt_avg_ms is no number', '\\x00' "
        "FROM (SELECT * FROM workers ORDER BY name LIMIT 1) w, generate_series(1, %(refused)s) n",
        {"now": now, "refused": _REFUSED},
    )


def _make_people(connection: psycopg.Connection[Any], now: dt.datetime) -> None:
    connection.execute(
        "INSERT INTO users (name, email, role, password_hash, created_at, last_login_at) "
        "SELECT 'person-' || n, 'person-' || n || '@example.net', (ARRAY['viewer', 'operator'])[1 + n %% 2], 'nobody logs in', "
        "%(now)s - interval '90 days', %(now)s - n * interval '1 h' FROM generate_series(1, %(users)s) n",
        {"now": now, "users": _USERS},
    )
    connection.execute(
        "INSERT INTO api_tokens (name, description, scope, token_hash, prefix, user_id, created_at, expires_at, last_used_at) "
        "SELECT 'token-' || row_number() OVER (), 'For a script.', 'viewer', sha256((u.name || n)::bytea), 'ss_' || left(md5(u.name || n), 6), "
        "u.id, %(now)s - interval '60 days', %(now)s + interval '300 days', %(now)s - n * interval '1 h' "
        "FROM generate_series(1, 1 + %(tokens)s / %(users)s) n, users u ORDER BY n, u.id LIMIT %(tokens)s",
        {"now": now, "tokens": _TOKENS, "users": _USERS},
    )


def _make_operations(connection: psycopg.Connection[Any], now: dt.datetime) -> None:
    """Operations of some hosts each, and an upgrade of a thousand with its parts, its judgement and its events."""
    values = {
        "now": now,
        "operations": _OPERATIONS,
        "largest": LARGEST,
        "events": _EVENTS_OF_HOST,
        "figures": Jsonb(_FIGURES),
    }
    connection.execute(
        "INSERT INTO operations (kind, parameters, state, made_by, event_count, created_at, started_at, beat_at, finished_at) "
        "SELECT (ARRAY['provision', 'verify', 'restart', 'drain', 'resume', 'rotate'])[1 + n %% 6], "
        """jsonb_build_object('limit', 'ring' || n %% 8, 'check', false, 'forks', 10, 'options', '{}'::jsonb), """
        "CASE WHEN n %% 20 = 7 THEN 'failed' ELSE 'succeeded' END, 'user:ada', 60, at, at, at + interval '4 min', at + interval '4 min' "
        "FROM generate_series(%(operations)s, 1, -1) n, LATERAL (SELECT %(now)s - n * interval '6 h' AS at) i",
        values,
    )
    connection.execute(
        "INSERT INTO operations (kind, parameters, state, made_by, event_count, created_at, started_at, beat_at, finished_at) "
        """SELECT 'upgrade', '{"limit": "", "check": false, "forks": 50, "options": {"release": "1.0.0"}}', """
        "'succeeded', 'user:ada', %(events)s * %(largest)s, at, at, at + interval '2 h', at + interval '2 h' "
        "FROM (SELECT %(now)s - interval '5 h' AS at) i",
        values,
    )
    connection.execute(
        "INSERT INTO operations (kind, part_of, parameters, state, made_by, created_at, started_at, beat_at, finished_at, figures) "
        "SELECT (ARRAY['provision', 'judge'])[1 + n %% 2], (SELECT max(id) FROM operations WHERE kind = 'upgrade'), "
        """'{"limit": "ring1", "check": false, "forks": 50, "options": {}}', 'succeeded', 'user:ada', at, at, at, at, """
        "CASE WHEN n %% 2 = 1 THEN %(figures)s ELSE '[]'::jsonb END "
        "FROM generate_series(1, 30) n, LATERAL (SELECT %(now)s - interval '5 h' + n * interval '3 min' AS at) i",
        values,
    )
    connection.execute(
        "INSERT INTO operation_hosts (operation_id, host, state, task, changed, message, updated_at) "
        "SELECT o.id, w.host_name, CASE WHEN o.state = 'failed' AND w.nth = 3 THEN 'failed' ELSE 'ok' END, 'Start the worker', 3, '', o.finished_at "
        "FROM operations o JOIN LATERAL (SELECT host_name, row_number() OVER (ORDER BY name) AS nth FROM workers ORDER BY name "
        "LIMIT CASE WHEN o.kind = 'upgrade' THEN %(largest)s ELSE 20 END) w ON true",
        values,
    )
    connection.execute(
        "INSERT INTO operation_events (operation_id, sequence, at, host, task, state, message) "
        "SELECT h.operation_id, row_number() OVER (PARTITION BY h.operation_id ORDER BY task.nth, h.host), h.updated_at, h.host, task.name, "
        "'changed', '' FROM operation_hosts h, unnest(ARRAY['Fetch the release', 'Unpack it', 'Write its unit', 'Point at it', "
        "'Start the worker']) WITH ORDINALITY task (name, nth) WHERE task.nth <= %(events)s",
        values,
    )


def _make_audit(connection: psycopg.Connection[Any], now: dt.datetime, entries: int) -> None:
    connection.execute(
        "INSERT INTO audit (at, actor, address, action, object_type, object_id, detail) "
        "SELECT %(now)s - (%(entries)s - n) * interval '90 days' / %(entries)s, 'user:person-' || 1 + n %% 200, '198.51.100.' || n %% 250, "
        "a.type || '.' || a.verb, a.type, (1 + n %% 5000)::text, "
        "jsonb_build_object('name', 'thing ' || n, 'interval_s', jsonb_build_object('from', 60, 'to', 300)) "
        "FROM generate_series(1, %(entries)s) n JOIN (VALUES (0, 'test', 'update'), (1, 'test', 'create'), (2, 'destination', 'update'), "
        "(3, 'operation', 'create'), (4, 'user', 'login'), (5, 'token', 'create'), (6, 'report', 'create'), (7, 'settings', 'update')) "
        "a (nth, type, verb) ON a.nth = n %% 8 ORDER BY n",
        {"now": now, "entries": entries},
    )
