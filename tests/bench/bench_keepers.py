"""What background work costs, by the clocks of processors: of the keeper and of the database, for one of everything.

100,000 jobs on 5,000 workers. What a keeper's tasks do is called here, one after the other, and the CPU time that this
process and PostgreSQL's use meanwhile is counted, so it matters little what else the machine does. The peer is what it
costs to take a result in that comes by itself, as results of few jobs do: read, stored, acknowledged, in gateway and
database together. The value is what keepers and database do for that result later: it is scored, rolled up, and its day
rewritten. SWARM_WORKERS sets another size.
"""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import psutil
import psycopg
from bench.swarm.swarm import Swarm
from bench.swarm.world import World, cpu_s, populated
from sqlalchemy import Engine, text

from controller.keeper import freshness, plan
from controller.keeper.diagnose import diagnose
from controller.store import health, results
from controller.store.engine import libpq_url, make_engine
from controller.store.rollups import rolling
from controller.store.rollups.rolling import Rolled
from controller.store.upkeep import rewriting
from controller.store.upkeep.rewriting import Day

WORKERS = int(os.environ.get("SWARM_WORKERS", "5000"))
TESTS = 20
#: Workers that deliver results one by one, and how many a second all together: at leisure, and as a gateway is meant to.
DELIVERING, RESULTS_PER_S = 1_000, (150.0, 500.0)
DELIVERING_S = 15.0
#: Jobs with results: of an hour that is rolled up and rewritten, and those that were learnt from.
ROLLED_JOBS, LEARNT_JOBS = 2_000, 500
LEARNT_RUNS = 200
IDLE_S = 30.0
GOAL = 1.0
_CONNECT_S = 60.0


@dataclass
class Spent:
    """Milliseconds of a processor: of the controller's process, and of the database for it."""

    process: float = 0.0
    database: float = 0.0

    def each(self, count: float) -> Spent:
        """For one of so many."""
        return Spent(process=self.process / count, database=self.database / count)

    def __sub__(self, other: Spent) -> Spent:
        """What remains without something else."""
        return Spent(process=self.process - other.process, database=self.database - other.database)

    @property
    def both(self) -> float:
        """Together."""
        return self.process + self.database

    @property
    def shown(self) -> tuple[float, float]:
        """As the line of figures has it."""
        return round(self.process, 4), round(self.database, 4)


@contextmanager
def metered(world: World, process: psutil.Process | None = None) -> Iterator[Spent]:
    """Count what a process (this one) and the database use."""
    process = process or psutil.Process()
    spent = Spent()
    own, database = cpu_s(process), world.database_cpu_s()
    yield spent
    spent.process = 1000 * (cpu_s(process) - own)
    spent.database = 1000 * (world.database_cpu_s() - database)


def taken_in(world: World) -> list[Spent]:
    """What a result costs that comes in a batch of its own, at each of the two paces."""
    process, address = world.deployment.start_gateway()
    gateway = psutil.Process(process.pid)
    members = world.members[:DELIVERING]
    found = []
    with Swarm(members, gateways=[address], folder=world.deployment.folder, processes=2) as swarm:
        swarm.start()
        swarm.wait_open(_CONNECT_S)
        time.sleep(2.0)
        with metered(world, gateway) as waiting:
            time.sleep(DELIVERING_S)
        for pace in RESULTS_PER_S:
            swarm.rate(pace)
            time.sleep(2.0)
            before = swarm.produced()
            with metered(world, gateway) as busy:
                time.sleep(DELIVERING_S)
            found.append((busy - waiting).each(swarm.produced() - before))
        swarm.rate(0)
        swarm.wait_delivered(_CONNECT_S)
    process.terminate()
    process.wait(30)
    world.deployment.sql("TRUNCATE result_ping")
    return found


def idle() -> Spent:
    """What a keeper with one job uses in a second, and the database for it."""
    with populated(1, tests=1) as world:
        keeper = world.keeper()
        time.sleep(10.0)
        with metered(world, keeper) as spent:
            time.sleep(IDLE_S)
    return spent.each(IDLE_S)


def planned(world: World, engine: Engine) -> tuple[Spent, Spent]:
    """What each job of a new test on all workers costs, and each that the minute's look finds as it should be."""
    with engine.begin() as connection:
        ((test,),) = connection.execute(
            text(
                "WITH t AS (INSERT INTO tests (name, kind, spec, interval_s) SELECT 'new', kind, spec, 60 FROM tests "
                "LIMIT 1 RETURNING id), d AS (INSERT INTO test_destinations (test_id, destination_id) "
                "SELECT t.id, d.id FROM t, (SELECT min(id) AS id FROM destinations) d) SELECT id FROM t"
            )
        ).all()
    with metered(world) as making:
        assert plan.plan_tests(engine, [test]) == WORKERS
    with metered(world) as looking:
        assert plan.plan_everything(engine) == 0
    with engine.begin() as connection:
        for statement in (
            "DELETE FROM job_versions WHERE job_id IN (SELECT id FROM jobs WHERE test_id = :test)",
            "DELETE FROM jobs WHERE test_id = :test",
            "DELETE FROM tests WHERE id = :test",
        ):
            connection.execute(text(statement), {"test": test})
    return making.each(WORKERS), looking.each(WORKERS * (TESTS + 1))


def _age(engine: Engine) -> None:
    """Let everything have been there for some hours: nothing is due before its test was made."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE tests SET created_at = created_at - interval '3 h'"))
        connection.execute(text("UPDATE jobs SET anchor_us = anchor_us - 10800000000 WHERE cron = ''"))


def looked_at(world: World, engine: Engine) -> tuple[Spent, Spent]:
    """What a look for jobs that do not deliver costs for each that was due, all of them: by interval, and by cron."""
    _age(engine)
    with engine.begin() as connection:
        gateway = health.register_process(connection, "gateway", "bench")
        connection.execute(
            text(
                "UPDATE workers SET gateway_id = :gateway, connected_at = now() - interval '1 h', spool_records = 0"
            ),
            {"gateway": gateway},
        )
        connection.execute(
            text(
                "INSERT INTO job_versions (job_id, version, valid_from, interval_us, anchor_us, cron, zone, windows, paused) "
                "SELECT id, version, now() - interval '1 h', interval_us, anchor_us, cron, zone, windows, paused FROM jobs"
            )
        )
        connection.execute(text(_results("now() + interval '10 min'", jobs=WORKERS * TESTS, runs=1)))
    _analyse(world)
    found = []
    for cron in (False, True):
        if cron:
            with engine.begin() as connection:
                connection.execute(
                    text("UPDATE tests SET cron = '* * * * *', interval_s = NULL, zone = 'UTC'")
                )
            assert plan.plan_everything(engine) == WORKERS * TESTS
            with engine.begin() as connection:
                connection.execute(text("UPDATE job_versions SET valid_from = valid_from - interval '2 h'"))
            _analyse(world)
        for _ in range(2):  # the first look works out what the hour's schedules are
            with engine.begin() as connection:
                connection.execute(text("DELETE FROM marks"))
                connection.execute(
                    text("INSERT INTO marks (name, until) VALUES ('freshness', now() - interval '90 s')")
                )
            with metered(world) as spent:
                seen = freshness.look(engine)
        assert seen.noticed == 0
        assert seen.due > 0.9 * WORKERS * TESTS, seen
        found.append(spent.each(seen.due))
    return found[0], found[1]


def scored(world: World, engine: Engine) -> dict[str, Spent]:
    """What a run costs that is scored by itself, one of ten, one that is learnt from first, and a round without any."""
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE result_ping"))
        connection.execute(
            text(
                "INSERT INTO diagnosis_states (job_id, looked_at) SELECT id, now() + interval '1 day' FROM jobs "
                "ON CONFLICT (job_id) DO UPDATE SET looked_at = excluded.looked_at"
            )
        )
        connection.execute(
            text(_results(f"now() - interval '{LEARNT_RUNS + 20} min'", jobs=LEARNT_JOBS, runs=LEARNT_RUNS))
        )
    _analyse(world)
    diagnose(engine)  # what it imports
    with metered(world) as nothing:
        assert diagnose(engine).jobs == 0
    found = {"round": nothing}
    for name, first, runs in (("learning", 0, 0), ("one", LEARNT_RUNS, 1), ("ten", LEARNT_RUNS + 1, 10)):
        start = f"now() - interval '{LEARNT_RUNS + 20 - first} min'"
        with engine.begin() as connection:
            if runs:
                connection.execute(text(_results(start, jobs=LEARNT_JOBS, runs=runs)))
            connection.execute(
                text(
                    "UPDATE diagnosis_states SET looked_at = now() - interval '2 min' WHERE job_id IN "
                    f"(SELECT id FROM jobs ORDER BY id LIMIT {LEARNT_JOBS})"
                )
            )
        with metered(world) as spent:
            done = diagnose(engine, round_s=60.0)
        assert done.jobs == LEARNT_JOBS
        assert done.runs == LEARNT_JOBS * (runs or LEARNT_RUNS)
        found[name] = (spent - nothing).each(done.runs)
    return found


def rolled_up(world: World, engine: Engine) -> Spent:
    """What rolling up costs for each result of an hour, every five minutes as keepers do it; jobs run once a minute."""
    begin = dt.datetime.combine(dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1), dt.time(10), dt.UTC)
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE result_ping, rollup_frontiers"))
        connection.execute(text(_results(f"timestamptz '{begin.isoformat()}'", jobs=ROLLED_JOBS, runs=60)))

    def until(minutes: float) -> Rolled:
        horizon = begin + dt.timedelta(minutes=minutes)
        with mock.patch.object(rolling, "horizon_of", return_value=horizon):
            return rolling.roll_up(engine, "ping")

    until(1.0)
    _analyse(world)
    with metered(world) as spent:
        assert sum(until(minutes + 1.0).steps for minutes in range(5, 61, 5)) == 13
    return spent.each(60 * ROLLED_JOBS)


def rewritten(world: World) -> Spent:
    """What it costs to put a day into the order of its key, for each result."""
    engine = make_engine(world.deployment.settings, application="bench", statement_timeout_s=3600)
    yesterday = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
    with metered(world) as spent:
        done = rewriting.rewrite(engine, Day(table="result_ping", day=yesterday))
    engine.dispose()
    return spent.each(done.rows)


def _results(start: str, *, jobs: int, runs: int) -> str:
    """SQL that stores quiet results of the first jobs, a run a minute, in the order of time."""
    values = {
        "job_id": "j.id",
        "scheduled_at": f"{start} + minute * interval '1 minute' + j.number * interval '1 us'",
        "started_at": f"{start} + minute * interval '1 minute'",
        "job_version": "1",
        "status": "1",
        "failure_source": "0",
        "failure_reason": "NULL",
        "duration_ms": "402.5",
    }
    for column in results.columns("ping"):
        if column.metric is not None:
            noise = {"float8": "10 + random()", "bool": "true"}.get(column.type, "20")
            values[column.name] = "0" if column.metric.role == "loss" else noise
    return (
        f"INSERT INTO result_ping ({', '.join(values)}) SELECT {', '.join(values.values())} "
        f"FROM generate_series(0, {runs - 1}) AS minute, "
        f"(SELECT id, row_number() OVER (ORDER BY id) AS number FROM jobs ORDER BY id LIMIT {jobs}) j "
        "ORDER BY minute, j.id"
    )


def _analyse(world: World) -> None:
    with psycopg.connect(libpq_url(world.deployment.settings), autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")


def measure() -> dict[str, Any]:
    """One after the other, in one installation; the idle keeper in one of its own."""
    waiting = idle()
    with populated(WORKERS, tests=TESTS) as world:
        peer, busy_peer = taken_in(world)
        engine = make_engine(world.deployment.settings, application="streamswarm-keeper", pool_size=6)
        made, planning = planned(world, engine)
        interval, cron = looked_at(world, engine)
        diagnosis = scored(world, engine)
        rolling_up = rolled_up(world, engine)
        engine.dispose()
        rewriting_ = rewritten(world)
    value = diagnosis["one"].both + rolling_up.both + rewriting_.both
    return {
        "value": round(value, 3),
        "unit": "ms of a processor for each result in the background",
        "peer": "taking the result in by itself, gateway and database",
        "peer_value": round(peer.both, 3),
        "ratio": round(value / peer.both, 2),
        "goal": f"<= {GOAL:g}",
        "ok": value / peer.both <= GOAL,
        "jobs": WORKERS * TESTS,
        "taken_in_ms": peer.shown,
        "taken_in_busy_ms": busy_peer.shown,
        "scored_ms": diagnosis["one"].shown,
        "scored_of_ten_ms": diagnosis["ten"].shown,
        "learnt_ms": diagnosis["learning"].shown,
        "round_ms": diagnosis["round"].shown,
        "rolled_up_ms": rolling_up.shown,
        "rewritten_ms": rewriting_.shown,
        "planned_ms": made.shown,
        "plan_look_ms": planning.shown,
        "freshness_ms": interval.shown,
        "freshness_cron_ms": cron.shown,
        "idle_ms_per_s": waiting.shown,
    }
