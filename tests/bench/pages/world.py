"""An installation of thousands of workers and tests with the results of months, as the product would have left it.

What pages read is made by the product's own code where that can be done for so much: plans, roll-ups and diagnosis of some lines,
from which the others are copied. Results reach an hour ahead of the clock and come to light with it, so that nothing falls silent
while pages are measured.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import psycopg
from bench.pages import copies, days, lines, once, patterns
from bench.pages.definitions import Definitions, Maker
from bench.pages.fleet import make_fleet
from bench.pages.records import make_records
from support.deployment import Deployment

from controller.keeper.diagnose import diagnose
from controller.store import results
from controller.store.engine import libpq_url, make_engine
from controller.store.rollups import rolling

AHEAD = dt.timedelta(hours=1)
#: The days that results are kept for unless somebody says otherwise; what a few lines have in them may be such a share of all.
DAYS, _OLD_SHARE = 90, 0.1
#: So long the patterns go back from which others are copied.
RECENT_DAYS = 8
_FEWEST_DAYS = 2
#: Results of the last hour came after the day was last analysed.
_LATELY = dt.timedelta(hours=1)
_AUDITED_PER_TEST = 20
_AT_EASE = ("fsync = off", "full_page_writes = off", "max_wal_size = '16GB'", "autovacuum = off")


@dataclass(kw_only=True)
class Filled:
    """What there is."""

    definitions: Definitions
    #: Results of runs, those of the hour ahead among them.
    rows: int = 0
    jobs: int = 0
    partitions: int = 0
    #: Until then there are results.
    until: dt.datetime
    #: What each step of filling took.
    seconds: dict[str, float] = field(default_factory=dict)


def fill(deployment: Deployment, *, workers: int, tests: int, rows: int) -> Filled:
    """Fill an installation."""
    seconds: dict[str, float] = {}
    settings = deployment.settings
    with _timed(seconds, "workers"):
        members = deployment.make_workers(workers)
    now = dt.datetime.now(dt.UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    end = now + AHEAD
    engine = make_engine(settings, application="bench", statement_timeout_s=3600, idle_in_transaction_s=3600)
    with _at_ease(deployment), psycopg.connect(libpq_url(settings), autocommit=True) as connection:
        with _timed(seconds, "definitions"):
            make_fleet(connection, members, now)
            back = _days_back(rows)
            definitions = Maker(
                connection, [member.worker_id for member in members], now=now, days=back
            ).make(tests)
            make_records(connection, now, audited=_AUDITED_PER_TEST * tests)
            lines.plan_tests(engine, connection, list(definitions.patterns.values()), now=now)
        first_day = today - dt.timedelta(days=back)
        with _timed(seconds, "partitions"):
            known = days.days_until(now, back=back, end=end)
            days.lay_out(engine, known)
        with _timed(seconds, "patterns"):
            watched = lines.pattern_lines(connection)
            recent = max(first_day, today - dt.timedelta(days=RECENT_DAYS))
            long = [line for line in watched if line.place < lines.LONG]
            stored = patterns.store(settings, long, first_day, recent, now=now)
            stored += patterns.store(settings, watched, recent, now, now=now)
            connection.execute("VACUUM (ANALYZE)")
        with _timed(seconds, "roll_ups"), ThreadPoolExecutor(days.AT_ONCE) as pool:
            list(pool.map(lambda kind: rolling.roll_up(engine, kind), results.kinds()))
        with _timed(seconds, "diagnosis"):
            diagnose(engine, round_s=600)
        stored += patterns.store(settings, watched, now, end, now=now)
        with _timed(seconds, "jobs"):
            lines.plan_tests(
                engine,
                connection,
                sorted(
                    {test.id for test in definitions.tests}
                    - set(definitions.patterns.values())
                    - set(definitions.once)
                ),
                now=now,
            )
            others = lines.other_lines(connection, watched, now=now)
            wanted = max(0, rows - stored)
            lines.note(
                connection,
                watched,
                others,
                rows=wanted,
                first_day=first_day,
                recent=recent,
                today=today,
                end=end,
            )
        with _timed(seconds, "results"):
            stored += copies.copy_over(settings, known)
            fresh = dt.datetime.combine(known.fresh[0], dt.time(), dt.UTC)
            stored += copies.copy_fresh(settings, fresh, now - _LATELY)
        with _timed(seconds, "rolled_copies"):
            copies.copy_rollups(settings)
            copies.roll_up_ends(engine, settings)
            copies.copy_states(settings)
            stored += once.run_once(engine, connection, definitions.once)
        with _timed(seconds, "vacuum"):
            days.settle(settings, known)
            days.analyse_fresh(settings, known)
            _vacuum_rest(connection)
        with _timed(seconds, "last_hours"):
            stored += copies.copy_fresh(settings, max(fresh, now - _LATELY), end)
            connection.execute("DROP TABLE bench_lines")
    engine.dispose()
    return Filled(
        definitions=definitions,
        rows=stored,
        jobs=len(watched) + len(others),
        partitions=len(known.all) * len(results.all_table_names()),
        until=end,
        seconds=seconds,
    )


def _days_back(rows: int) -> int:
    """Return how many days there are: those that are usual, fewer where the old ones would be most of the results."""
    per_day = lines.LONG * 288 * (len(results.kinds()) + 5)
    return max(_FEWEST_DAYS, min(DAYS, int(_OLD_SHARE * rows / per_day)))


def _vacuum_rest(connection: psycopg.Connection[Any]) -> None:
    """Vacuum and analyse all tables but the results; of partitioned ones nobody analyses the whole."""
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname NOT LIKE 'result\\_%'"
    ).fetchall()
    for (name,) in rows:
        connection.execute(f"VACUUM (ANALYZE) {name}".encode())


@contextlib.contextmanager
def _at_ease(deployment: Deployment) -> Iterator[None]:
    """Let the server write without care for a crash; it takes care again before anything is measured."""
    url = libpq_url(dataclasses.replace(deployment.settings, database_url=deployment.server.superuser_url()))

    def run(statements: list[str]) -> None:
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    run([*(f"ALTER SYSTEM SET {setting}" for setting in _AT_EASE), "SELECT pg_reload_conf()"])
    yield
    run(["ALTER SYSTEM RESET ALL", "SELECT pg_reload_conf()", "CHECKPOINT"])


@contextlib.contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[name] = round(time.perf_counter() - started, 1)
