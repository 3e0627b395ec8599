"""An installation with thousands of workers and tests and their results of many days, as keepers leave them.

Results are made in the database: one day in the order of its keys, which the product's own code rolls up; the other days
are copies of it and its roll-ups, so every bucket is what rolling up that day would have made. Closed days have the columns,
keys and statistics of rewritten ones; today's lie in the order of time and go on into the next hour, as runs that are due
then are not read yet: so nobody is overdue while pages are measured.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.types.json import Jsonb
from sqlalchemy import Engine
from support.deployment import Deployment

from controller.store import partitions, results, rollups
from controller.store.engine import libpq_url, make_engine
from controller.store.results import ResultColumn
from controller.store.rollups import LAYERS, Source, rolling
from controller.store.upkeep.rewriting import Day
from streamswarm import CONTRACT_VERSION, contract

#: Seconds between the runs of a job, and runs of a day.
INTERVAL_S = 300
RUNS = 86_400 // INTERVAL_S
#: Kinds by the share of the tests that have them, out of ten; the last has rows of its own in each result.
_KINDS = (("ping", 7), ("http", 2), ("dns", 1))
_PATH_KIND, _PATH_JOBS, _HOPS = "traceroute", 20, 12
#: Metrics of a kind that runs have measured.
_MEASURED = 12
_SITES = 50
#: Tests of a whole site each; one is of all workers, the others of one each.
_OF_SITES = 50
_AGE = "40 days"
_AHEAD = dt.timedelta(hours=1)
#: Every so many runs one does not end well.
_BAD_EVERY = 500


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large it is."""

    workers: int
    tests: int
    results: int


@dataclass(frozen=True, kw_only=True)
class Made:
    """What there is."""

    jobs: int
    results: int
    days: int
    bytes: int


def fill(deployment: Deployment, size: Size) -> Made:
    """Fill an empty deployment. Its server is faster meanwhile, and careful again afterwards."""
    url = libpq_url(deployment.settings)
    _set_fast(deployment, fast=True)
    engine = make_engine(deployment.settings, application="bench", statement_timeout_s=3600)
    with psycopg.connect(url) as connection:
        _define(connection, size)
        connection.execute("ANALYZE")
        connection.commit()
        jobs = int(connection.execute("SELECT count(*) FROM jobs").fetchall()[0][0])
    now = dt.datetime.now(dt.UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    days = max(1, round(size.results / (jobs * RUNS)))
    for kind in (*(kind for kind, _ in _KINDS), _PATH_KIND):
        _fill_kind(engine, url, kind, today, today - dt.timedelta(days=days), now)
    engine.dispose()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")
        counted = sum(
            int(connection.execute(f"SELECT count(*) FROM result_{kind}".encode()).fetchall()[0][0])
            for kind, _ in _KINDS
        )
        used = int(connection.execute("SELECT pg_database_size(current_database())").fetchall()[0][0])
    _set_fast(deployment, fast=False)
    return Made(jobs=jobs, results=counted, days=days, bytes=used)


def _set_fast(deployment: Deployment, *, fast: bool) -> None:
    """Have the server care for nothing but speed, or for what it is to care for, from its next start on."""
    wanted = {"fsync": "off", "full_page_writes": "off", "wal_level": "minimal", "max_wal_senders": "0"}
    wanted |= {"max_wal_size": "8GB", "autovacuum": "off", "synchronous_commit": "off"}
    with psycopg.connect(libpq_url(deployment.settings), autocommit=True) as connection:
        for name, value in wanted.items():
            text = f"ALTER SYSTEM SET {name} = '{value}'" if fast else f"ALTER SYSTEM RESET {name}"
            connection.execute(text.encode())
        if not fast:
            connection.execute("CHECKPOINT")
    deployment.server.stop()
    deployment.server.start()


def _define(connection: psycopg.Connection[Any], size: Size) -> None:
    """Make workers, tests, destinations, jobs and what people did to them."""
    kinds = {kind: {"available": True, "reason": "", "mend": ""} for kind in contract.kinds()}
    values = {
        "workers": size.workers,
        "tests": size.tests,
        "destinations": max(1, size.tests // 5),
        "kinds": Jsonb(kinds),
        "contract": CONTRACT_VERSION,
        "facts": Jsonb(
            {"os": "Debian GNU/Linux 13", "kernel": "6.12.48", "processors": 4, "memory_mib": 7936}
        ),
        "sites": _SITES,
        "of_sites": min(_OF_SITES, size.tests // 4),
        "age": _AGE,
        "interval": INTERVAL_S,
    }
    words = [kind for kind, share in _KINDS for _ in range(share)]
    specs = {kind: contract.spec_values(contract.make_spec(kind, {})) for kind in {*words, _PATH_KIND}}
    values |= {"words": words, "specs": Jsonb(specs), "path": _PATH_KIND, "path_jobs": _PATH_JOBS}
    for statement in _STATEMENTS:
        connection.execute(statement.encode(), values)


_STATEMENTS = (
    # Nobody beats for it here.
    "INSERT INTO processes (role, name, host_name, pid, version, heartbeat_at) "
    "VALUES ('gateway', 'gateway-1', 'here', 1, '0', now() + interval '1 day')",
    "INSERT INTO workers (name, host_name, site, labels, groups, version, contract_version, facts, kinds, gateway_id, "
    " connected_at, last_seen_at, enrolled_at, created_at, jobs_revision, jobs_applied, clock_offset_ms) "
    "SELECT name, name, 'site-' || lpad((n %% %(sites)s)::text, 2, '0'), "
    " jsonb_build_object('rack', 'r' || n %% 40, 'role', CASE n %% 3 WHEN 0 THEN 'edge' ELSE 'core' END), "
    " jsonb_build_array('workers', 'zone-' || n %% 9), '0.1.0', %(contract)s, %(facts)s, %(kinds)s, "
    " CASE WHEN n %% 200 = 0 THEN NULL ELSE (SELECT max(id) FROM processes) END, now() - interval '1 hour', now(), "
    " now() - %(age)s::interval, now() - %(age)s::interval, 1, 1, 0.4 "
    "FROM generate_series(1, %(workers)s) n, LATERAL (SELECT 'host-' || lpad(n::text, 5, '0') AS name) named",
    "INSERT INTO certificates (serial, worker_id, not_before, not_after) "
    "SELECT md5(id::text), id, now() - interval '10 days', now() + interval '80 days' FROM workers",
    "INSERT INTO destinations (name, address, tags, created_at) "
    "SELECT 'target-' || lpad(n::text, 5, '0'), 't' || n || '.example.net', '[\"customer\"]', now() - %(age)s::interval "
    "FROM generate_series(1, %(destinations)s) n",
    # The first is of all workers, the next of a site each, then one with paths, the others of one worker each.
    "INSERT INTO tests (name, kind, spec, selection, interval_s, tags, planned_version, created_by, created_at) "
    "SELECT kind || ' ' || lpad(n::text, 5, '0'), kind, %(specs)s::jsonb -> kind, "
    " CASE WHEN n = 1 THEN '{\"all\": true}' "
    "  WHEN n <= %(of_sites)s THEN jsonb_build_object('sites', jsonb_build_array('site-' || lpad((n %% %(sites)s)::text, 2, '0'))) "
    "  WHEN n = %(of_sites)s + 1 THEN jsonb_build_object('workers', (SELECT jsonb_agg(id) FROM "
    "    (SELECT id FROM workers ORDER BY name LIMIT %(path_jobs)s) w)) "
    "  ELSE jsonb_build_object('workers', jsonb_build_array(w.id)) END, "
    " %(interval)s, '[\"customer\"]', 1, 'user:ada', now() - %(age)s::interval "
    "FROM generate_series(1, %(tests)s) n CROSS JOIN LATERAL (SELECT CASE WHEN n = %(of_sites)s + 1 THEN %(path)s "
    " ELSE (%(words)s::text[])[1 + n %% cardinality(%(words)s::text[])] END AS kind) k "
    "JOIN workers w ON w.name = 'host-' || lpad((1 + n %% %(workers)s)::text, 5, '0') ORDER BY n",
    "INSERT INTO test_destinations (test_id, destination_id) "
    "SELECT t.id, 1 + t.id %% (SELECT count(*) FROM destinations) FROM tests t",
    "INSERT INTO jobs (test_id, worker_id, destination_id, kind, target, spec, interval_us, anchor_us, created_at) "
    "SELECT t.id, w.id, d.id, t.kind, d.address, t.spec, t.interval_s * 1000000, 0, t.created_at FROM ("
    "  SELECT t.id AS test_id, w.id AS worker_id FROM tests t CROSS JOIN workers w WHERE t.selection ? 'all' "
    "  UNION ALL SELECT t.id, w.id FROM tests t JOIN workers w ON w.site = t.selection #>> '{sites,0}' "
    "  UNION ALL SELECT t.id, named::uuid FROM tests t, jsonb_array_elements_text(t.selection -> 'workers') named"
    ") pair JOIN tests t ON t.id = pair.test_id JOIN workers w ON w.id = pair.worker_id "
    "JOIN test_destinations td ON td.test_id = t.id JOIN destinations d ON d.id = td.destination_id ORDER BY t.id, w.name",
    "UPDATE jobs SET anchor_us = id * 1000",
    "INSERT INTO job_versions (job_id, version, interval_us, anchor_us, valid_from) "
    "SELECT id, 1, interval_us, anchor_us, created_at FROM jobs",
    "INSERT INTO overdue_jobs (job_id, due_at) "
    "SELECT j.id, now() - interval '2 hours' FROM jobs j ORDER BY j.id DESC LIMIT 40",
    "INSERT INTO audit (at, actor, action, object_type, object_id, detail) "
    "SELECT now() - n * interval '30 s', 'user:ada', 'test.update', 'test', (1 + n %% %(tests)s)::text, '{\"name\": [1, 2]}' "
    "FROM generate_series(1, 20 * %(tests)s) n",
    "INSERT INTO operations (kind, parameters, state, made_by, event_count, created_at, started_at, finished_at) "
    "SELECT 'verify', '{\"limit\": \"\", \"check\": false, \"forks\": 10}', 'succeeded', 'user:ada', 2000, at, at, "
    " at + interval '9 minutes' FROM generate_series(1, 60) n, LATERAL (SELECT now() - n * interval '11 hours' AS at) a",
    "INSERT INTO operation_hosts (operation_id, host, state, task, changed) "
    "SELECT o.id, w.host_name, 'ok', 'Look at the service', 2 FROM operations o "
    "CROSS JOIN (SELECT host_name FROM workers ORDER BY name LIMIT 1000) w",
    "INSERT INTO operation_events (operation_id, sequence, at, host, task, state) "
    "SELECT o.id, n, o.started_at + n * interval '200 ms', 'host-' || lpad((1 + n %% 1000)::text, 5, '0'), 'Look at the service', "
    " 'changed' FROM operations o CROSS JOIN generate_series(1, 2000) n",
)


def _fill_kind(
    engine: Engine, url: str, kind: str, today: dt.datetime, first: dt.datetime, now: dt.datetime
) -> None:
    """Make a kind's results of the days from the first to today, and their roll-ups."""
    sources = rollups.sources(kind)
    days = [first + dt.timedelta(days=number) for number in range((today - first).days)]
    with engine.begin() as connection:
        partitions.ensure_partitions(connection, kind, [*(day.date() for day in days), today.date()])
    for source in sources:
        _make_day(url, source, first)
    rolling.roll_up(engine, kind)
    with ThreadPoolExecutor(2) as pool:
        copies = [pool.submit(_copy_day, url, source, first, day) for source in sources for day in days[1:]]
        for copy in copies:
            copy.result()
    for source in sources:
        _make_today(url, source, today, now + _AHEAD)
        _copy_rollups(url, source, first, [*days[1:], today])


def _measured(source: Source) -> Sequence[ResultColumn]:
    """Return the columns that runs fill, the headline's among them."""
    chosen = sorted(source.metrics, key=lambda column: not (column.metric and column.metric.headline))
    return chosen[:_MEASURED]


def _values(source: Source) -> dict[str, str]:
    """Return the SQL of each column that is filled, of a run `at` of a `job` in its `slot` of a day."""
    noise = "(hashint8(job * 1000003 + slot * 31 + {}) & 65535)"
    bad = f"{noise.format(0)} %% {_BAD_EVERY} = 0"
    values = {"job_id": "job", "scheduled_at": "at"}
    if source.child is None:
        values |= {
            "started_at": "at + interval '150 us'",
            "duration_ms": "12.5",
            "job_version": "1",
            "status": f"CASE WHEN {bad} THEN 2 ELSE 1 END",
            "failure_source": f"CASE WHEN {bad} THEN 1 ELSE 0 END",
            "error": f"CASE WHEN {bad} THEN 'nothing answered within 1 s' END",
        }
    else:
        values["key"] = "hop::text"
    for number, column in enumerate(_measured(source), 1):
        some = noise.format(number)
        value = {"bool": f"{some} > 3000", "float8": f"5 + {some}::float8 / 4096"}.get(
            column.type, f"{some} %% 50"
        )
        values[column.name] = f"CASE WHEN NOT {bad} THEN {value} END" if source.child is None else value
    return values


def _select(source: Source, columns: Sequence[str], order: str) -> str:
    """Return the SQL of a day's rows; its values are `kind`, `day`, `first` and `last` slot."""
    values = _values(source)
    hops = "" if source.child is None else f"CROSS JOIN generate_series(1, {_HOPS}) hop "
    return (
        f"SELECT {', '.join(values.get(name, 'NULL') for name in columns)} "
        "FROM (SELECT id AS job FROM jobs WHERE kind = %(kind)s) j "
        "CROSS JOIN generate_series(%(first)s::int, %(last)s::int) AS slot "
        f"{hops}CROSS JOIN LATERAL (SELECT %(day)s::timestamptz + slot * interval '{INTERVAL_S} s' + job * interval '1 ms' AS at) i "
        f"ORDER BY {order}"
    )


def _make_day(url: str, source: Source, day: dt.datetime) -> None:
    """Make the results of a whole day, in the order of their keys, in the form of a rewritten day."""
    order = "job, slot" if source.child is None else "job, slot, hop::text"
    _rewritten(
        url,
        Day(table=source.table, day=day.date()),
        lambda columns: _select(source, columns, order),
        {"kind": source.kind, "day": day, "first": 0, "last": RUNS - 1},
    )


def _copy_day(url: str, source: Source, first: dt.datetime, day: dt.datetime) -> None:
    """Make a day as a copy of the first."""
    later = f" + interval '{(day - first).days} days'"
    name = partitions.partition_name(source.table, first.date())
    shifted = ("scheduled_at", "started_at")

    def select(columns: Sequence[str]) -> str:
        chosen = (f'"{column}"{later if column in shifted else ""}' for column in columns)
        return f"SELECT {', '.join(chosen)} FROM {name}"

    _rewritten(url, Day(table=source.table, day=day.date()), select, {})


def _rewritten(url: str, day: Day, select: Any, values: dict[str, Any]) -> None:
    """Put a day, as rewriting leaves one, in the place of its empty partition."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET work_mem = '512MB'; SET maintenance_work_mem = '512MB'")
        found = connection.execute(
            "SELECT attname, attnotnull FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 "
            "AND NOT attisdropped ORDER BY attnum",
            (day.name,),
        ).fetchall()
        columns = results.reading_order([name for name, _ in found])
        filled = [name for name, always in found if always]
        names = ", ".join(f'"{column}"' for column in columns)
        with connection.transaction():
            for statement in (
                f"CREATE TABLE {day.new} AS SELECT {names} FROM {day.name} WITH NO DATA",
                f"ALTER TABLE {day.new} " + ", ".join(f'ALTER "{name}" SET NOT NULL' for name in filled),
            ):
                connection.execute(statement.encode())
            connection.execute(f"INSERT INTO {day.new} {select(columns)}".encode(), values or None)
            for statement in (
                f"ALTER TABLE {day.new} ADD PRIMARY KEY {day.key_clause}",
                f"ALTER TABLE {day.table} DETACH PARTITION {day.name}",
                f"DROP TABLE {day.name}",
                f"ALTER TABLE {day.new} RENAME TO {day.name}",
                f"ALTER INDEX {day.new}_pkey RENAME TO {day.name}_pkey",
                partitions.attachment(day.table, day.day),
            ):
                connection.execute(statement.encode())
            connection.execute(
                "INSERT INTO rewritten_partitions (name, attempt, rewritten_at, row_count, size_bytes) "
                "VALUES (%(name)s, 1, now(), 0, pg_relation_size(to_regclass(%(name)s)))",
                {"name": day.name},
            )
        connection.execute(f"VACUUM (FREEZE, ANALYZE) {day.name}".encode())


def _make_today(url: str, source: Source, today: dt.datetime, until: dt.datetime) -> None:
    """Make today's results until an instant, in the order of time."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET work_mem = '512MB'")
        columns = list(_values(source))
        last = min(RUNS - 1, int((until - today).total_seconds()) // INTERVAL_S)
        order = "slot, job" if source.child is None else "slot, job, hop::text"
        connection.execute(
            f"INSERT INTO {source.table} ({', '.join(columns)}) {_select(source, columns, order)}".encode(),
            {"kind": source.kind, "day": today, "first": 0, "last": last},
        )


def _copy_rollups(url: str, source: Source, first: dt.datetime, days: Sequence[dt.datetime]) -> None:
    """Make the roll-ups of the other days, as far as the frontiers are, from those of the first."""
    names = [name for name, _ in rollups.columns(source)]
    with psycopg.connect(url, autocommit=True) as connection:
        for of in LAYERS:
            table = rollups.table_name(source, of)
            with connection.transaction():
                for day in days:
                    later = f"bucket + interval '{(day - first).days} days'"
                    chosen = ", ".join(later if name == "bucket" else name for name in names)
                    connection.execute(
                        f"INSERT INTO {table} ({', '.join(names)}) SELECT {chosen} FROM {table} "
                        "WHERE bucket >= %(first)s AND bucket < %(first)s + interval '1 day' "
                        f"AND {later} + %(width)s <= (SELECT done_until FROM rollup_frontiers "
                        "WHERE kind = %(kind)s AND layer = %(layer)s) ORDER BY job_id, bucket".encode(),
                        {"first": first, "width": of.width, "kind": source.kind, "layer": of.name},
                    )
